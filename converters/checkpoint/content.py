"""What the readers of all formats hand over, and how they say that content is bad.

May import NumPy only.
"""

import math
import os
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

_SHOWN = 80
_MOST_DIMENSIONS = 32  # NumPy 1's limit; NumPy 2 has 64
# What reading may take beside the data of tensors, in bytes; an eighth of the file more.
_ROOM = 48 << 20


class ContentError(ValueError):
    """The content of a checkpoint cannot be used; the message is a single line without the path."""


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give every content error the file's name: a ValueError of one cause."""
    try:
        yield
    except ContentError as error:
        raise ValueError(f"{os.fspath(path)!r}: {error}") from None


class Room:
    """Memory for what a file describes, so that no file can ask for more than its size covers.

    Readers take from it what their objects cost before they make them, and give nothing back; the
    data of tensors, which lie in the file, cost nothing.

    Args:
        size: Bytes of the file.
        spare: Bytes that are there in any case.
    """

    __slots__ = ("left", "_size")

    def __init__(self, size: int, spare: int = _ROOM):
        self._size = size
        self.left = spare + size // 8

    def grow(self, size: int) -> None:
        """Add what another file of the same checkpoint gives."""
        self._size += size
        self.left += size // 8

    def take(self, count: int) -> None:
        """Take some bytes.

        Raises:
            ContentError: There are not so many.
        """
        self.left -= count
        if self.left < 0:
            raise ContentError(
                "describes more than a file of its size may: it is refused before it fills the "
                "memory. Save only model.state_dict(), uncompressed, or distrust the file. "
                f"Received: {self._size} bytes"
            )


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor whose data is still in the file.

    Attributes:
        shape: Shape.
        dtype: NumPy dtype of the array that ``read`` gives.
        read: Reads the data; valid while the file is open.
        place: Where the data lie; that of two tensors is the same if they are one. None: unknown.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    place: Hashable = None

    def __post_init__(self) -> None:
        # NumPy leaves out axes of length 0 when it asks whether an array is too big.
        if math.prod(max(n, 1) for n in self.shape) * self.dtype.itemsize > sys.maxsize:
            raise ContentError(
                "a tensor of an impossible shape; the file is damaged or malicious. "
                f"Received: shape {shown(self.shape)}"
            )


@dataclass(frozen=True, slots=True)
class UnsupportedTensor:
    """A tensor of a kind that NumPy has no array for. An error only if it is asked for.

    Attributes:
        kind: What it is, as a noun phrase with the responsible name in it.
        advice: What to do instead.
        parts: What it is made of, among it the tensors that it accounts for.
    """

    kind: str
    advice: str = "save the state dict of the dense float model"
    parts: tuple[Any, ...] = ()


@dataclass(slots=True)
class Tree:
    """The content of a checkpoint.

    Attributes:
        root: Nested dicts, with tensors among the values.
        room: What is left of the memory that the file may take.
        made: Every tensor in the file, wherever it is.
        unknown: Names of classes and functions that were passed over.
        notes: What else is to be known of it, one line each.
    """

    root: Any
    room: Room
    made: list[LazyTensor | UnsupportedTensor] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_shape(value: object) -> bool:
    """Say whether these are sizes, or strides, that an array can have; of a list or a tuple."""
    return (
        isinstance(value, list | tuple)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(n) is int and n >= 0 for n in value)
    )


def shown(value: object) -> str:
    """Give a value from a file as short, single-line, printable text.

    Not `repr`: that of nested tuples which share their parts would never end.
    """
    if isinstance(value, str):
        return ascii(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
    if isinstance(value, int) and abs(value) < 1 << 64:
        return str(value)
    if isinstance(value, tuple | list):
        items = [shown(v) if isinstance(v, str | int) else type(v).__name__ for v in value[:8]]
        return f"({', '.join(items)}{', ...' if len(value) > 8 else ''})"
    return f"a {type(value).__name__}"


def listing(names: Sequence[str], most: int) -> str:
    """Join names to a line, of which there may be many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def alike(place: str) -> str:
    """A dotted place with its numbers left open, so that layers alike are one."""
    return ".".join("*" if part.isdigit() else part for part in place.split(".")) or "."


def refused(names: Sequence[str], problem: str) -> ContentError:
    """The refusal of a file that names classes and functions which are not known."""
    return ContentError(
        "the pickle asks for what no state dict needs; nothing of it was executed. Save only "
        "model.state_dict() with torch.save, or distrust the file. "
        f"Received: {listing(names, 3)}; {problem}"
    )


def size_of(file: BinaryIO) -> int:
    """Say how long a file is, keeping its position; a part of a file (`Archive.part`) too."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


def read_into(file: BinaryIO, count: int) -> np.ndarray:
    """Read exactly `count` bytes from a file's position into an array of their own.

    Raises:
        ContentError: The file ends before. Nothing is allocated then.
    """
    left = size_of(file) - file.tell()
    if not 0 <= count <= left:
        raise ContentError(
            f"the file is incomplete: expected {count} more bytes at {file.tell()}; get it again. "
            f"Received: {left}"
        )
    data = np.empty(count, np.uint8)
    if count and file.readinto(data.data) != count:  # type: ignore[attr-defined]
        raise ContentError("the file became shorter while it was read; read it again")
    return data
