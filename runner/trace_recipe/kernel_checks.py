"""What can be checked in a recipe against one kernel, apart from events, tracer and functions.

Options, clock, buffer, scope, markers, required things, and the control files that they need.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trace_recipe.errors import Problem
from trace_recipe.mistakes import absent_event, absent_option, denied_option, file_problem
from trace_recipe.suggestions import did_you_mean, listed
from trace_recipe.syntax_checks import SyntaxChecks
from trace_recipe.tracers import PID_TRACERS, users_of_option

if TYPE_CHECKING:
    from trace_recipe.kernel import Kernel
    from trace_recipe.recipe.load import LoadedRecipe
    from trace_recipe.syntax_checks import Path

__all__ = ["KernelChecks"]

_MOST_GUESSES = 20


class KernelChecks(SyntaxChecks):
    """Collects what a kernel lacks beside the recipe's own mistakes, and what is left out."""

    def __init__(self, loaded: LoadedRecipe, kernel: Kernel) -> None:
        super().__init__(loaded)
        self.kernel = kernel
        self.lacks: list[Problem] = []
        self._guesses = 0
        self.skipped: list[tuple[str, str]] = []
        # The events of ftrace have formats, but cannot be switched on.
        self.events = tuple(name for name in kernel.events if not name.startswith("ftrace:"))

    def may_guess(self) -> bool:
        """Whether to look for the name that was meant: for the first absent ones only.

        Braces can stand for thousands of names, and a kernel has tens of thousands to compare with.
        """
        self._guesses += 1
        return self._guesses <= _MOST_GUESSES

    def check_kernel_options(self) -> None:
        """Check that the kernel has the options."""
        recipe = self.loaded.recipe
        self.check_options(recipe.options, ("options",))
        known = set(self.kernel.options)
        for option in recipe.options:
            if option in known or denied_option(option, value=recipe.options[option]) is not None:
                continue
            if self.is_off_without_it(option):
                continue
            if option.startswith("no") and option.removeprefix("no") in known:
                name = option.removeprefix("no")
                value = str(not recipe.options[option]).lower()
                problem = Problem(f"no option '{option}'", fix=f"write '{name}: {value}'")
                self.mistake(("options", option), problem, at_key=True)
                continue
            self.lack(("options", option), absent_option(option, known), at_key=True)

    def is_off_without_it(self, option: str) -> bool:
        """Whether a tracer's option is to be off that the kernel lacks, as it lacks the tracer."""
        return (
            option not in self.kernel.options
            and self.loaded.recipe.options[option] is False
            and users_of_option(option) is not None
        )

    def check_clock_and_buffer(self) -> None:
        """Check the clock, and that the buffer can be set as asked."""
        recipe, kernel = self.loaded.recipe, self.kernel
        if recipe.clock is not None and recipe.clock not in kernel.clocks:
            problem = Problem(
                f"this kernel has no clock '{recipe.clock}'",
                why=f"it has {listed(kernel.clocks)}",
                fix=did_you_mean(recipe.clock, kernel.clocks, otherwise="use one that it has"),
            )
            self.lack(("clock",), problem, 0)
        for key, file in (
            ("size", "buffer_size_kb"),
            ("subbuf", "buffer_subbuf_size_kb"),
            ("watermark", "buffer_percent"),
        ):
            if getattr(recipe.buffer, key) is not None:
                self._need_file(("buffer", key), file, f"buffer.{key}")
        largest = kernel.page_size_bytes << 7
        subbuf = recipe.buffer.subbuf
        if subbuf is not None and not kernel.page_size_bytes <= subbuf <= largest:
            pages = kernel.page_size_bytes // 1024
            problem = Problem(
                f"a sub-buffer of {subbuf} bytes",
                why=f"a sub-buffer is 1 to 128 pages, {pages}K to {largest // 1024}K here",
                fix="ask for a size between them",
            )
            self.mistake(("buffer", "subbuf"), problem)

    def check_scope(self, tracer: str | None) -> None:
        """Check that the CPUs are there and that tasks can be chosen."""
        recipe, kernel = self.loaded.recipe, self.kernel
        scope = recipe.scope
        if scope.cpus is not None:
            absent = [cpu for cpu in scope.cpus if cpu not in kernel.possible_cpus]
            if absent:
                problem = Problem(
                    f"no CPU {listed(str(cpu) for cpu in absent)} on this machine",
                    why=f"it has {listed(str(cpu) for cpu in kernel.possible_cpus)}",
                    fix="name CPUs that it has, or leave 'cpus' out",
                )
                self.lack(("scope", "cpus"), problem)
            self._need_file(("scope", "cpus"), "tracing_cpumask", "scope.cpus")
        for key, files in (
            ("pids", ("set_event_pid", "set_ftrace_pid")),
            ("exclude_pids", ("set_event_notrace_pid", "set_ftrace_notrace_pid")),
        ):
            if getattr(scope, key):
                self._need_file(("scope", key), files[0], f"scope.{key}")
                if tracer in PID_TRACERS:
                    self._need_file(("scope", key), files[1], f"scope.{key} of a tracer")
        if scope.follow and "event-fork" not in kernel.options:
            problem = Problem(
                "this kernel has no option 'event-fork' for scope.follow",
                fix="leave 'follow' out, and name every pid",
            )
            self.lack(("scope", "follow"), problem)

    def check_markers(self) -> None:
        """Check that markers can be written."""
        self.check_marker_texts()
        markers = self.loaded.recipe.markers
        for key in ("start", "stop", "command_start", "command_exit"):
            if getattr(markers, key) is not None:
                self._need_file(("markers", key), "trace_marker", f"markers.{key}")

    def check_requires(self) -> None:
        """Check what the recipe requires by name."""
        requires, kernel = self.loaded.recipe.requires, self.kernel
        if requires is None:
            return
        self.check_required_files(requires)
        for path, names in self.required_events(requires):
            for one in names.expansions:
                if one.among(self.events):
                    continue
                problem = absent_event(one, self.events, guesses=self.may_guess())
                if "optional" in problem.fix:  # what is required is not
                    problem = replace(problem, fix="run it on a kernel that has it")
                self.lack(path, problem, one.offset)
        for key, what, known in (
            ("tracers", "tracer", kernel.tracers),
            ("options", "option", kernel.options),
            ("clocks", "clock", kernel.clocks),
            ("triggers", "trigger", kernel.triggers),
            ("files", "control file", sorted(kernel.control_files)),
        ):
            for index, name in enumerate(getattr(requires, key)):
                if name in known:
                    continue
                problem = Problem(
                    f"this kernel has no {what} '{name}', which the recipe requires",
                    fix=did_you_mean(name, known, otherwise="run it on a kernel that has it"),
                )
                self.lack(("requires", key, index), problem, 0)

    def _need_file(self, path: Path, file: str, purpose: str) -> None:
        problem = self.file_problem(file, purpose)
        if problem is not None:
            self.lack(path, problem)

    def file_problem(self, file: str, purpose: str) -> Problem | None:
        """Return why a control file cannot be used for `purpose`, or None."""
        return file_problem(self.kernel, file, purpose)

    def lack(
        self, path: Path, problem: Problem, offset: int | None = None, *, at_key: bool = False
    ) -> None:
        """Note that this kernel cannot do what stands there."""
        self.lacks.append(self.placed(path, problem, offset, at_key=at_key))
