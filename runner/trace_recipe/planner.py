"""Planner: a resolved recipe becomes a Plan. Pure: what is there now comes in through `current`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trace_recipe.buffer_sizes import default_buffer_bytes, shown_size_kb, shown_subbuf_kb
from trace_recipe.errors import KernelLacksError, Problem
from trace_recipe.mistakes import file_problem, top_level_tracer
from trace_recipe.plan import (
    COMMAND,
    PRIVATE_PREFIX,
    RUNNER,
    HoldFile,
    MakeInstance,
    Plan,
    Scope,
    SetFile,
    Step,
)
from trace_recipe.plan_notes import notes_of
from trace_recipe.present import Present
from trace_recipe.tracers import (
    LATENCY_TRACERS,
    PID_TRACERS,
    TOP_LEVEL_OPTIONS,
    WHOLE_CPU_TRACERS,
    is_own_option,
)
from trace_recipe.triggers import parse_trigger, read_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trace_recipe.plan import InstanceKind
    from trace_recipe.recipe.model import Recipe
    from trace_recipe.resolver import ResolvedRecipe
    from trace_recipe.tracer_checks import ResolvedTracer

__all__ = ["make_plan"]

_WATERMARK_PERCENT = 25

# Global whatever instance they are written through: tracefs-state.md, section (a).
_SHARED_FILES = frozenset(
    {"set_graph_function", "set_graph_notrace", "max_graph_depth", "tracing_thresh"}
)


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
        self.kind, self.instance = _instance(self.recipe, run_id)
        self.is_new = self.kind == "private" or (
            self.kind == "named" and not instance_exists(self.instance)
        )
        self.prefix = f"instances/{self.instance}/" if self.instance else ""
        self.present = Present(current, self.prefix, self.is_new)
        self.steps: list[Step] = []
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
            raise KernelLacksError(*dict.fromkeys(self.problems))
        return Plan(
            recipe=recipe.name,
            recipe_path=self.resolved.loaded.path,
            instance_kind=self.kind,
            instance=self.instance,
            steps=tuple(self.steps),
            notes=notes_of(self.resolved, self.steps, self.kind),
            skipped=tuple(self.resolved.skipped),
            events=tuple(event.name for event in self.resolved.events),
            tracer=self._tracer_name(),
        )

    # -- one file -----------------------------------------------------------------------------

    def set(
        self,
        name: str,
        after: str,
        *,
        path: tuple[str | int, ...],
        text: str | None = None,
        also: Iterable[str] = (),
        later: Iterable[str] = (),
        starts: bool = False,
    ) -> None:
        """Add the step that makes `name` show `after`, unless it is refused here."""
        shared = name in _SHARED_FILES or is_own_option(name.removeprefix("options/"))
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
                also=tuple(also),
                later=tuple(later),
                starts=starts,
            )
        )

    def _before(self, file: str, name: str) -> str | None:
        for step in reversed(self.steps):
            if isinstance(step, SetFile) and step.file == file:
                return step.after
        return self.present.reading(file, name)

    def _refuses(self, name: str, key: str, path: tuple[str | int, ...]) -> bool:
        head = name.split("/", 1)[0]
        if head in {"events", "options", "per_cpu"}:
            return False
        problem = file_problem(self.resolved.kernel, head, f"'{key}'" if key else "every run")
        if problem is None:
            return False
        place = self.resolved.loaded.marks.place(path) if path else None
        fix = problem.fix if path else "use another kernel"
        self.problems.append(replace(problem, fix=fix).at(place, key))
        return True

    # -- subjects -----------------------------------------------------------------------------

    def _buffer(self) -> None:
        buffer = self.recipe.buffer
        if buffer.subbuf is not None:
            page_size_bytes = self.resolved.kernel.page_size_bytes
            subbuf_kb = shown_subbuf_kb(buffer.subbuf, page_size_bytes=page_size_bytes)
            path = ("buffer", "subbuf")
            self.set("buffer_subbuf_size_kb", str(subbuf_kb), path=path, also=self._sizes())
        if buffer.size is not None:
            self._buffer_size(buffer.size, path=("buffer", "size"))
        elif self.is_new:
            self._buffer_size(
                default_buffer_bytes(len(self.resolved.kernel.possible_cpus)), path=()
            )
        watermark = buffer.watermark
        if watermark is None and self.is_new:
            watermark = _WATERMARK_PERCENT
        if watermark is not None and "buffer_percent" in self.resolved.kernel.control_files:
            self.set(
                "buffer_percent",
                str(watermark),
                path=("buffer", "watermark") if buffer.watermark is not None else (),
            )

    def _buffer_size(self, size_bytes: int, *, path: tuple[str | int, ...]) -> None:
        kernel = self.resolved.kernel
        asked_kb = -(-size_bytes // 1024)
        name = "buffer_subbuf_size_kb"
        subbuf_kb = self._before(f"{self.prefix}{name}", name)
        shown_kb = shown_size_kb(
            asked_kb,
            subbuf_kb=int(subbuf_kb) if subbuf_kb else kernel.page_size_bytes // 1024,
            header_bytes=kernel.header_page.data_offset,
        )
        name, also = "buffer_size_kb", self._sizes()
        self.set(name, str(shown_kb), text=str(asked_kb), path=path, also=also)

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
        is_latency = self._tracer_name() in LATENCY_TRACERS
        overwrite = "1" if recipe.buffer.mode == "overwrite" or is_latency else "0"
        path = ("buffer",) if "buffer" in recipe.model_fields_set else ()
        self.set("options/overwrite", overwrite, path=path)
        for option, wanted in self.resolved.options.items():
            value = "1" if wanted else "0"
            if self.prefix and option in TOP_LEVEL_OPTIONS:
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
        self.set(name, " ".join(pids), text="\n".join(pids) + "\n", path=path)

    def _functions(
        self, name: str, patterns: Iterable[str], *, path: tuple[str | int, ...]
    ) -> None:
        # The last name needs its line end: without it the kernel parses it at close and hides
        # its error.
        text = "".join(f"{pattern}\n" for pattern in patterns)
        self.set(name, " ".join(patterns), text=text, path=path)

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
                later = [f"{_event_directory(spec.target)}/enable"] if spec.target else []
                # It allocates the buffer, and removing it does not free that.
                later += ["snapshot"] if spec.name == "snapshot" else []
                self.set(
                    f"{directory}/trigger",
                    read_form(spec),
                    text=trigger,
                    path=event.trigger_paths[number],
                    also=[f"{self.prefix}{directory}/enable"],
                    later=[f"{self.prefix}{file}" for file in later],
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
        listed = "available_tracers"
        allowed = self.present.reading(f"{self.prefix}{listed}", listed)
        if allowed is not None and tracer.name not in allowed.split():
            place = self.resolved.loaded.marks.place(path)
            self.problems.append(top_level_tracer(tracer.name).at(place, _dotted(path)))
        # Before it, or it would begin with all functions of the kernel in spite of function-trace.
        self._tracer_options(tracer, are_own=False)
        # The tracer comes first: some reset the threshold or bring their options along.
        self.set("current_tracer", tracer.name, path=path, also=self._measured())
        if tracer.threshold_us is not None:
            self.set("tracing_thresh", str(tracer.threshold_us), path=(*path, "threshold"))
        self._tracer_options(tracer, are_own=True)

    def _tracer_options(self, tracer: ResolvedTracer, *, are_own: bool) -> None:
        for option, wanted in tracer.options.items():
            if is_own_option(option) is are_own:
                at = (*tracer.path, "options", option)
                self.set(f"options/{option}", "1" if wanted else "0", path=at)

    def _measured(self) -> list[str]:
        """Return what a tracer that measures changes besides: the maximum it clears and moves.

        A latency tracer uses the snapshot's buffer too, and frees it when it is left (seen by the
        crash sweep on 6.12).
        """
        names = ["tracing_max_latency"] if self._tracer_name() in WHOLE_CPU_TRACERS else []
        names += ["snapshot"] if self._tracer_name() in LATENCY_TRACERS else []
        return [
            f"{self.prefix}{name}" for name in names if name in self.resolved.kernel.control_files
        ]

    def _tracer_name(self) -> str:
        return self.resolved.tracer.name if self.resolved.tracer else "nop"

    def _traces_functions(self) -> bool:
        return self._tracer_name() in PID_TRACERS

    def _expanded(self) -> tuple[str, ...]:
        # Enabling the first event expands the top level's ring buffer for good: on 6.1 even when
        # it is enabled in an instance (tracefs-state.md, section 12).
        return ("buffer_size_kb",) if "buffer_size_kb" in self.resolved.kernel.control_files else ()


def _instance(recipe: Recipe, run_id: str) -> tuple[InstanceKind, str]:
    match recipe.instance:
        case "private":
            return "private", f"{PRIVATE_PREFIX}{recipe.name[:32]}-{run_id}"
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
