"""Zip archives: what is in them, and their members as arrays of bytes without a second copy.

May import NumPy and, to hand over to, the readers of the two formats that are zip archives.
"""

import io
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from converters.checkpoint.content import ContentError, read_into, shown, size_of

# An archive may unpack to 20 times its size, and to 1 GiB in any case: weights hardly compress.
_MAX_RATIO, _ALWAYS_ALLOWED = 20, 1 << 30
_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field
_ENCRYPTED = 0x1
# What zipfile raises for damaged archives besides BadZipFile; fuzzing found them.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, IndexError, KeyError, RuntimeError),
)


class Archive:
    """The members of a zip archive, stored or deflated, checked against their CRC.

    Args:
        file: The open file.

    Attributes:
        sizes: Unpacked size in bytes by member name, in the archive's order.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        with _damage_named():
            self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        self._members = {member.filename: member for member in members}
        self.sizes = {member.filename: member.file_size for member in members}
        if len(self._members) != len(members):
            twice = next(
                n for n, count in Counter(m.filename for m in members).items() if count > 1
            )
            raise ContentError(
                "a zip archive with two members of one name; write the file again. "
                f"Received: {shown(twice)}"
            )
        size, unpacked = size_of(file), sum(self.sizes.values())
        if unpacked > max(_MAX_RATIO * size, _ALWAYS_ALLOWED):
            raise ContentError(
                f"a zip archive that unpacks to more than {_MAX_RATIO} times its size is refused; "
                f"write it uncompressed. Received: {unpacked} bytes in {size}"
            )

    def read(self, name: str) -> np.ndarray:
        """Read one member into an array of bytes of its own."""
        member = self._members[name]
        with _damage_named(name):
            if member.compress_type == zipfile.ZIP_STORED:
                return self._read_stored(member)
            with self._zip.open(member) as stream:
                data = bytearray()  # grows with what there is, whatever the directory promises
                while chunk := stream.read(_CHUNK):
                    data += chunk
            if len(data) != member.file_size:
                raise EOFError(f"{len(data)} of {member.file_size} bytes")
            return np.frombuffer(data, np.uint8)

    def part(self, name: str) -> BinaryIO:
        """Open one member, not compressed, as a file of its own; its CRC is not looked at."""
        member = self._members[name]
        with _damage_named(name):
            return io.BufferedReader(_Part(self, self._file, self._find(member), member.file_size))

    def head(self, name: str, count: int) -> bytes:
        """Read the first bytes of one member, fewer than `count` if it is shorter."""
        with _damage_named(name), self._zip.open(self._members[name]) as stream:
            return stream.read(count)

    def _read_stored(self, member: zipfile.ZipInfo) -> np.ndarray:
        """Read straight into the array; zipfile would copy, and cannot skip a CRC not written."""
        self._file.seek(self._find(member))
        data = read_into(self._file, member.file_size)
        # torch.serialization.set_crc32_options(False) writes zeros in place of the CRCs.
        if member.CRC and zlib.crc32(data.data) != member.CRC:
            raise zipfile.BadZipFile("the CRC differs")
        return data

    def _find(self, member: zipfile.ZipInfo) -> int:
        """Find where the data of a member begin that is not compressed."""
        if member.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile("expected a member that is not compressed")
        if member.flag_bits & _ENCRYPTED or member.compress_size != member.file_size:
            raise zipfile.BadZipFile("encrypted, or stored with two sizes")
        self._file.seek(member.header_offset)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(
            self._file.read(_LOCAL_HEADER.size)
        )
        if signature != b"PK\x03\x04":
            raise zipfile.BadZipFile("no local header")
        return member.header_offset + _LOCAL_HEADER.size + name_length + extra_length


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


@contextmanager
def open_archive(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Open a zip archive with the reader that its members ask for."""
    from converters.checkpoint import npz_file, torch_zip

    archive = Archive(file)
    names = list(archive.sizes)
    tops = {name.split("/")[-1] if name.count("/") == 1 else name for name in names}
    if names and all(name.endswith(".npy") for name in names):
        yield npz_file.read_tree(archive)
    elif "data.pkl" in tops:
        yield torch_zip.read_tree(archive)
    elif {"models/model.json", "serialized_exported_program.json"} & {
        *names,
        *(name.partition("/")[2] for name in names),
    }:
        raise ContentError(
            "expected a checkpoint; converters.read_program reads a program, and "
            "`ulsam-keras convert` converts one. Received: a .pt2 of torch.export"
        )
    elif {"config.json", "model.weights.h5"} <= tops:
        raise ContentError(
            "expected a checkpoint of torch.save, .safetensors or .npz. "
            "Received: a Keras model (.keras)"
        )
    else:
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
