"""Triggers: what is read, what is written, what the kernel shows, and what is refused."""

import json
from pathlib import Path

import pytest

from trace_recipe.filters import Comparison
from trace_recipe.kernel import kernel_from_json
from trace_recipe.triggers import (
    TriggerSyntaxError,
    check_trigger,
    check_trigger_set,
    missing_for_trigger,
    parse_trigger,
    read_form,
    render_trigger,
)

KERNELS = Path(__file__).parents[1] / "golden" / "kernels"


def load_kernel(name):
    return kernel_from_json(json.loads((KERNELS / f"{name}.json").read_text()), origin=name)


LOCKED, RICH = load_kernel("locked-6.18"), load_kernel("rich-6.12")


@pytest.mark.parametrize(
    ("text", "written", "shown"),
    [
        ("stacktrace", "stacktrace", "stacktrace:unlimited"),
        ("stacktrace:5", "stacktrace:5", "stacktrace:count=5"),
        ("traceoff if a == 1", "traceoff if a == 1", "traceoff:unlimited if a == 1"),
        ("traceon:3 if a == 1", "traceon:3 if a == 1", "traceon:count=3 if a == 1"),
        ("snapshot:1  if  a == 1", "snapshot:1 if a == 1", "snapshot:count=1 if a == 1"),
        (
            "enable_event:irq:irq_handler_entry:3 if a > 1",
            "enable_event:irq:irq_handler_entry:3 if a > 1",
            "enable_event:irq:irq_handler_entry:count=3 if a > 1",
        ),
        (
            "disable_event:kmem:kfree",
            "disable_event:kmem:kfree",
            "disable_event:kmem:kfree:unlimited",
        ),
    ],
)
def test_a_trigger_is_written_and_shown_in_the_kernels_forms(text, written, shown):
    spec = parse_trigger(text)

    assert (render_trigger(spec), read_form(spec)) == (written, shown)


def test_what_is_written_is_read_again_as_the_same_trigger():
    text = "enable_event:irq:irq_handler_entry:3 if prev_pid == 1 && prev_comm ~ 'a*'"

    assert render_trigger(parse_trigger(render_trigger(parse_trigger(text)))) == text


def test_the_parts_of_a_trigger_know_their_offsets():
    text = "enable_event:irq:irq_handler_entry:3 if prev_pid == 1"
    spec = parse_trigger(text)

    assert (spec.name, spec.target, spec.count) == ("enable_event", "irq:irq_handler_entry", 3)
    assert text[spec.target_offset :].startswith("irq:irq")
    assert text[spec.count_offset :].startswith("3 if")
    assert text[spec.filter_offset :] == spec.filter_text == "prev_pid == 1"
    assert isinstance(spec.filter, Comparison)


@pytest.mark.parametrize(
    ("text", "offset", "what", "fix"),
    [
        ("", 0, "empty trigger", ""),
        ("!stacktrace", 0, "'!'", "remove"),
        ("stacktrace\n", 10, "one line", ""),
        ("stacktraceé", 10, "character", ""),
        (" stacktrace", 0, "not a trigger", "NAME"),
        ("stacktrac", 0, "no trigger 'stacktrac'", "'stacktrace'"),
        (":5", 0, "without a name", ""),
        ("hist:keys=pid", 0, "'hist' is not part of recipes", "count in a report"),
        ("enable_hist:a:b", 0, "'enable_hist' is not part", ""),
        ("stacktrace:010", 11, "octal", "write 10"),
        ("stacktrace:0", 11, "never fires", "write stacktrace"),
        ("stacktrace:-1", 11, "'-1' is not 1 to", ""),
        ("stacktrace:0x5", 11, "takes a count", ""),
        ("stacktrace:9999999999", 11, "is not 1 to 999999999", ""),
        ("stacktrace:", 11, "count ''", ""),
        ("stacktrace:5:5", 13, "after the count", "remove"),
        ("stacktrace:5x", 11, "takes a count, not '5x'", ""),
        ("stacktrace 5", 11, "not a trigger", ""),
        ("stacktrace if", 13, "'if' without a filter", ""),
        ("stacktrace:5if a == 1", 15, "not a trigger", ""),
        ("stacktrace if a = 1", 16, "'='", "'=='"),
        ("stacktrace:5 if a == 1 &&", 25, "filter ends", ""),
        ("enable_event", 12, "without the event", "enable_event:SYSTEM:EVENT"),
        ("enable_event:irq", 13, "without the event", ""),
        ("enable_event:irq:*", 13, "without the event", ""),
        ("enable_event:irq:irq_handler_entry:x", 35, "'x' is not 1 to", ""),
    ],
)
def test_a_wrong_trigger_is_refused_where_it_is_wrong(text, offset, what, fix):
    with pytest.raises(TriggerSyntaxError) as caught:
        parse_trigger(text)

    assert caught.value.offset == offset
    assert what in caught.value.problem.what + caught.value.problem.why
    assert fix in caught.value.problem.fix


def test_the_filter_of_a_trigger_is_checked_at_its_offset():
    event = RICH.event_format("sched:sched_switch")
    [(offset, problem)] = check_trigger(
        parse_trigger("stacktrace:5 if prev_prio < 10 && prev_pio == 1"), event, RICH
    )

    assert offset == len("stacktrace:5 if prev_prio < 10 && ")
    assert "no field 'prev_pio'" in problem.what
    assert check_trigger(parse_trigger("stacktrace"), event, RICH) == []


def test_a_kernel_lacks_triggers_and_targets():
    assert missing_for_trigger(parse_trigger("snapshot"), RICH) == []
    [(offset, problem)] = missing_for_trigger(parse_trigger("snapshot"), LOCKED)
    assert offset == 0
    assert "no trigger 'snapshot'" in problem.what
    assert "stacktrace" in problem.why

    [(offset, problem)] = missing_for_trigger(parse_trigger("enable_event:irq:irq_handler"), LOCKED)
    assert offset == len("enable_event:")
    assert "'irq:irq_handler_entry'" in problem.fix


@pytest.mark.parametrize(
    ("texts", "excluded"),
    [
        (["traceon", "traceoff"], [1]),
        (["stacktrace:5", "stacktrace"], [1]),
        (["enable_event:irq:a", "disable_event:irq:a", "disable_event:irq:b"], [1]),
        (["traceoff", "stacktrace", "snapshot", "enable_event:irq:a"], []),
    ],
)
def test_an_event_takes_one_trigger_of_each_kind(texts, excluded):
    found = check_trigger_set([parse_trigger(text) for text in texts])

    assert [index for index, _ in found] == excluded
