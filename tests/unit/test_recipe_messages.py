"""What a user reads when a recipe is wrong: every problem once, in file order, with a fix."""

import json
from pathlib import Path
from typing import Any

import pytest

from trace_recipe.errors import RecipeError
from trace_recipe.recipe.load import load_recipe
from trace_recipe.recipe.model import RULES, Recipe
from trace_recipe.recipe.parts.event import Trigger

HEAD = "recipe: v1\nname: x\n"
TRACES_NOTHING = (
    "name what to trace, as in 'events: [sched:sched_switch]'; 'trace-recipe list events' shows"
    " what there is"
)
EVENTS = HEAD + "events: [a:b]\n"


def problems(text):
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", text)
    return caught.value.problems


def one(text):
    (problem,) = problems(text)
    return problem


def test_all_problems_come_at_once_in_file_order_and_each_once():
    text = """\
recipe: v1
name: My Recipe
events:
  - event: sched:sched_switch
    fliter: prev_prio < 10
    triggers: [{trigger: stacktrce}]
  - 5
durration: 10s
buffer:
  size: 8MB
  mode: overwrit
run: "make -j8"
outputs: [{text: a, csv: b}, {text: {path: c, nmes: true}}]
delay: 3
"""
    found = [(p.place.line, p.place.column, p.key, p.fix) for p in problems(text)]

    assert found == [
        (2, 7, "name", "write 'my-recipe'"),
        (5, 5, "events[0].fliter", "did you mean 'filter'?"),
        (6, 26, "events[0].triggers[0].trigger", "did you mean 'stacktrace'?"),
        (7, 5, "events[1]", "write it as the schema has it: trace-recipe schema"),
        (8, 1, "durration", "did you mean 'duration'?"),
        (10, 9, "buffer.size", "write '8M'"),
        (11, 9, "buffer.mode", "did you mean 'overwrite'?"),
        (12, 6, "run", "write it as a list: run: {command: [make, -j8]}"),
        (13, 11, "outputs[0]", "make each of them an entry of its own: - text: trace.txt"),
        (13, 47, "outputs[1].text.nmes", "did you mean 'names'?"),
        (14, 8, "delay", "write a unit: 3s"),
    ]


def test_a_message_has_place_key_line_caret_why_and_fix():
    assert one(EVENTS + "clokc: boot\n").lines()[:3] == [
        "r.yaml:4:1: error: clokc: unknown key 'clokc'",
        "    | clokc: boot",
        "    | ^",
    ]


@pytest.mark.parametrize(
    ("text", "place", "what", "fix"),
    [
        ("name: x\nevents: [a:b]\n", "1:1", "the key 'recipe' is missing", "start the file with 'recipe: v1'"),
        ("recipe: v1\nevents: [a:b]\n", "1:1", "the key 'name' is missing", "add 'name: my-recipe'"),
        ("recipe: v2\nname: x\nevents: [a:b]\n", "1:9", "must be 'v1', not 'v2'", "write 'recipe: v1'"),
        ("recipe: 1\nname: x\nevents: [a:b]\n", "1:9", "must be 'v1', not the number 1", "write 'recipe: v1'"),
        (HEAD, "1:1", "the recipe traces nothing", TRACES_NOTHING),
        (HEAD + "tracer: nop\n", "3:9", "the recipe traces nothing", TRACES_NOTHING),
        (HEAD + "events: []\n", "3:9", "the recipe traces nothing", TRACES_NOTHING),
        (HEAD + "event: [a:b]\n", "3:1", "unknown key 'event'", "did you mean 'events'?"),
        (HEAD + "events: a:b\n", "3:9", "must be a list, not 'a:b'", 'write it as a list: ["a:b"]'),
        (HEAD + "events: {event: a:b}\n", "3:9", "must be a list, not a mapping", "write '- ' in front of each entry"),
        (HEAD + "events:\n", "3:8", "the key has no value", "give it one, or take the key out"),
        (HEAD + "events: [a:b, '']\n", "3:15", "must be the name of an event, not empty text", "fill it in, or take it out"),
        (HEAD + "events: [{evnt: a:b}]\n", "3:11", "unknown key 'evnt'", "did you mean 'event'?"),
        (HEAD + "events: [{filter: x}]\n", "3:10", "the key 'event' is missing", "add 'event: ...'"),
        (HEAD + "events: [{any_of: []}]\n", "3:19", "the list is empty", "add an entry, or take the key out"),
        (HEAD + "events: [{any_of: [a:b], event: a:b}]\n", "3:26", "unknown key 'event'", "write it inside the alternatives: any_of: [{...}]"),
        (HEAD + "events: ['!a:b']\n", "3:10", "the first entry takes events out, but there are none yet", "move it behind the entry that it corrects"),
        (HEAD + "events: [a:*, {event: '!a:b', filter: x}]\n", "3:39", "an event that is taken out has no filter, triggers or optional", "take the key out, or the '!'"),
        (HEAD + "events: [{any_of: ['!a:b']}]\n", "3:20", "an alternative cannot take events out", "write it as an entry of its own in 'events'"),
        (HEAD + "events: [{event: a:b, triggers: [{trigger: enable_event}]}]\n", "3:34", "this trigger needs the event that it switches", "add 'event: system:name'"),
        (HEAD + "events: [{event: a:b, triggers: [{trigger: traceon, event: a:b}]}]\n", "3:60", "this trigger switches no other event", "take 'event' out"),
        (HEAD + "events: [{event: a:b, triggers: [{trigger: traceon, count: 0}]}]\n", "3:60", "0 is too small", "write 1 or more"),
        (HEAD + "events: [{event: a:b, optional: yes}]\n", "3:33", "must be true or false, not 'yes'", "write true"),
        (HEAD + "events: [{event: a:b, filter: ''}]\n", "3:31", "must be a filter, not empty text", "fill it in, or take it out"),
        (EVENTS + "filters: x\n", "4:1", "unknown key 'filters'", "write it as filter, inside an entry of events: {event: system:name, filter: ...}"),
        (EVENTS + "pids: [1]\n", "4:1", "unknown key 'pids'", "write it as scope: {pids: [...]}"),
        (EVENTS + "watermark: 5\n", "4:1", "unknown key 'watermark'", "it belongs into 'buffer'"),
        (EVENTS + "set_ftrace_filter: x\n", "4:1", "unknown key 'set_ftrace_filter'", "write it as functions: {only: [...]}"),
        (EVENTS + "buffer: {clock: x}\n", "4:10", "unknown key 'clock'", "it belongs into the top level of the recipe"),
        (EVENTS + "qqq: x\n", "4:1", "unknown key 'qqq'", "take it out"),
        (EVENTS + "duration: 10\n", "4:11", "the duration 10 has no unit", "write a unit: 10s"),
        (EVENTS + "duration: 0s\n", "4:11", "'0s' is no time at all", "write at least 1ms"),
        (EVENTS + "duration: 9999h\n", "4:11", "'9999h' is too long", "leave the key out to record until it is stopped"),
        (EVENTS + "run: {command: make -j8 'a b'}\n", "4:16", "must be a list, not \"make -j8 'a b'\"", 'write it as a list: command: [make, -j8, "a b"]'),
        (EVENTS + "run: {command: []}\n", "4:16", "the list is empty", "add an entry, or take the key out"),
        (EVENTS + "run: {command: ['']}\n", "4:17", "the program of the command has no name", "write the program first, as in command: [make, -j8]"),
        (EVENTS + "run: {command: [sleep, 5]}\n", "4:24", "must be an argument of a command, not the number 5", 'put it in quotes: "5"'),
        (EVENTS + "run: {command: [x], environment: {1A: x}}\n", "4:35", "'1A' is not the name of an environment variable", "write '_1A'"),
        (EVENTS + "run: {command: [x], directory: ''}\n", "4:32", "must be a path, not empty text", "fill it in, or take it out"),
        (EVENTS + "buffer: 8M\n", "4:9", "must be a mapping, not '8M'", "write it as buffer: {size: 8M}"),
        (EVENTS + "buffer: {watermark: 101}\n", "4:21", "101 is too large", "write a number from 0 to 100"),
        (EVENTS + "instance: top\nbuffer: {disable_on_free: true}\n", "5:27", "the top level's buffer is not held: it is everybody's", "take 'disable_on_free' out, or take 'instance: top' out"),
        (EVENTS + "buffer: {size: 0}\n", "4:16", "0 is not a size", "write it as 8M"),
        (EVENTS + "buffer: {size: 2097152G}\n", "4:16", "'2097152G' is too large", "write a smaller size"),
        (EVENTS + "options: [stacktrace]\n", "4:10", "must be a mapping, not a list", "write it as options: {name: true}"),
        (EVENTS + "options: {stacktrace: on}\n", "4:23", "must be true or false, not 'on'", "write true"),
        (EVENTS + "options: {Stack: true}\n", "4:11", "'Stack' is not the name of an option", "write it as options/ shows it, as in sym-addr: true or false"),
        (EVENTS + "scope: {pids: 5}\n", "4:15", "must be a list, not the number 5", "write it as a list: [5]"),
        (EVENTS + "scope: {pids: [0]}\n", "4:16", "the number 0 is not a pid", "write a pid or 'command'"),
        (EVENTS + "scope: {pids: [comand]}\n", "4:16", "'comand' is not a pid", "did you mean 'command'?"),
        (EVENTS + "scope: {pids: [command]}\n", "4:16", "there is no command: 'run' is missing", "add 'run: {command: [...]}', or give a pid"),
        (EVENTS + "scope: {follow: true}\n", "4:17", "there is no task whose children could be followed", "add 'pids', as in pids: [command]"),
        (EVENTS + "scope: {pids: [1, 2], exclude_pids: [2]}\n", "4:38", "the same task is wanted and excluded", "take it out of one of the lists"),
        (EVENTS + "scope: {cpus: 3-0}\n", "4:15", "the range '3-0' goes backwards", "write '0-3'"),
        (EVENTS + "scope: {cpus: [0-3]}\n", "4:15", "'0-3' is not a CPU", "write cpus: '0-3,7' or cpus: [0, 1, 7]"),
        (EVENTS + "functions: {only: [a]}\n", "4:12", "without a tracer no functions are traced", "add 'tracer: function' or 'tracer: function_graph'"),
        (EVENTS + "tracer: function\nfunctions: {}\n", "5:12", "no functions are named", "write 'only', 'not' or 'module', or take the key out"),
        (EVENTS + "tracer: [function]\n", "4:9", "must be text or a mapping, not a list", "write it without the brackets: function"),
        (EVENTS + "tracer: {name: irqsoff, threshold: 500ns}\n", "4:36", "'500ns' is finer than the kernel measures", "write 1us"),
        (EVENTS + "tracer: {any_of: [{evnts: [a:b]}]}\n", "4:20", "unknown key 'evnts'", "did you mean 'events'?"),
        (EVENTS + "markers: {command_exit: x}\n", "4:25", "there is no command whose start or end could be marked: 'run' is missing", "add 'run: {command: [...]}', or use 'start' and 'stop'"),
        (EVENTS + 'markers: {start: "a\\nb"}\n', "4:18", "'a\\nb' is not the text of a marker", "write it in one line: 'a b'"),
        (EVENTS + f"markers: {{start: '{'é' * 501}'}}\n", "4:18", "is too long for the text of a marker: 1002 bytes", "make it shorter"),
        (EVENTS + "stop: {}\n", "4:7", "it does not say when to stop", "write 'events: 100000' or 'bytes: 1G' below it, or take the key out"),
        (EVENTS + "loss: 0\n", "4:7", "must be a mapping, not the number 0", "write it as loss: {max: 0}"),
        (EVENTS + "loss: {action: fail}\n", "4:16", "it does not say how many lost events are too many", "add 'max: 0'"),
        (EVENTS + "outputs: [trace.txt]\n", "4:11", "must be a mapping, not 'trace.txt'", "say in which form: text: trace.txt"),
        (EVENTS + "outputs: [{}]\n", "4:11", "an output has exactly one of text, jsonl, csv and trace-dat", "make each of them an entry of its own: - text: trace.txt"),
        (EVENTS + "outputs: [{txt: a}]\n", "4:12", "unknown key 'txt'", "did you mean 'text'?"),
        (EVENTS + "outputs: [{trace_dat: a}]\n", "4:12", "unknown key 'trace_dat'", "did you mean 'trace-dat'?"),
        (EVENTS + "outputs: [{trace-dat: '-'}]\n", "4:23", "'-' is not the path of a file", "name a file"),
        (EVENTS + "outputs: [{text: '-'}, {jsonl: '-'}]\n", "4:24", "two outputs go to standard output", "name a file for one of them"),
        (EVENTS + "outputs: [{text: a}, {csv: a}]\n", "4:22", "two outputs write the same file", "name another file"),
        (EVENTS + "outputs: [{csv: {path: '-', readable_by: group}}]\n", "4:42", "standard output is no file whose readers could be chosen", "take the key out, or name a file"),
        (EVENTS + "outputs: [{csv: {path: '-', layout: per-event}}]\n", "4:24", "one file per event cannot go to standard output", "name a directory, or write layout: wide"),
        (EVENTS + "outputs: [{trace-dat: {path: a, version: 5}}]\n", "4:42", "must be 7 or 6, not the number 5", "write 7 or 6"),
        (EVENTS + "outputs: [{trace-dat: {path: a, version: 6, compression: zstd}}]\n", "4:58", "version 6 of trace.dat knows no compression", "take 'compression' out, or write version: 7"),
        (EVENTS + 'outputs: [{text: "a\\tb"}]\n', "4:18", "'a\\tb' is not a path", "write it in one line: 'a b'"),
        (EVENTS + "instance: a/b\n", "4:11", "'a/b' is not an instance", "write private, top or a name"),
        (EVENTS + "clock: [boot]\n", "4:8", "must be a name that the kernel could have, not a list", "write it without the brackets: boot"),
        (EVENTS + "tags: [A B]\n", "4:8", "'A B' is not a tag", "write 'a-b'"),
        (EVENTS + "links: [ftp://x]\n", "4:9", "'ftp://x' is not a link", "write it as https://example.org/page"),
        (EVENTS + "requires: {tracer: [x]}\n", "4:12", "unknown key 'tracer'", "did you mean 'tracers'?"),
        (EVENTS + "owner: 1.5\n", "4:8", "must be one line of text, not the number 1.5", 'put it in quotes: "1.5"'),
        (EVENTS + "params: {x y: {type: int, default: 1}}\n", "4:10", "'x y' is not the name of a parameter", "write 'x_y'"),
    ],
)  # fmt: skip
def test_each_mistake_has_one_message_with_place_and_fix(text, place, what, fix):
    problem = one(text)

    assert problem.what == what
    assert problem.fix == fix
    assert f"{problem.place.line}:{problem.place.column}" == place


def test_every_rule_between_keys_is_met_by_a_test_above():
    text = Path(__file__).read_text()

    for rule in RULES.values():
        assert rule.what in text or rule.name in {
            "choice_without_choices",
            "choices_without_choice",
            "bounds_without_number",
        }


def test_a_rule_and_a_wrong_value_elsewhere_are_told_together():
    found = problems(EVENTS + "scope: {follow: true}\nduration: 5\nloss: {action: fail}\n")

    assert [p.key for p in found] == ["scope.follow", "duration", "loss.action"]


def test_no_message_is_the_words_of_a_library():
    text = EVENTS + "x: 1\nbuffer: {size: {}, mode: [], watermark: x}\nrun: {}\noutputs: [[]]\n"

    for problem in problems(text):
        words = json.dumps(problem.as_json())
        for theirs in ("input", "schema refuses", "models refuse", "is not of type", "$defs", "^["):
            assert theirs not in words.lower()


def test_text_from_the_recipe_cannot_drive_the_terminal():
    found = problems(EVENTS + '"a\\e[31mb": 1\nclock: "\\e[2J"\n')

    for problem in found:
        assert all(line.isprintable() for line in problem.lines())
        assert "\x1b" not in problem.what


def test_short_forms_and_long_forms_mean_the_same():
    short = {
        "recipe": "v1",
        "name": "x",
        "events": ["a:b"],
        "tracer": "function",
        "outputs": [{"text": "t"}],
    }
    long = {
        "recipe": "v1",
        "name": "x",
        "events": [{"event": "a:b"}],
        "tracer": {"name": "function"},
        "outputs": [{"text": {"path": "t"}}],
    }

    assert Recipe.model_validate_json(json.dumps(short)) == Recipe.model_validate_json(
        json.dumps(long)
    )


def test_a_trigger_written_as_text_keeps_its_text():
    trigger = Trigger.model_validate_json('"stacktrace:5 if prev_prio < 10"')

    assert (trigger.trigger, trigger.text) == ("stacktrace", "stacktrace:5 if prev_prio < 10")
    assert Trigger.model_validate_json('{"trigger": "traceon", "if": "a"}').text is None
    assert trigger != Trigger.model_validate_json('"stacktrace"')


def test_a_complete_recipe_loads_into_whole_numbers():
    text = """\
recipe: v1
name: full
description: |
  Two
  lines.
tags: [a, b-c]
links: ["https://example.org/x?y#z"]
owner: me
requires: {events: [a:b], tracers: [function], options: [event-fork], clocks: [boot], triggers: [hist], files: [set_event_pid]}
events:
  - sched:sched_{switch,waking}
  - "!sched:sched_waking"
  - {event: a:b, filter: x > 1, optional: true, triggers: ["stacktrace:5 if x", {trigger: enable_event, event: c:d, count: 3, if: x}]}
  - {any_of: [e:f, {event: g:h, filter: y}], optional: true}
tracer: {any_of: [{name: irqsoff, threshold: 100us, options: {a: true}}, {events: [p:q]}]}
functions: {only: [vfs_*], not: [x], module: ext4}
scope: {pids: [command, 5], exclude_pids: [6], follow: true, cpus: "0-1,3"}
options: {stacktrace: true}
clock: x86-tsc
buffer: {size: 8M, subbuf: 16K, mode: discard, watermark: 50}
instance: mine
markers: {start: a, stop: b, command_start: c, command_exit: d}
duration: 1m30s
delay: 250ms
run: {command: [make, -j8], as_user: root, environment: {A: ""}, directory: /, timeout: 1h}
stop: {events: 10, bytes: 1G}
loss: {max: 0, action: fail}
outputs: [{text: "-"}, {jsonl: {path: x, names: true}}, {csv: {path: y, layout: per-event}}, {trace-dat: {path: z, version: 6}}]
"""
    recipe: Any = load_recipe("r.yaml", text).recipe

    assert recipe.duration == 90 * 10**9
    assert recipe.delay == 250 * 10**6
    assert recipe.run.timeout == 3600 * 10**9
    assert (recipe.buffer.size, recipe.buffer.subbuf) == (8 << 20, 16 << 10)
    assert recipe.scope.cpus == (0, 1, 3)
    assert recipe.scope.pids == ("command", 5)
    assert recipe.tracer.any_of[0].threshold == 100_000
    assert [output.sink for output in recipe.outputs] == ["text", "jsonl", "csv", "trace-dat"]
    assert recipe.outputs[1].spec.names is True
    assert recipe.events[2].triggers[1].if_ == "x"
    assert recipe.functions.not_ == ("x",)


def test_a_recipe_cannot_be_changed():
    recipe: Any = load_recipe("r.yaml", EVENTS).recipe

    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "y"
