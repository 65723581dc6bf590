"""Provoke what the shipped recipes look for; each runs in its own process, by name.

python -m tests.provoke mounts
"""

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432
FSCONFIG_CMD_CREATE = 6
TCP_SYN_SENT = 2
libc = ctypes.CDLL(None, use_errno=True)


def mounts():
    """Mount and unmount a tmpfs through the old API and make one through the new."""
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    with tempfile.TemporaryDirectory() as directory:
        target = directory.encode()
        libc.mount(None, b"/", None, 0x4000 | 0x40000, None)  # MS_REC | MS_PRIVATE
        if libc.mount(b"provoked", target, b"tmpfs", 2, b"size=64k"):
            raise OSError(ctypes.get_errno(), "mount")
        if libc.umount2(target, 0):
            raise OSError(ctypes.get_errno(), "umount")
    context = libc.syscall(SYS_FSOPEN, b"tmpfs", 0)
    libc.syscall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
    made = libc.syscall(SYS_FSMOUNT, context, 0, 0)
    if made < 0:
        raise OSError(ctypes.get_errno(), "fsmount")


def opens():
    """Open a file that exists and one that does not."""
    os.close(os.open("/etc/hostname", os.O_RDONLY | os.O_CLOEXEC))
    try:
        os.open("/nonexistent-provoked", os.O_RDWR)
    except FileNotFoundError:
        return
    raise AssertionError("it exists")


def execs():
    """Start a program."""
    subprocess.run(["/bin/true"], check=True)


def signals():
    """Send a signal to a child, which dies of it."""
    child = subprocess.Popen(["/bin/sleep", "20"])
    os.kill(child.pid, signal.SIGTERM)
    child.wait()


def errors():
    """Fail a system call in a known way: EBADF from close."""
    for _ in range(5):
        try:
            os.close(987)
        except OSError:
            continue


def connections():
    """Open and close a TCP connection on loopback."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        accepted, _ = server.accept()
        client.sendall(b"x")
        accepted.recv(1)
        accepted.close()


def retransmits():
    """Fill a listen queue in a network of our own, so that a further SYN has to be sent again."""
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    _loopback_up()
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    clients = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        clients.append(client)
    ends_at = time.monotonic() + 30
    while not any(map(_sends_again, clients)):  # the first one comes after a second
        if time.monotonic() > ends_at:
            raise AssertionError("nothing was sent again")
        time.sleep(0.05)
    for client in clients:
        client.close()
    server.close()


def _sends_again(client):
    """Whether a socket has repeated its SYN; /proc/net/snmp counts what the server repeats too."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    state, retransmits = info[0], info[2]  # struct tcp_info, include/uapi/linux/tcp.h
    return state == TCP_SYN_SENT and retransmits > 0


def _loopback_up():
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 1 | 64)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def sleeps():
    """Switch away and be woken."""
    for _ in range(20):
        time.sleep(0.001)


def interrupts():
    """Write to the disk until a device has interrupted, which a machine may not do by itself."""
    before = _device_interrupts()
    ends_at = time.monotonic() + 20
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        while _device_interrupts() < before + 3:
            file.write(b"x" * 65536)
            file.flush()
            os.fsync(file.fileno())
            if time.monotonic() > ends_at:
                raise AssertionError("no device interrupts on this machine")


def _device_interrupts():
    """Count what /proc/interrupts has under numbers: those of devices, which `irq:*` tells of."""
    with open("/proc/interrupts") as file:
        rows = [line.split() for line in file][1:]
    return sum(
        int(word)
        for row in rows
        if row[0].rstrip(":").isdigit()
        for word in row[1:]
        if word.isdigit()
    )


def faults():
    """Touch fresh pages."""
    area = mmap.mmap(-1, 64 * mmap.PAGESIZE)
    for page in range(64):
        area[page * mmap.PAGESIZE] = 1


def marks():
    """Write a mark into the instance of the recipe user-markers."""
    path = "/sys/kernel/tracing/instances/user-markers/trace_marker"
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"order 4711 accepted\n")
    os.close(fd)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
