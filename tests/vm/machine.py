"""Machine: boots a kernel in qemu with Python and the project in its memory, and runs a command.

The root directory is an initramfs of two parts. The base holds busybox, trace-cmd, and the Python
that runs this with the packages the tests need, all at their usual paths; it is made once and
cached by what went into it. The second part, made for every boot, is the project in /project.
Neither is compressed: unpacking costs more in an emulated machine than copying.

The kernel's console is the first serial port (kept as a log); the second carries what the command
prints, its status, and pytest's JUnit file, between marks. Without the last mark the run failed.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import hashlib
import json
import os
import platform
import py_compile
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.vm.kernels import MODULE, PROJECT, cache_directory, module_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

QEMU = "qemu-system-x86_64"
MEMORY_MB = 2048
CPUS = 2
BOOT_TIMEOUT_S = 90
IN_VM = "TRACE_RECIPE_IN_VM"
PARTS = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "runner",
    "recipes",
    "schema",
    "benchmarks",
    "tests",
)
DISTRIBUTIONS = (
    "pydantic",
    "pyyaml",
    "jsonschema",
    "typer",
    "numpy",
    "zstandard",
    "pytest",
    "hypothesis",
)
PROGRAMS = ("trace-cmd", "perf")
# Parts of the standard library and of packages that no test here imports.
LEFT_OUT = {
    "__pycache__",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
BEGIN, STATUS, JUNIT, END = (
    f"=== trace-recipe vm {mark}" for mark in ("begin", "status", "junit", "end")
)
JUNIT_FILE = "/run/junit.xml"
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": "/project/runner:/project",
    "TERM": "dumb",
    IN_VM: "1",
}
INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /dev/shm /dev/pts && mount -t tmpfs tmpfs /dev/shm && mount -t devpts devpts /dev/pts
ip link set lo up 2>/dev/null
stty -F /dev/ttyS1 raw
{{
  echo "{BEGIN}"
  cd /project && sh /job </dev/null
  echo "{STATUS} $?"
  if [ -f {JUNIT_FILE} ]; then echo "{JUNIT}"; base64 {JUNIT_FILE}; fi
  echo "{END}"
}} >/dev/ttyS1 2>&1
reboot -f
"""


class MachineError(Exception):
    """The machine could not be built, did not boot, or did not reach its end."""


@dataclass(frozen=True, slots=True)
class InnerTest:
    """One test of a run in the machine; `outcome` is passed, failed or skipped."""

    name: str
    outcome: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command in the machine printed, its exit status, and the tests it ran."""

    status: int
    output: str
    console: str
    tests: tuple[InnerTest, ...] = ()


def missing_tools() -> str:
    """Return why no machine can be booted here, or an empty text."""
    if platform.machine() != "x86_64":
        return f"the test machines are x86_64, this one is {platform.machine()}"
    absent = [tool for tool in (QEMU, "busybox", "ldd") if not shutil.which(tool)]
    return f"no {', '.join(absent)} here: run .ci/install-test-tools" if absent else ""


def run_pytest(
    kernel: Path,
    arguments: Sequence[str],
    *,
    timeout_s: float,
    append: str = "",
    show: Callable[[str], object] = lambda _: None,
) -> Outcome:
    """Boot the kernel and run `pytest ARGUMENTS` in the project; raises MachineError."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={JUNIT_FILE}"]
    return run_shell(
        kernel, shlex.join([*command, *arguments]), timeout_s=timeout_s, append=append, show=show
    )


def run_shell(
    kernel: Path,
    command: str,
    *,
    timeout_s: float,
    append: str = "",
    show: Callable[[str], object] = lambda _: None,
) -> Outcome:
    """Boot the kernel and run a shell command in the project; raises MachineError.

    `append` goes to the kernel's command line; `show` gets every line as it is printed.
    """
    if reason := missing_tools():
        raise MachineError(reason)
    base = base_image()
    with tempfile.TemporaryDirectory(prefix="trace-recipe-vm-") as name:
        directory = Path(name)
        initramfs = directory / "initramfs"
        with initramfs.open("wb") as file:
            with base.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            _write_project(_Cpio(file), command, module_for(kernel))
        console = directory / "console"
        with _qemu(kernel, initramfs, console, append, accelerator(kernel)) as process:
            lines = _lines_until_end(process, timeout_s, show)
        log = console.read_text(errors="replace") if console.exists() else ""
    return _outcome(lines, log)


# -- the emulator ---------------------------------------------------------------------------------


def accelerator(kernel: Path) -> str:
    """Return "kvm" when a guest really runs with it, else "tcg"; tried once per boot of the host.

    /dev/kvm may exist and accept a machine that then never executes an instruction.
    """
    if not os.access("/dev/kvm", os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cache_directory() / f"kvm-{boot}"
    if not known.exists():
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text("kvm" if _kvm_boots(kernel) else "tcg")
    return known.read_text()


def _kvm_boots(kernel: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="trace-recipe-kvm-") as name:
        initramfs = Path(name) / "initramfs"
        with initramfs.open("wb") as file:
            cpio = _Cpio(file)
            _write_skeleton(cpio)
            cpio.file("/init", INIT.encode(), 0o755)
            cpio.file("/job", b"true\n")
            cpio.end()
        with _qemu(kernel, initramfs, Path(name) / "console", "", "kvm") as process:
            try:
                return any(line.startswith(END) for line in _lines_until_end(process, 10, str))
            except MachineError:
                return False


@contextlib.contextmanager
def _qemu(
    kernel: Path, initramfs: Path, console: Path, append: str, accel: str
) -> Iterator[subprocess.Popen[str]]:
    accelerated = {"kvm": ["-accel", "kvm", "-cpu", "host"]}
    # One thread for all CPUs: with one each, the emulator now and then runs half of an instruction
    # that the other CPU is patching (tracepoints, function tracing), and the kernel panics.
    emulated = ["-accel", "tcg,thread=single", "-cpu", "max"]
    command = [QEMU, *accelerated.get(accel, emulated), "-m", f"{MEMORY_MB}M", "-smp", str(CPUS)]
    command += ["-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-serial", f"file:{console}", "-serial", "stdio"]
    command += ["-kernel", str(kernel), "-initrd", str(initramfs)]
    # Without waiting for grace periods, most of what a switch of tracers takes in an emulator.
    words = f"console=ttyS0 quiet panic=-1 rcupdate.rcu_expedited=1 {append}"
    command += ["-append", words.strip()]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=_die_with_parent,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed test leaves no machine


def _lines_until_end(
    process: subprocess.Popen[str], timeout_s: float, show: Callable[[str], object]
) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, expire)
    timer.start()
    shown = False
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\r\n"))
            shown = shown and not line.startswith(STATUS)
            if shown:
                show(lines[-1])
            shown = shown or line.startswith(BEGIN)
    finally:
        timer.cancel()
    if expired.is_set():
        lines.append(f"(killed after {timeout_s} s)")
    return lines


def _outcome(lines: list[str], console: str) -> Outcome:
    places = {
        mark: index for index, line in enumerate(lines) for mark in _MARKS if line.startswith(mark)
    }
    if END not in places or STATUS not in places or BEGIN not in places:
        tail = "\n".join([*lines[-60:], "--- console:", *console.splitlines()[-60:]])
        raise MachineError(f"the machine did not reach its end:\n{tail}")
    output = "\n".join(lines[places[BEGIN] + 1 : places[STATUS]])
    status = int(lines[places[STATUS]].removeprefix(STATUS))
    tests: tuple[InnerTest, ...] = ()
    if JUNIT in places:
        tests = _junit(base64.b64decode("".join(lines[places[JUNIT] + 1 : places[END]])))
    return Outcome(status, output, console, tests)


_MARKS = (BEGIN, STATUS, JUNIT, END)


def _junit(document: bytes) -> tuple[InnerTest, ...]:
    tests = []
    for case in ET.fromstring(document).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome, text = "passed", ""
        for child in case:
            if child.tag in {"failure", "error"}:
                outcome, text = "failed", f"{child.get('message', '')}\n{child.text or ''}"
            elif child.tag == "skipped":
                outcome, text = "skipped", child.get("message", "")
        tests.append(InnerTest(name, outcome, text))
    return tuple(tests)


# -- the initramfs --------------------------------------------------------------------------------


def base_image() -> Path:
    """Return the cached base archive, made when what goes into it has changed."""
    distributions = _distributions()
    programs = [path for path in map(shutil.which, ("busybox", *PROGRAMS)) if path]
    parts = [
        sys.executable,
        sys.version,
        *(f"{d.metadata['Name']} {d.version}" for d in distributions),
        *(f"{path} {Path(path).stat().st_mtime_ns}" for path in programs),
        Path(__file__).read_text(),
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    cached = cache_directory() / f"base-{digest}.cpio"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as file:
            try:
                _write_base(_Cpio(file), distributions)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).replace(cached)
        _forget_old_images(cached.parent)
    return cached


def _forget_old_images(directory: Path) -> None:
    images = sorted(directory.glob("base-*.cpio"), key=lambda path: path.stat().st_mtime)
    for image in images[:-3]:
        image.unlink(missing_ok=True)


def _write_base(cpio: _Cpio, distributions: Sequence[metadata.Distribution]) -> None:
    _write_skeleton(cpio)
    files = {Path(path) for path in map(shutil.which, PROGRAMS) if path}
    files |= set(_interpreter())
    files |= {file for distribution in distributions for file in _files_of(distribution)}
    for stdlib in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        files |= set(_tree(Path(stdlib)))
    files |= _libraries(files)
    with tempfile.TemporaryDirectory() as directory:
        for file in sorted(files):
            cpio.copy(file, str(file))
            if file.suffix == ".py":
                _write_compiled(cpio, file, Path(directory) / "compiled")
    cpio.end()


def _write_skeleton(cpio: _Cpio) -> None:
    for directory in ("/bin", "/dev", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib", "/etc"):
        cpio.directory(directory)
    cpio.entry("/dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    cpio.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    cpio.file("/etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    busybox = shutil.which("busybox")
    assert busybox is not None, "missing_tools() was asked before"
    cpio.file("/bin/busybox", Path(busybox).read_bytes(), 0o755)
    for library in _libraries({Path(busybox)}):
        cpio.copy(library, str(library))


def _write_project(cpio: _Cpio, command: str, module: Path) -> None:
    for part in PARTS:
        path = PROJECT / part
        files = [path] if path.is_file() else _tree(path, left_out={"__pycache__"})
        for file in files:
            cpio.copy(file, f"/project/{file.relative_to(PROJECT)}")
    exports = "".join(f"export {name}={shlex.quote(text)}\n" for name, text in ENVIRONMENT.items())
    if module.is_file():
        cpio.copy(module, f"/{MODULE}")
    cpio.file("/init", INIT.encode(), 0o755)
    cpio.file("/job", f"{exports}{command}\n".encode())
    cpio.end()


def _write_compiled(cpio: _Cpio, source: Path, scratch: Path) -> None:
    # Compiling the library inside the emulated machine would take longer than the tests. The
    # code is never checked against its source, so that time stamps do not matter there.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    with contextlib.suppress(py_compile.PyCompileError, ValueError):
        py_compile.compile(
            str(source), str(scratch), str(source), doraise=True, invalidation_mode=mode
        )
        tag = sys.implementation.cache_tag
        cpio.file(f"{source.parent}/__pycache__/{source.stem}.{tag}.pyc", scratch.read_bytes())


def _interpreter() -> Iterator[Path]:
    """Yield the running interpreter with every link on the way to it, and its virtualenv's mark."""
    path = Path(sys.executable)
    yield path
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield path
    yield path.resolve()
    mark = Path(sys.prefix) / "pyvenv.cfg"
    if mark.exists():
        yield mark


def _distributions() -> tuple[metadata.Distribution, ...]:
    """Return the installed packages that the tests need, with all that they require."""
    from packaging.requirements import Requirement  # pytest brings it; the parser must not need it

    found: dict[str, metadata.Distribution] = {}
    wanted = list(DISTRIBUTIONS)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise MachineError(f"{name} is not installed for {sys.executable}") from error
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return tuple(found[name] for name in sorted(found))


def _files_of(distribution: metadata.Distribution) -> Iterator[Path]:
    for file in distribution.files or ():
        path = Path(os.path.normpath(str(distribution.locate_file(file))))
        if path.is_file() and not LEFT_OUT & set(file.parts) and ".." not in file.parts:
            yield path


def _tree(directory: Path, left_out: set[str] = LEFT_OUT) -> Iterator[Path]:
    for root, directories, files in os.walk(directory):
        directories[:] = [
            name for name in directories if name not in left_out and not name.startswith("config-")
        ]
        yield from (Path(root) / name for name in files if not name.endswith((".a", ".pyc")))


def _libraries(files: set[Path]) -> set[Path]:
    """Return the shared libraries, the loader included, that the programs among the files need."""
    programs = [str(file) for file in files if _is_elf(file)]
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False)
    return {
        Path(match[1])
        for match in re.finditer(r"(?:=> |^\t)(/\S+) \(0x", done.stdout, re.MULTILINE)
    }


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


class _Cpio:
    """A writer of the `newc` archives that the kernel unpacks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._number = 0
        self._directories: set[str] = set()

    def directory(self, path: str) -> None:
        if path not in self._directories and path != "/":
            self.directory(os.path.dirname(path))
            self._directories.add(path)
            self.entry(path, stat.S_IFDIR | (0o1777 if path == "/tmp" else 0o755))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.directory(os.path.dirname(path))
        self.entry(path, stat.S_IFREG | mode, data)

    def copy(self, source: Path, path: str) -> None:
        if source.is_symlink() and source.parent == Path(sys.executable).parent:
            self.directory(os.path.dirname(path))
            self.entry(path, stat.S_IFLNK | 0o777, os.readlink(source).encode())
        else:
            self.file(path, source.read_bytes(), source.stat().st_mode & 0o777)

    def end(self) -> None:
        self.entry("/TRAILER!!!", 0)
        self._file.write(b"\0" * (-self._file.tell() % 512))

    def entry(
        self, path: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._number += 1
        name = path.lstrip("/").encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._write(header + name)
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.write(b"\0" * (-len(data) % 4))
