"""What is in a zip archive, by its directory, one member at a time.

`zipfile` makes some kilobyte of objects for every 46 bytes of a directory before anything can be
looked at. Imports the standard library only.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile

STORED, DEFLATED = 0, 8
ENCRYPTED = 0x1
_UTF8 = 0x800
# Signatures, and behind them only what is of use.
_ENTRY = struct.Struct("<4s4x2H4x3L3H8xL")
_END = struct.Struct("<4s8x2LH")
_LOCATOR = struct.Struct("<4s4xQ4x")
_END_64 = struct.Struct("<4s36x2Q")
_LONGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
_LONGEST_NAME = 1024
_BUFFER = 1 << 16


class Member(NamedTuple):
    """A member as the directory has it: sizes in bytes, and where its local header is."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def members(file: BinaryIO) -> Iterator[Member]:
    """Read the directory of a zip archive. The file must be left where it is meanwhile.

    Raises:
        BadZipFile: There is none, or it is damaged.
    """
    start, length = _directory(file)
    file.seek(start)
    buffer, position = b"", 0

    def take(count: int) -> bytes:
        nonlocal buffer, position, length
        if count > length:
            raise BadZipFile("the directory ends inside a member")
        length -= count
        if position + count > len(buffer):
            buffer, position = buffer[position:] + file.read(max(count, _BUFFER)), 0
        position += count
        return buffer[position - count : position]

    while length:
        head = _ENTRY.unpack(take(_ENTRY.size))
        signature, flags, method, crc, packed, size, name, extra, comment, offset = head
        if signature != b"PK\x01\x02":
            raise BadZipFile("no member where the directory has one")
        if name > _LONGEST_NAME:
            raise BadZipFile(f"a member's name of {name} bytes")
        text = take(name).decode("utf-8" if flags & _UTF8 else "cp437")
        fields = take(extra)
        take(comment)
        if _IN_EXTRA in (packed, size, offset):
            size, packed, offset = _large(fields, size, packed, offset)
        yield Member(text, flags, method, crc, packed, size, offset)


def _directory(file: BinaryIO) -> tuple[int, int]:
    """Find where the directory begins, and its length."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - _LONGEST_COMMENT - _END.size)
    file.seek(start)
    tail = file.read(end - start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise BadZipFile("no directory at the end")
    _, length, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    if end >= _LOCATOR.size:
        file.seek(end - _LOCATOR.size)
        signature, place = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if signature == b"PK\x06\x07":
            end -= _LOCATOR.size
            file.seek(min(place, end))
            record = file.read(_END_64.size)
            if len(record) != _END_64.size or not record.startswith(b"PK\x06\x06"):
                raise BadZipFile("no directory where its locator points")
            _, length, offset = _END_64.unpack(record)
    if offset + length > end:
        raise BadZipFile("a directory beyond the end")
    return offset, length


def _large(fields: bytes, *sizes: int) -> Iterator[int]:
    """Take those sizes from the extra field that the directory has no room for."""
    values = b""
    while len(fields) >= 4:
        kind, count = struct.unpack_from("<2H", fields)
        if kind == 1:
            values = fields[4 : 4 + count]
        fields = fields[4 + count :]
    for size in sizes:
        if size == _IN_EXTRA:
            if len(values) < 8:
                raise BadZipFile("a large member without its size")
            size, values = int.from_bytes(values[:8], "little"), values[8:]
        yield size
