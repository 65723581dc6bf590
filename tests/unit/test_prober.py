"""What a kernel shows of the tracers that its instances may use, without making an instance."""

import pytest

from trace_recipe import prober
from trace_recipe.tracefs import Tracefs

EVERY = ("blk", "function_graph", "irqsoff", "function", "nop")
ALLOWED = ("function_graph", "irqsoff", "function", "nop")
WITH_SYMBOL = b"0000000000000000 T allocate_fgraph_ops\n"
WITHOUT_SYMBOL = b"0000000000000000 T allocate_fgraph_ops_too\n0000000000000000 T vfs_read\n"


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Return what is found in a tracefs with these instances, and these symbols in kallsyms."""
    (tmp_path / "instances").mkdir()

    def find(instances=(), symbols=None, *, tracers=EVERY, with_symbols=True):
        for name, files in dict(instances).items():
            (tmp_path / "instances" / name).mkdir()
            for file, text in files.items():
                (tmp_path / "instances" / name / file).write_text(text)
        monkeypatch.setattr(prober, "_KALLSYMS", tmp_path / "kallsyms")
        if symbols is not None:
            (tmp_path / "kallsyms").write_bytes(symbols)
        return prober._instance_tracers(Tracefs(tmp_path), tracers, with_symbols=with_symbols)

    return find


def test_an_instance_that_is_there_lists_them(found):
    instances = {"theirs": {"available_tracers": "function nop\n"}}

    assert found(instances, WITH_SYMBOL) == ("function", "nop")


def test_an_instance_mapped_at_boot_and_one_that_is_going_say_nothing(found):
    instances = {
        "boot": {"available_tracers": "nop\n", "last_boot_info": ""},
        "going": {},
        "theirs": {"available_tracers": "irqsoff function nop\n"},
    }

    assert found(instances) == ("irqsoff", "function", "nop")


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (WITH_SYMBOL, ALLOWED),
        (WITHOUT_SYMBOL, ALLOWED[1:]),
        (b"", None),
        (None, None),
    ],
)
def test_without_an_instance_a_symbol_of_the_kernel_tells_about_function_graph(
    found, symbols, expected
):
    assert found(symbols=symbols) == expected


def test_symbols_are_not_read_where_nobody_asks(found):
    assert found(symbols=WITH_SYMBOL, with_symbols=False) is None


def test_without_function_graph_all_kernels_agree(found):
    tracers = ("blk", "mmiotrace", "function", "nop")

    assert found(symbols=None, tracers=tracers) == ("function", "nop")
