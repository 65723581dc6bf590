"""formats: what is no format file is a FormatError, whatever is wrong with it."""

import pytest

from tests.trace_dat_cases import format_text
from trace_recipe.formats import FormatError, parse_event_format, parse_header_page

TEXT = format_text("number", 7)
DIGITS = "9" * 5000  # more than int() takes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ID: 7", "ID: seven"), ("ID: 7", ""), ("name: number", ""), ("ID: 7", f"ID: {DIGITS}"),
        ("\tsize:4;", ""), ("\toffset:8;", "\toffset:x;"), ("int value", "value"),
        ("\toffset:8;", f"\toffset:{DIGITS};"), ("\tsize:4;\tsigned:1", f"\tsize:{DIGITS};\tsigned:1"),
        ("signed:1", f"signed:{DIGITS}"), ("\toffset:8;", "\toffset:-8;"),
        ("\toffset:8;", "\toffset:99999999;"), ("char common_flags;", "char common_flags[];"),
        ("common_flags;\toffset:2;\tsize:1;", "common_flags;\toffset:2;\tsize:128;"),
        ("int value", "__data_loc char[] common_pid"),
    ],
)  # fmt: skip
def test_a_damaged_format_is_one_error(old, new):
    assert parse_event_format(TEXT, "sample").name == "number"
    assert old in TEXT

    with pytest.raises(FormatError):
        parse_event_format(TEXT.replace(old, new), "sample")


@pytest.mark.parametrize("text", ["", TEXT, "\tfield: char data;\toffset:16;\tsize:4080;\n"])
def test_a_header_page_without_commit_or_data_is_an_error(text):
    with pytest.raises(FormatError):
        parse_header_page(text)


def test_of_two_fields_with_one_name_each_keeps_its_bytes():
    line = "\tfield:int value;\toffset:8;\tsize:4;\tsigned:1;\n"
    assert line in TEXT
    other = "\tfield:__data_loc char[] value;\toffset:12;\tsize:4;\tsigned:0;\n"
    common = "\tfield:int common_pid;\toffset:16;\tsize:4;\tsigned:1;\n"
    event = parse_event_format(TEXT.replace(line, line + other + line + common), "synthetic")

    assert [(one.name, one.offset) for one in event.fields] == [
        ("value", 8), ("value_2", 12), ("value_3", 8), ("common_pid_2", 16),
    ]  # fmt: skip
    found = event.find("common_pid")
    assert found is not None
    assert found.offset == 4
