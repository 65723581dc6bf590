"""Kernels to boot: two of Debian's, downloaded into the cache, and one built with every tracer.

The all-tracers kernel is the file that TRACE_RECIPE_ALL_TRACERS_KERNEL names, or lies in
`../shared/vm/` beside the checkout. Nothing here needs more than the standard library.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ALL_TRACERS = "all-tracers"
ALL_TRACERS_VARIABLE = "TRACE_RECIPE_ALL_TRACERS_KERNEL"
ALL_TRACERS_FILE = PROJECT.parent / "shared" / "vm" / "bzImage-6.12-all-tracers"
DEBIAN_PACKAGES = {
    "debian-6.1": re.compile(r"linux-image-6\.1\.\d\S*-cloud-amd64"),
    "debian-6.12": re.compile(r"linux-image-6\.12\.\d\S*-cloud-amd64"),
}
MODULE = "netfs.ko"
"""Has events, needs no other module, and comes with both of Debian's kernels."""
KERNELS = (*DEBIAN_PACKAGES, ALL_TRACERS)


class KernelAbsentError(Exception):
    """A kernel is not on this machine; the text says why and what would bring it."""


def cache_directory() -> Path:
    """Return where kernels and initramfs images are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "trace-recipe-tests"


def find_kernel(name: str) -> Path:
    """Return the image of one of KERNELS, downloading a Debian one; raises KernelAbsentError."""
    if name == ALL_TRACERS:
        image = Path(os.environ.get(ALL_TRACERS_VARIABLE) or ALL_TRACERS_FILE)
        if not image.is_file():
            raise KernelAbsentError(f"no {image}: name the image in {ALL_TRACERS_VARIABLE}")
        return image
    image = cache_directory() / "kernels" / name
    if not (image.is_file() and module_for(image).is_file()):
        _download(name, image)
    return image


def module_for(image: Path) -> Path:
    """Return where a module with events for the kernel is, if it came with one."""
    return image.with_name(f"{image.name}.{MODULE}")


def main() -> int:
    """Print where each kernel is, downloading what is not there; 1 when a Debian one is absent."""
    status = 0
    for name in KERNELS:
        try:
            print(f"{name}: {find_kernel(name)}")
        except KernelAbsentError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status |= name in DEBIAN_PACKAGES
    return status


def _download(name: str, image: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise KernelAbsentError(f"{name} comes as a Debian package, and apt-get is not here")
    image.parent.mkdir(parents=True, exist_ok=True)
    # Not in /tmp: the package is unpacked beside its destination, so that the last step is a rename.
    with tempfile.TemporaryDirectory(dir=image.parent) as directory:
        _run(["apt-get", "download", _newest_package(name)], directory)
        (package,) = Path(directory).glob("*.deb")
        _run(["dpkg-deb", "--extract", str(package), directory], directory)
        (module,) = Path(directory).glob(f"lib/modules/*/kernel/fs/netfs/{MODULE}*")
        data = module.read_bytes()
        module.write_bytes(lzma.decompress(data) if module.suffix == ".xz" else data)
        module.replace(module_for(image))
        (unpacked,) = Path(directory).glob("boot/vmlinuz-*")
        unpacked.replace(image)


def _newest_package(name: str) -> str:
    listed = _run(["apt-cache", "pkgnames", "linux-image-"], ".").split()
    found = [package for package in listed if DEBIAN_PACKAGES[name].fullmatch(package)]
    if not found:
        raise KernelAbsentError(f"apt knows no package for {name}: run .ci/install-test-tools")
    return max(found, key=lambda package: [int(number) for number in re.findall(r"\d+", package)])


def _run(command: list[str], directory: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelAbsentError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
