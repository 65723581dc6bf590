"""Kernel: what one kernel offers, probed live or loaded from a catalogue file. Never its version.

Format texts are a mapping that may read lazily: parsing 2300 formats for a recipe of three events
would cost more than the rest of a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trace_recipe.formats import EventFormat, FormatError, HeaderPage, parse_event_format
from trace_recipe.formats import parse_header_page as _parse_header_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Kernel", "kernel_from_json", "kernel_to_json"]

CATALOGUE_VERSION = "kernel-catalogue v1"


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one kernel offers.

    `control_files` are the names in the top-level directory, `options` the names in options/,
    `format_texts` maps `system:event` to its format file; `events` are all such names in order.
    `instance_tracers` are those that may run in an instance; None when that is not known without
    making one. `functions` maps nothing when available_filter_functions is unreadable (None).
    """

    release: str
    machine: str
    byte_order: str
    long_size: int
    page_size_bytes: int
    possible_cpus: tuple[int, ...]
    online_cpus: tuple[int, ...]
    tracers: tuple[str, ...]
    instance_tracers: tuple[str, ...] | None
    options: tuple[str, ...]
    clocks: tuple[str, ...]
    control_files: frozenset[str]
    format_texts: Mapping[str, str]
    header_page_text: str
    header_event_text: str
    readme: str
    triggers: tuple[str, ...]
    refused: Mapping[str, str]
    functions: Sequence[str] | None
    origin: str = "live"
    _formats: dict[str, EventFormat] = field(default_factory=dict, repr=False, compare=False)

    @property
    def events(self) -> Sequence[str]:
        """Return every `system:event`, sorted."""
        return tuple(self.format_texts)

    @property
    def systems(self) -> tuple[str, ...]:
        """Return every system, sorted."""
        return tuple(sorted({name.partition(":")[0] for name in self.format_texts}))

    def has_event(self, full_name: str) -> bool:
        """Whether `system:event` exists here."""
        return full_name in self.format_texts

    def event_format(self, full_name: str) -> EventFormat:
        """Return the parsed format; raises KeyError when the kernel has no such event."""
        known = self._formats.get(full_name)
        if known is None:
            text = self.format_texts[full_name]
            system = full_name.partition(":")[0]
            try:
                known = parse_event_format(text, system, long_size=self.long_size)
            except FormatError as error:
                raise KeyError(f"{full_name}: {error}") from error
            self._formats[full_name] = known
        return known

    @property
    def header_page(self) -> HeaderPage:
        """Return the parsed top-level header_page."""
        return _parse_header_page(self.header_page_text)


def kernel_to_json(kernel: Kernel) -> dict[str, Any]:
    """Return the catalogue as JSON data, every format text included."""
    return {
        "catalogue": CATALOGUE_VERSION,
        "release": kernel.release,
        "machine": kernel.machine,
        "byte_order": "little" if kernel.byte_order == "<" else "big",
        "long_size": kernel.long_size,
        "page_size_bytes": kernel.page_size_bytes,
        "possible_cpus": list(kernel.possible_cpus),
        "online_cpus": list(kernel.online_cpus),
        "tracers": list(kernel.tracers),
        "instance_tracers": _list_or_none(kernel.instance_tracers),
        "options": list(kernel.options),
        "clocks": list(kernel.clocks),
        "control_files": sorted(kernel.control_files),
        "formats": {name: kernel.format_texts[name] for name in kernel.format_texts},
        "header_page": kernel.header_page_text,
        "header_event": kernel.header_event_text,
        "readme": kernel.readme,
        "triggers": list(kernel.triggers),
        "refused": dict(kernel.refused),
        "functions": _list_or_none(kernel.functions),
    }


def kernel_from_json(data: Mapping[str, Any], *, origin: str) -> Kernel:
    """Build a Kernel from catalogue data that its schema has already accepted."""
    return Kernel(
        release=data["release"],
        machine=data["machine"],
        byte_order="<" if data["byte_order"] == "little" else ">",
        long_size=data["long_size"],
        page_size_bytes=data["page_size_bytes"],
        possible_cpus=tuple(data["possible_cpus"]),
        online_cpus=tuple(data["online_cpus"]),
        tracers=tuple(data["tracers"]),
        instance_tracers=None
        if data["instance_tracers"] is None
        else tuple(data["instance_tracers"]),
        options=tuple(data["options"]),
        clocks=tuple(data["clocks"]),
        control_files=frozenset(data["control_files"]),
        format_texts=dict(data["formats"]),
        header_page_text=data["header_page"],
        header_event_text=data["header_event"],
        readme=data["readme"],
        triggers=tuple(data["triggers"]),
        refused=dict(data["refused"]),
        functions=data["functions"],
        origin=origin,
    )


def _list_or_none(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)
