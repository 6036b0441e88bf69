"""Zip archives: what is in them, and their members as arrays of bytes without a second copy.

May import NumPy, the directory's reader and, to hand over to, those of the two formats that are zip
archives.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from converters import zip_directory
from converters.checkpoint.content import ContentError, Room, Tree, read_into, shown, size_of

_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field
_MEMBER, _ARRAY = 600, 900  # bytes that knowing a member takes, and describing an array in it
# A deflated pickle may unpack to this and the size of the file: torch.save deflates none.
_LARGEST_PICKLE = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, UnicodeDecodeError)


class Archive:
    """The members of a zip archive, stored or deflated.

    Args:
        file: The open file.
        room: What reading it may take; by the file's size when None.
        checksums: Whether what is read is checked against its CRC where it is not compressed.

    Attributes:
        sizes: Unpacked size in bytes by member name, in the archive's order.
        room: What is left of it.
    """

    def __init__(self, file: BinaryIO, room: Room | None = None, *, checksums: bool = True):
        self._file = file
        self._checksums = checksums
        size = size_of(file)
        self.room = room or Room(size)
        self._members: dict[str, zip_directory.Member] = {}
        packed = 0
        with _damage_named():
            for member in zip_directory.members(file):
                self.room.take(_MEMBER + 4 * len(member.name))
                packed += member.packed
                if member.name in self._members:
                    raise ContentError(
                        "a zip archive with two members of one name; write the file again. "
                        f"Received: {shown(member.name)}"
                    )
                self._members[member.name] = member
        self.sizes = {name: member.size for name, member in self._members.items()}
        if packed > size:
            raise ContentError(
                "a zip archive whose members overlap; the file is damaged or malicious. "
                f"Received: {packed} bytes in {size}"
            )
        if sum(self.sizes.values()) - size > self.room.left:
            raise ContentError(
                "a zip archive that unpacks to much more than its size is refused; write it "
                f"uncompressed. Received: {sum(self.sizes.values())} bytes in {size}"
            )
        self.room.take(max(0, sum(self.sizes.values()) - size))

    def read(self, name: str) -> np.ndarray:
        """Read one member into an array of bytes of its own."""
        member = self._members[name]
        with _damage_named(name):
            if member.method == zip_directory.STORED:
                return self._read_stored(member)
            data, filled = np.empty(member.size, np.uint8), 0
            for chunk in self._inflate(member):
                if filled + len(chunk) > member.size:
                    raise EOFError(f"more than {member.size} bytes")
                data[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
                filled += len(chunk)
            if filled != member.size:
                raise EOFError(f"{filled} of {member.size} bytes")
            self._check(member, data)
            return data

    def part(self, name: str) -> BinaryIO:
        """Open one member, not compressed, as a file of its own; its CRC is not looked at."""
        member = self._members[name]
        with _damage_named(name):
            return io.BufferedReader(_Part(self, self._file, self._find(member), member.size))

    def stream(self, name: str) -> BinaryIO:
        """Open a pickle as a file of its own, in memory only if it is compressed."""
        member = self._members[name]
        if member.method == zip_directory.STORED:
            part = self.part(name)
            crc = 0
            while chunk := part.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
            with _damage_named(name):
                if member.crc and crc != member.crc:
                    raise zipfile.BadZipFile("the CRC differs")
            part.seek(0)
            return part
        if member.size > _LARGEST_PICKLE + size_of(self._file):
            raise ContentError(
                f"a compressed pickle of more than the file's size is refused; write {shown(name)} "
                f"uncompressed, as torch.save does. Received: {member.size} bytes"
            )
        self.room.take(member.size)
        return io.BytesIO(self.read(name).data)

    def head(self, name: str, count: int) -> bytes:
        """Read the first bytes of one member, fewer than `count` if it is shorter."""
        member = self._members[name]
        with _damage_named(name):
            if member.method == zip_directory.STORED:
                self._file.seek(self._find(member))
                return self._file.read(min(count, member.size))
            return next(self._inflate(member, count), b"")

    def _inflate(self, member: zip_directory.Member, most: int = _CHUNK) -> Iterator[bytes]:
        """Unpack a member piece by piece."""
        place = self._find(member)
        stream, left = zlib.decompressobj(-zlib.MAX_WBITS), member.packed
        while not stream.eof:
            packed = stream.unconsumed_tail
            if not packed:
                self._file.seek(place)
                packed = self._file.read(min(left, _CHUNK))
                place, left = place + len(packed), left - len(packed)
                if not packed:
                    yield stream.flush()
                    return
            if data := stream.decompress(packed, most):
                yield data

    def _check(self, member: zip_directory.Member, data: np.ndarray) -> None:
        # torch.serialization.set_crc32_options(False) writes zeros in place of the CRCs.
        if member.crc and zlib.crc32(data.data) != member.crc:
            raise zipfile.BadZipFile("the CRC differs")

    def _read_stored(self, member: zip_directory.Member) -> np.ndarray:
        """Read straight into the array."""
        self._file.seek(self._find(member))
        data = read_into(self._file, member.size)
        if self._checksums:
            self._check(member, data)
        return data

    def _find(self, member: zip_directory.Member) -> int:
        """Find where the data of a member begin."""
        if member.method not in (zip_directory.STORED, zip_directory.DEFLATED):
            raise zipfile.BadZipFile("compressed in another way than by deflating")
        stored = member.method == zip_directory.STORED
        if member.flags & zip_directory.ENCRYPTED or (stored and member.packed != member.size):
            raise zipfile.BadZipFile("encrypted, or stored with two sizes")
        self._file.seek(min(member.offset, size_of(self._file)))
        head = self._file.read(_LOCAL_HEADER.size)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(head)
        if signature != b"PK\x03\x04":
            raise zipfile.BadZipFile("no local header")
        return member.offset + _LOCAL_HEADER.size + name_length + extra_length


class _Part(io.RawIOBase):
    """A run of bytes of a file, as a file."""

    def __init__(self, owner: object, file: BinaryIO, start: int, size: int):
        self._owner = owner  # the file is open as long as its archive is there
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        read = self._file.readinto(memoryview(buffer)[:count])  # type: ignore[attr-defined]
        self._position += read
        return read


def read_tree(file: BinaryIO, room: Room, *, checksums: bool) -> Tree:
    """Read a zip archive with the reader that its members ask for."""
    from converters.checkpoint import npz_file, torch_zip

    archive = Archive(file, room, checksums=checksums)
    names = list(archive.sizes)
    tops = {name.split("/")[-1] if name.count("/") == 1 else name for name in names}
    if names and all(name.endswith(".npy") for name in names):
        room.take(_ARRAY * len(names))
        arrays = npz_file.read_tree(archive)
        return Tree(arrays, room, list(arrays.values()))
    if "data.pkl" in tops:
        return torch_zip.read_tree(archive)
    raise ContentError(
        "expected a zip archive with data.pkl (torch.save) or .npy members (.npz). "
        f"Received: members {shown(names[:4])}"
    )


@contextmanager
def _damage_named(name: str | None = None) -> Iterator[None]:
    try:
        yield
    except ContentError:
        raise
    except _DAMAGE as error:
        where = f" at {shown(name)}" if name else ""
        raise ContentError(
            f"a damaged or incomplete zip archive{where}; get the file again. "
            f"Received: {shown(str(error))}"
        ) from None
