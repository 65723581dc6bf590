"""Explained events: the C struct is compiled and its offsets compared with the format files."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.requirements import need_command
from trace_recipe.explainer import c_struct, explain_event, explanation_to_json, trace_cmd_line
from trace_recipe.formats import parse_event_format
from trace_recipe.tracefs import FormatTexts, Tracefs

FORMATS = Path(__file__).parent.parent / "golden" / "formats"
COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
)


def event(fields: str, *, name: str = "made", system: str = "test"):
    return parse_event_format(
        f'name: {name}\nID: 7\nformat:\n{COMMON}{fields}\nprint fmt: "x"\n', system
    )


def field(declaration: str, offset: int, size: int, *, signed: int = 0) -> str:
    return f"\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"


def golden(full_name: str):
    system, _, name = full_name.partition(":")
    return parse_event_format((FORMATS / f"{system}.{name}.format").read_text(), system)


def compiled_offsets(events, directory: Path) -> list[tuple[int, ...]]:
    """Compile the structs and return (offset, size) of every member that a format file names."""
    structs, prints = [], []
    for number, one in enumerate(events):
        text = c_struct(one)
        tag = f"event{number}"
        structs.append(re.sub(r"^struct \w+", f"struct {tag}", text, count=1))
        for member in one.all_fields:
            size = f"sizeof(((struct {tag} *)0)->{member.name})" if member.size else "0"
            prints.append(
                f'printf("%zu %zu\\n", offsetof(struct {tag}, {member.name}), (size_t){size});'
            )
    source = directory / "structs.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n"
        + "\n".join(structs)
        + "\nint main(void) {\n"
        + "\n".join(prints)
        + "\nreturn 0; }\n"
    )
    gcc = need_command("gcc")
    flags = ["-std=c11", "-Wall", "-Werror"]
    subprocess.run([gcc, *flags, "-o", directory / "structs", source], check=True)
    done = subprocess.run([directory / "structs"], check=True, capture_output=True, text=True)
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def expected_offsets(events) -> list[tuple[int, ...]]:
    return [(one.offset, one.size) for event_ in events for one in event_.all_fields]


def test_every_golden_struct_compiles_with_the_offsets_and_sizes_of_its_format_file(tmp_path):
    events = [golden(path.stem.replace(".", ":", 1)) for path in sorted(FORMATS.glob("*.format"))]

    assert len(events) > 10
    assert compiled_offsets(events, tmp_path) == expected_offsets(events)


@pytest.mark.tracefs
def test_every_struct_of_the_running_kernel_compiles_with_the_right_offsets(tmp_path):
    texts = FormatTexts(Tracefs())
    events = [parse_event_format(texts[name], name.partition(":")[0]) for name in texts]

    assert len(events) > 30
    assert compiled_offsets(events, tmp_path) == expected_offsets(events)


def test_a_field_where_its_type_could_not_lie_makes_the_struct_packed(tmp_path):
    one = event(field("u64 stamp", 12, 8) + field("char state", 20, 1))

    assert c_struct(one).endswith("} __attribute__((packed));")
    assert compiled_offsets([one], tmp_path) == expected_offsets([one])


def test_a_struct_that_needs_no_packing_is_not_packed():
    assert c_struct(golden("sched:sched_switch")).endswith("\n};")


def test_holes_are_members_of_their_own():
    text = c_struct(event(field("char state", 8, 1) + field("u64 stamp", 16, 8)))

    assert "uint8_t pad_9[7];" in text
    assert "uint8_t pad_2[2];" in text  # between the common fields of this event


def test_a_hole_of_one_byte_between_bytes_is_kept(tmp_path):
    one = event(field("char a", 8, 1) + field("char b", 10, 1))

    assert compiled_offsets([one], tmp_path) == expected_offsets([one])


def test_a_data_loc_is_a_u32_with_a_comment():
    text = c_struct(golden("irq:irq_handler_entry"))

    assert re.search(r"uint32_t name; +/\* +12: __data_loc char\[\] name: length << 16", text)


def test_a_rel_loc_says_where_its_offset_counts_from():
    text = c_struct(event(field("__rel_loc char[] path", 8, 4)))

    assert "offset from the end of this member" in text


def test_an_array_without_a_size_is_a_flexible_member():
    assert "char buf[];" in c_struct(golden("ftrace:print"))


def test_fields_on_the_same_bytes_leave_one_member_and_a_remark(tmp_path):
    one = event(field("u64 whole", 8, 8) + field("u32 half", 12, 4) + field("u32 next", 16, 4))
    text = c_struct(one)

    assert "12: u32 half, shares its bytes" in text
    assert "uint32_t half" not in text
    assert "uint32_t next;" in text


def test_a_c_keyword_and_a_name_used_twice_become_other_names():
    text = c_struct(
        event(field("int default", 8, 4) + field("int default_", 12, 4) + field("int a", 16, 4))
    )

    assert re.search(r"\bdefault_;", text)
    assert re.search(r"\bdefault__;", text)
    assert re.search(r"\ba;", text)


def test_a_declaration_cannot_end_the_comment_it_stands_in():
    text = c_struct(event(field("struct x */ int a", 8, 4)))

    assert "struct x * / int a" in text
    assert text.count("*/") == text.count("/*")


def test_a_system_that_is_no_c_name_gives_a_struct_name_that_is():
    one = event(field("int a", 8, 4), system="my-probes", name="do.it")

    assert c_struct(one).startswith("struct my_probes_do_it {\n")


@pytest.mark.parametrize(
    ("full_name", "line"),
    [
        ("sched:sched_switch", "trace-cmd record -e sched:sched_switch"),
        ("syscalls:sys_enter_mount", "trace-cmd record -e syscalls:sys_enter_mount"),
        ("ftrace:kernel_stack", "trace-cmd record -T -e sched:sched_switch"),
        ("ftrace:print", "trace-cmd record -p nop"),
    ],
)
def test_the_trace_cmd_line_enables_the_event_or_the_tracer_that_writes_it(full_name, line):
    assert trace_cmd_line(golden(full_name)) == line


def test_the_lines_name_every_field_with_offset_size_and_sign():
    lines = explain_event(golden("sched:sched_switch")).lines()

    rows = [line.split(maxsplit=4) for line in lines]
    assert ["32", "8", "signed", "prev_state", "long"] in rows
    assert ["8", "16", "-", "prev_comm", "char[16]"] in rows
    assert ["2", "1", "unsigned", "common_flags", "unsigned char"] in rows
    assert lines[0].startswith("sched:sched_switch  (ID ")


def test_dynamic_fields_are_explained_only_where_there_are_some():
    assert any(
        "length << 16" in line for line in explain_event(golden("irq:irq_handler_entry")).lines()
    )
    assert not any("<< 16" in line for line in explain_event(event(field("int a", 8, 4))).lines())


def test_the_json_has_the_same_parts():
    data = explanation_to_json(explain_event(golden("irq:irq_handler_entry")))

    assert data["event"] == "irq:irq_handler_entry"
    assert data["fields"][-1] == {
        "name": "name",
        "type": "char",
        "declaration": "__data_loc char[] name",
        "offset": 12,
        "size": 4,
        "signed": data["fields"][-1]["signed"],
        "kind": "data_loc",
        "element_size": 1,
        "length": 0,
        "is_string": True,
        "common": False,
    }
    assert data["fields"][0]["common"] is True
    assert data["c_struct"].startswith("struct irq_irq_handler_entry {")
    assert data["trace_cmd"].endswith("irq:irq_handler_entry")
    assert "name=%s" in data["print_fmt"]
