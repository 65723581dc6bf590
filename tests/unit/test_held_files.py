"""Files that are held open for who may open nothing."""

import errno
import os

import pytest

from trace_recipe.held_files import hold_file


def test_a_held_file_is_read_from_any_place_and_closed_with_its_last_holder(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    held = hold_file(path)
    fd = held.fd
    path.unlink()

    assert held.size_bytes == 10
    assert (held.read(3), held.read(100, 8), held.read(5, 20)) == (b"012", b"89", b"")
    with held.stream() as stream:
        assert stream.read(2) == b"01"
    with held.stream() as stream:
        assert stream.read(2) == b"01"
    buffer = bytearray(4)
    assert held.read_into(buffer, 7) == 3
    assert bytes(buffer) == b"789\0"
    del held
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "link", "nothing"])
def test_only_regular_files_are_held(tmp_path, kind):
    path = tmp_path / "file"
    (tmp_path / "real").write_text("x")
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "link":
            path.symlink_to(tmp_path / "real")
    with pytest.raises(OSError) as caught:
        hold_file(path, follows_links=kind == "device")

    assert (
        caught.value.errno
        == {
            "pipe": errno.EINVAL,
            "directory": errno.EISDIR,
            "device": errno.EINVAL,
            "link": errno.ELOOP,
            "nothing": errno.ENOENT,
        }[kind]
    )
