"""From a path to the reader of its format, told by the content.

May import the readers of this package and `formats`.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from converters.checkpoint import sharded
from converters.checkpoint.content import ContentError, Room, Tree, shown, size_of
from converters.formats import COMPILED, format_of, special_folder

_HEAD = 512
_WANTED = (
    "expected a checkpoint of torch.save (.pth, .pt, .tar), a .safetensors file or an .npz file"
)
_OTHER_FORMATS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras weights?)"),
    (b"\x1f\x8b", "gzip-compressed data; decompress it first"),
    (b"BZh", "bzip2-compressed data; decompress it first"),
    (b"\xfd7zXZ\x00", "xz-compressed data; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data; decompress it first"),
    (b"\x93NUMPY", "a single .npy array; save named arrays with numpy.savez"),
)
_READ_ELSEWHERE = {
    "tflite": "a TFLite model",
    "keras": "a Keras model (.keras)",
    "program": "a .pt2 of torch.export: a program, which converters.read_program reads and "
    "`ulsam-keras convert` converts",
}
_TEXT_BYTES = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


def open_binary(path: str | os.PathLike[str], wanted: str = _WANTED) -> BinaryIO:
    """Open a regular file for reading; OSError, which says what is wanted, for anything else."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        what = special_folder(path) or "a folder; name the file inside it"
        raise IsADirectoryError(errno.EISDIR, f"{wanted}. Received: {what}", os.fspath(path))
    if not stat.S_ISREG(mode):  # a pipe would block, a device may never end
        raise OSError(errno.EINVAL, f"Not a regular file; {wanted}", os.fspath(path))
    return open(path, "rb")


@contextmanager
def open_tree(path: str | os.PathLike[str], *, checksums: bool) -> Iterator[Tree]:
    """Read what a checkpoint holds; the tensors may be read as long as the context is open.

    Args:
        path: The file.
        checksums: Whether data in a zip archive are checked.

    Raises:
        OSError: There is no such file, it is a directory or it may not be read.
        ContentError: No format of ours, or damaged content.
    """
    with ExitStack() as opened:

        def read(path: str, read_shard: Callable[[str], Tree] | None = None) -> Tree:
            file = opened.enter_context(open_binary(path))
            if read_shard:  # an index has the room of its shards already
                room.grow(size_of(file))
            return _read(file, room, read_shard, checksums)

        room = Room(0)
        tree = read(os.fspath(path), read)
        if note := sharded.single(os.fspath(path)):
            tree.notes.append(note)
        yield tree


def _read(
    file: BinaryIO, room: Room, read_shard: Callable[[str], Tree] | None, checksums: bool
) -> Tree:
    """Choose the reader by content; shards have no shards."""
    head = file.read(_HEAD)
    file.seek(0)
    kind = format_of(file)
    if what := COMPILED.get(kind) or _READ_ELSEWHERE.get(kind):
        raise ContentError(f"{_WANTED}. Received: {what}")
    folder, name = os.path.split(os.fsdecode(file.name))
    is_part = name.endswith(".distcp") or name == ".metadata"
    if is_part and (what := special_folder(folder or ".")):
        raise ContentError(f"{_WANTED}. Received: a part of {what}")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        from converters.checkpoint import archive

        return archive.read_tree(file, room, checksums=checksums)
    if head[8:9] == b"{" and not _is_text(head[:8]):
        from converters.checkpoint import safetensors_file

        return safetensors_file.read_tree(file, room)
    if head.startswith(b"\x80"):
        from converters.checkpoint import torch_legacy

        return torch_legacy.read_tree(file, room)
    if name.endswith(".index.json") and read_shard:
        return sharded.read_tree(file, room, read_shard)
    raise ContentError(f"{_WANTED}. Received: {describe(file)}")


def _is_text(data: bytes) -> bool:
    return _TEXT_BYTES.issuperset(data)


def describe(file: BinaryIO) -> str:
    """Say what a file is that is none of those expected."""
    file.seek(0)
    head, size = file.read(_HEAD), size_of(file)
    for magic, description in _OTHER_FORMATS:
        if head.startswith(magic):
            return description
    if head[257:262] == b"ustar":
        member = head[:100].split(b"\0")[0]
        if member in {b"sys_info", b"pickle", b"tensors", b"storages"}:
            return (
                "the tar format of PyTorch before 0.1.10; load it with PyTorch and save the state "
                "dict again with torch.save"
            )
        return f"a tar archive (first member {shown(member.decode('latin-1'))}); unpack it first"
    if head[4:8] == b"TFL3":
        return "a TFLite model"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    if not head:
        return "an empty file"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, as a failed download leaves; download the file again"
    if _is_text(head):
        return f"a text file that begins {shown(head[:40].decode('ascii'))}"
    if not any(head):
        return f"{size} bytes that begin with zeros; the file was not written completely"
    return f"{size} bytes that begin {head[:8].hex(' ')}"
