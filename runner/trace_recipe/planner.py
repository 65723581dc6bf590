"""Planner: a resolved recipe becomes a Plan. Pure: what is there now comes in through `current`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_recipe.errors import KernelLacksError, Problem
from trace_recipe.plan import COMMAND, RUNNER, HoldFile, MakeInstance, Plan, Scope, SetFile, Step
from trace_recipe.triggers import parse_trigger, read_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trace_recipe.plan import InstanceKind
    from trace_recipe.recipe.model import Recipe
    from trace_recipe.resolver import ResolvedRecipe, ResolvedTracer

__all__ = ["DEFAULT_BUFFER_BYTES", "default_buffer_bytes", "make_plan"]

DEFAULT_BUFFER_BYTES = 8 << 20
"""Per CPU: loses nothing at 5 million events/s on two busy CPUs (formats.md, section 9.1)."""

_MANY_CPUS = 16
_MANY_CPUS_BUFFER_BYTES = 2 << 20
_WATERMARK_PERCENT = 25
_MIN_SUBBUF_KB = 4

# What a new instance shows before anything is written to it.
_FRESH = {
    "tracing_on": "1",
    "trace_clock": "local",
    "current_tracer": "nop",
    "buffer_percent": "50",
    "set_event_pid": "",
    "set_event_notrace_pid": "",
}
# Global whatever instance they are written through: tracefs-state.md, section (a).
_SHARED_FILES = frozenset(
    {"set_graph_function", "set_graph_notrace", "max_graph_depth", "tracing_thresh"}
)
_TRACER_OPTION_PREFIXES = ("func", "funcgraph", "sleep-time", "graph-time", "blk_", "test_nop")


def default_buffer_bytes(cpu_count: int) -> int:
    """Return the size per CPU of a ring buffer for which the recipe names no size."""
    return DEFAULT_BUFFER_BYTES if cpu_count <= _MANY_CPUS else _MANY_CPUS_BUFFER_BYTES


def make_plan(
    resolved: ResolvedRecipe,
    *,
    run_id: str,
    current: Callable[[str], str | None],
    instance_exists: Callable[[str], bool],
) -> Plan:
    """Return the steps of a recipe on the kernel it was resolved against.

    `current` returns what a file under the mount reads now, or None. `run_id` makes the private
    instance's name unguessable. `live_text` asks the kernel to wake the reader for every event.
    Raises KernelLacksError when a control file that a step needs is missing or refused.
    """
    return _Planner(
        resolved, run_id=run_id, current=current, instance_exists=instance_exists
    ).make()


class _Planner:
    def __init__(
        self,
        resolved: ResolvedRecipe,
        *,
        run_id: str,
        current: Callable[[str], str | None],
        instance_exists: Callable[[str], bool],
    ) -> None:
        self.resolved = resolved
        self.recipe: Recipe = resolved.loaded.recipe
        self.current = current
        self.kind, self.instance = _instance(self.recipe, run_id)
        self.is_new = self.kind == "private" or (
            self.kind == "named" and not instance_exists(self.instance)
        )
        self.prefix = f"instances/{self.instance}/" if self.instance else ""
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.problems: list[Problem] = []

    def make(self) -> Plan:
        recipe = self.recipe
        if self.is_new:
            is_asked = "instance" in recipe.model_fields_set
            place = self.resolved.loaded.marks.place(("instance",)) if is_asked else None
            self.steps.append(MakeInstance(self.instance, place))
        self.set("tracing_on", "0", path=())
        self._buffer()
        if recipe.clock:
            self.set("trace_clock", recipe.clock, path=("clock",))
        self._options()
        self._scope()
        self._filters()
        self._tracer()
        for event in self.resolved.events:
            self.set(f"{_event_directory(event.name)}/enable", "1", path=event.path)
        if recipe.buffer.disable_on_free:
            self._hold_buffer()
        self.set("tracing_on", "1", path=(), starts=True, also=self._expanded())
        self._triggers()
        if self.problems:
            raise KernelLacksError(*self.problems)
        self._say_what_is_shared()
        return Plan(
            recipe=recipe.name,
            recipe_path=self.resolved.loaded.path,
            instance_kind=self.kind,
            instance=self.instance,
            steps=tuple(self.steps),
            notes=tuple(self.notes),
            skipped=tuple(self.resolved.skipped),
            events=tuple(event.name for event in self.resolved.events),
            tracer=self.resolved.tracer.name if self.resolved.tracer else "nop",
        )

    # -- one file -----------------------------------------------------------------------------

    def set(
        self,
        name: str,
        after: str,
        *,
        path: tuple[str | int, ...],
        text: str | None = None,
        truncate: bool = False,
        also: Iterable[str] = (),
        starts: bool = False,
    ) -> None:
        """Add the step that makes `name` show `after`, unless it is refused here."""
        shared = name in _SHARED_FILES or self._is_tracer_option(name)
        at_top = name in _SHARED_FILES
        prefix = "" if at_top else self.prefix
        file = f"{prefix}{name}"
        loaded = self.resolved.loaded
        key = _dotted(path)
        if self._refuses(name, key, path):
            return
        is_private = self.kind != "top" and not shared
        if shared and file != name:
            also = (*also, name)  # one word per tracer: the top level shows it too, up to 6.18
        self.steps.append(
            SetFile(
                file=file,
                name=name,
                before=self._before(file, name),
                after=after,
                text=after if text is None else text,
                scope=Scope.PRIVATE if is_private and self.is_new else Scope.SHARED,
                place=loaded.marks.place(path) if path else None,
                key=key,
                truncate=truncate,
                also=tuple(also),
                starts=starts,
            )
        )

    def _before(self, file: str, name: str) -> str | None:
        for step in reversed(self.steps):
            if isinstance(step, SetFile) and step.file == file:
                return step.after
        if self.is_new and file.startswith(self.prefix) and self.prefix:
            if name.startswith("options/"):
                return _stripped(self.current(name))
            if name.endswith("/enable"):
                return "0"
            if name.endswith("/filter"):
                return "none"
            if name.endswith("/trigger"):
                return ""
            return _FRESH.get(name)
        return _stripped(self.current(file))

    def _refuses(self, name: str, key: str, path: tuple[str | int, ...]) -> bool:
        kernel = self.resolved.kernel
        place = self.resolved.loaded.marks.place(path) if path else None
        head = name.split("/", 1)[0]
        refused = kernel.refused.get(name)
        if refused:
            self.problems.append(
                Problem(
                    f"this kernel refuses '{name}' ({refused}), even to root",
                    why="kernel lockdown or a security module closes the function tracing files",
                    fix="leave this key out, or boot without lockdown; `trace-recipe doctor` shows"
                    " what still works",
                    key=key,
                    place=place,
                )
            )
            return True
        if head not in kernel.control_files and head not in {"events", "options", "per_cpu"}:
            self.problems.append(
                Problem(
                    f"this kernel has no control file '{head}'",
                    why=_MISSING.get(head, "it is built without the feature or is too old"),
                    fix="leave this key out, or use a kernel that has the file",
                    key=key,
                    place=place,
                )
            )
            return True
        return False

    def _is_tracer_option(self, name: str) -> bool:
        return name.startswith("options/") and name[8:].startswith(_TRACER_OPTION_PREFIXES)

    # -- subjects -----------------------------------------------------------------------------

    def _buffer(self) -> None:
        buffer = self.recipe.buffer
        if buffer.subbuf is not None:
            size_kb = max(_MIN_SUBBUF_KB, -(-buffer.subbuf // 1024))
            path = ("buffer", "subbuf")
            self.set("buffer_subbuf_size_kb", str(size_kb), path=path, also=self._sizes())
        if buffer.size is not None:
            size_kb = -(-buffer.size // 1024)
            path = ("buffer", "size")
            self.set("buffer_size_kb", str(size_kb), path=path, also=self._sizes())
        elif self.is_new:
            size = default_buffer_bytes(len(self.resolved.kernel.possible_cpus))
            self.set("buffer_size_kb", str(size // 1024), path=())
        watermark = buffer.watermark
        if watermark is None and self.is_new:
            watermark = _WATERMARK_PERCENT
        if watermark is not None and "buffer_percent" in self.resolved.kernel.control_files:
            self.set(
                "buffer_percent",
                str(watermark),
                path=("buffer", "watermark") if buffer.watermark is not None else (),
            )

    def _sizes(self) -> tuple[str, ...]:
        """Return what a write to the size of the ring buffer or of its sub-buffers changes too."""
        if self.is_new:
            return ()
        cpus = self.resolved.kernel.possible_cpus
        names = ("buffer_size_kb", *(f"per_cpu/cpu{cpu}/buffer_size_kb" for cpu in cpus))
        return tuple(f"{self.prefix}{name}" for name in names)

    def _hold_buffer(self) -> None:
        path = ("buffer", "disable_on_free")
        key, place = _dotted(path), self.resolved.loaded.marks.place(path)
        if not self.is_new:
            self.problems.append(
                Problem(
                    f"instance '{self.instance}' is there already",
                    why="at its end the run would empty and shrink a buffer that is not its own",
                    fix="leave this key out, or use a private instance",
                    key=key,
                    place=place,
                )
            )
            return
        self.set("options/disable_on_free", "1", path=path)
        if not self._refuses("free_buffer", key, path):
            self.steps.append(HoldFile(f"{self.prefix}free_buffer", "free_buffer", place, key))

    def _options(self) -> None:
        recipe = self.recipe
        overwrite = "1" if recipe.buffer.mode == "overwrite" else "0"
        path = ("buffer",) if "buffer" in recipe.model_fields_set else ()
        self.set("options/overwrite", overwrite, path=path)
        for option, wanted in recipe.options.items():
            value = "1" if wanted else "0"
            if self.prefix and option in {"record-cmd", "trace_printk", "printk-msg-only"}:
                # Not in an instance's options/: only reachable through its trace_options.
                word = option if wanted else f"no{option}"
                self.set("trace_options", word, path=("options", option))
                continue
            self.set(f"options/{option}", value, path=("options", option))
        if recipe.markers.model_fields_set and "markers" not in recipe.options:
            # A new instance takes this over from the top level, where somebody may have it off.
            self.set("options/markers", "1", path=("markers",))
        if recipe.scope.follow:
            self.set("options/event-fork", "1", path=("scope", "follow"))
            if self._traces_functions() and "function-fork" in self.resolved.kernel.options:
                self.set("options/function-fork", "1", path=("scope", "follow"))

    def _scope(self) -> None:
        scope = self.recipe.scope
        if scope.cpus is not None:
            self.set("tracing_cpumask", _cpumask(scope.cpus), path=("scope", "cpus"))
        pids = [COMMAND if pid == "command" else str(pid) for pid in scope.pids]
        excluded = [str(pid) for pid in scope.exclude_pids]
        if pids:
            self._pids("set_event_pid", pids, path=("scope", "pids"))
            if self._traces_functions():
                self._pids("set_ftrace_pid", pids, path=("scope", "pids"))
        if excluded or not pids:
            path = ("scope", "exclude_pids") if excluded else ()
            if "set_event_notrace_pid" in self.resolved.kernel.control_files:
                self._pids("set_event_notrace_pid", [*excluded, RUNNER], path=path)
            if self._traces_functions() and (
                "set_ftrace_notrace_pid" in self.resolved.kernel.control_files
            ):
                self._pids("set_ftrace_notrace_pid", [*excluded, RUNNER], path=path)

    def _pids(self, name: str, pids: list[str], *, path: tuple[str | int, ...]) -> None:
        # Someone else's list in an existing instance is replaced, and put back afterwards.
        self.set(name, " ".join(pids), text="\n".join(pids) + "\n", truncate=True, path=path)

    def _functions(
        self, name: str, patterns: Iterable[str], *, path: tuple[str | int, ...]
    ) -> None:
        # The last name needs its line end: without it the kernel parses it at close and hides
        # its error.
        text = "".join(f"{pattern}\n" for pattern in patterns)
        self.set(name, " ".join(patterns), text=text, truncate=True, path=path)

    def _filters(self) -> None:
        for event in self.resolved.events:
            if event.filter is not None:
                path = event.filter_path or event.path
                self.set(f"{_event_directory(event.name)}/filter", event.filter, path=path)

    def _triggers(self) -> None:
        # After tracing_on: a trigger fires as soon as it is written, on events that are not
        # recorded yet, and would use up its count (or turn tracing on too early).
        for event in self.resolved.events:
            directory = _event_directory(event.name)
            for number, trigger in enumerate(event.triggers):
                spec = parse_trigger(trigger)
                also = [f"{self.prefix}{directory}/enable"]
                if spec.target:
                    also.append(f"{self.prefix}{_event_directory(spec.target)}/enable")
                self.set(
                    f"{directory}/trigger",
                    read_form(spec),
                    text=trigger,
                    path=event.trigger_paths[number],
                    also=also,
                    starts=True,
                )

    def _tracer(self) -> None:
        tracer = self.resolved.tracer
        only, excluded = self.resolved.functions_only, self.resolved.functions_not
        if only:
            self._functions("set_ftrace_filter", only, path=("functions", "only"))
        if excluded:
            self._functions("set_ftrace_notrace", excluded, path=("functions", "not"))
        if tracer is None:
            return
        path = tracer.path
        for name, functions in (
            ("set_graph_function", tracer.graph_functions),
            ("set_graph_notrace", tracer.graph_notrace),
        ):
            if functions:
                at = (*path, name.replace("set_", "").replace("function", "functions"))
                self._functions(name, functions, path=at)
        if tracer.max_graph_depth is not None:
            depth = str(tracer.max_graph_depth)
            self.set("max_graph_depth", depth, path=(*path, "max_graph_depth"))
        # The tracer comes first: some reset the threshold or bring their options along.
        also = [f"{self.prefix}{name}" for name in ("tracing_max_latency",) if self._has(name)]
        self.set("current_tracer", tracer.name, path=path, also=also)
        if tracer.threshold_us is not None:
            self.set("tracing_thresh", str(tracer.threshold_us), path=(*path, "threshold"))
        for option, wanted in tracer.options.items():
            at = (*path, "options", option)
            self.set(f"options/{option}", "1" if wanted else "0", path=at)

    def _has(self, name: str) -> bool:
        return name in self.resolved.kernel.control_files

    def _traces_functions(self) -> bool:
        tracer: ResolvedTracer | None = self.resolved.tracer
        return tracer is not None and tracer.name in {"function", "function_graph"}

    def _expanded(self) -> tuple[str, ...]:
        # Enabling the first event expands the top level's ring buffer for good: on 6.1 even when
        # it is enabled in an instance (tracefs-state.md, section 12).
        return ("buffer_size_kb",) if "buffer_size_kb" in self.resolved.kernel.control_files else ()

    def _say_what_is_shared(self) -> None:
        if self.kind == "top":
            self.notes.append(
                "the top level is used: events that others have enabled there are recorded too,"
                " and what its buffer holds is consumed"
            )
        shared = [
            step.name
            for step in self.steps
            if isinstance(step, SetFile) and step.scope is Scope.SHARED and self.kind == "private"
        ]
        if shared:
            names = ", ".join(dict.fromkeys(shared))
            self.notes.append(f"shared with everyone while it runs: {names}")


_MISSING: Mapping[str, str] = {
    "buffer_subbuf_size_kb": "sub-buffers of other sizes came with Linux 6.8",
    "set_event_notrace_pid": "excluding pids came with Linux 5.7",
    "set_ftrace_filter": "it is built without CONFIG_DYNAMIC_FTRACE",
    "set_ftrace_notrace": "it is built without CONFIG_DYNAMIC_FTRACE",
    "set_ftrace_pid": "it is built without CONFIG_FUNCTION_TRACER",
    "set_graph_function": "it is built without CONFIG_FUNCTION_GRAPH_TRACER",
    "set_graph_notrace": "it is built without CONFIG_FUNCTION_GRAPH_TRACER",
    "max_graph_depth": "it is built without CONFIG_FUNCTION_GRAPH_TRACER",
}


def _instance(recipe: Recipe, run_id: str) -> tuple[InstanceKind, str]:
    match recipe.instance:
        case "private":
            return "private", f"trace-recipe-{recipe.name[:32]}-{run_id}"
        case "top":
            return "top", ""
        case name:
            return "named", name


def _event_directory(full_name: str) -> str:
    system, _, name = full_name.partition(":")
    return f"events/{system}/{name}"


def _cpumask(cpus: Iterable[int]) -> str:
    """Return the kernel's hex mask: groups of 32 bits, most significant first."""
    mask = sum(1 << cpu for cpu in set(cpus))
    groups: list[int] = []
    while mask or not groups:
        groups.append(mask & 0xFFFFFFFF)
        mask >>= 32
    groups.reverse()
    return ",".join([f"{groups[0]:x}", *(f"{group:08x}" for group in groups[1:])])


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _stripped(text: str | None) -> str | None:
    if text is None:
        return None
    text = text.rstrip("\n")
    if "[" in text and "]" in text and " " in text:  # `local [mono] …` shows the chosen one
        return text[text.index("[") + 1 : text.index("]")]
    return "" if text.startswith("# Available triggers") else text
