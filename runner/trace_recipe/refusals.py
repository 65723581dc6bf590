"""Refusals: what a step that the kernel refused means, in the user's words."""

from __future__ import annotations

import errno

from trace_recipe.errors import Problem, TracefsError
from trace_recipe.mistakes import top_level_tracer
from trace_recipe.plan import MakeInstance, Plan, SetFile, Step

__all__ = ["kernel_lacks", "refused"]


def kernel_lacks(step: Step, error: TracefsError, plan: Plan) -> Problem | None:
    """Return a kernel's lack that only a try can show, in the user's words."""
    name = step.name if isinstance(step, SetFile) else ""
    if isinstance(step, MakeInstance) and error.errno == errno.EEXIST:
        return Problem(
            f"instance '{step.name}' appeared meanwhile",
            why="somebody else made it between planning and applying",
            fix="run again, or use another name",
        )
    if isinstance(step, MakeInstance):
        return Problem(
            error.problems[0].what,
            why="a new instance allocates its ring buffer at once"
            if error.errno == errno.ENOMEM
            else "the kernel refused it",
            fix="free memory, or use an existing instance"
            if error.errno == errno.ENOMEM
            else "run as root; `trace-recipe doctor` shows what is missing",
        )
    if name == "current_tracer" and error.errno == errno.EINVAL and plan.instance:
        assert isinstance(step, SetFile)
        return top_level_tracer(step.after)
    if name.startswith("options/") and error.errno == errno.ENOENT and plan.instance:
        option = name.removeprefix("options/")
        return Problem(
            f"the option '{option}' is not in the instances of this kernel",
            why="their options/ leaves it out: it belongs to the top level, or to a tracer that"
            " instances may not use",
            fix="write 'instance: top' (shared with everyone while it runs), or remove the option",
        )
    if name == "current_tracer" and error.errno == errno.EBUSY:
        assert isinstance(step, SetFile)
        return Problem(
            f"tracer '{step.after}' is busy",
            why="somebody else uses a tracer that excludes it, or reads trace_pipe",
            fix="wait until they are done, or stop them",
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Problem(
            error.problems[0].what,
            why="lockdown, a security module, or missing rights",
            fix="run as root; `trace-recipe doctor` shows what is missing",
        )
    return None


def refused(step: Step, error: TracefsError) -> Problem:
    """Return what any other refused write means: the kernel's own words, and what to do."""
    problem = error.problems[0]
    why = error.error_log or "the kernel gives no reason for this file"
    if isinstance(step, SetFile) and step.name == "buffer_size_kb" and error.errno == errno.ENOMEM:
        why = "buffer_size_kb is per CPU, and there is not so much memory"
    fix = "change the value"
    if isinstance(step, SetFile) and step.name.endswith("/trigger") and error.errno == errno.EEXIST:
        why = "somebody else has a trigger of this kind on the event; the kernel takes one"
        fix = "use a private instance, or leave the trigger out"
    if error.errno == errno.EBUSY:
        fix = "somebody has the file's buffer open; wait until they are done"
    return Problem(problem.what, why, fix)
