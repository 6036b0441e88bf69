"""Runs of bytes that a pickle spells out, left in the file until they are wanted.

May import NumPy.
"""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from converters.checkpoint.content import ContentError

_CHUNK = 1 << 20


class Span:
    """A long string of a pickle: the data of an array, for names are short.

    Args:
        stream: Where the pickle lies.
        start: Its position there.
        size: Its bytes there.
    """

    __slots__ = ("_stream", "_start", "_size", "_text", "_length", "_data", "_encoded")

    def __init__(self, stream: BinaryIO, start: int, size: int):
        self._stream, self._start, self._size = stream, start, size
        self._text = False
        self._length = size
        self._data: np.ndarray | None = None
        self._encoded: Span | None = None

    def __len__(self) -> int:
        return self._length

    def encoded(self) -> "Span":
        """The bytes that these spell as text of Latin-1, which is how protocol 2 has bytes."""
        if self._encoded is None:
            span = self._encoded = Span(self._stream, self._start, self._size)
            span._text = True
            position = self._stream.tell()
            span._length = sum(
                int(np.count_nonzero((np.frombuffer(chunk, np.uint8) & 0xC0) != 0x80))
                for chunk in self._chunks()
            )
            self._stream.seek(position)
        return self._encoded

    def read(self) -> np.ndarray:
        """The bytes as an array of their own, the same each time.

        Raises:
            ContentError: They are not what they were said to be.
        """
        if self._data is None:
            data, filled = np.empty(self._length, np.uint8), 0
            for chunk in self._latin1() if self._text else self._chunks():
                if filled + len(chunk) > self._length:
                    break
                data[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
                filled += len(chunk)
            if filled != self._length:
                raise ContentError(
                    "an array inside the pickle is damaged; get the file again. "
                    f"Received: {filled} of {self._length} bytes"
                )
            self._data = data
        return self._data

    def _chunks(self) -> Iterator[bytes]:
        self._stream.seek(self._start)
        left = self._size
        while left and (chunk := self._stream.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk

    def _latin1(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for chunk in self._chunks():
                yield decoder.decode(chunk).encode("latin-1")
        except UnicodeError:
            raise ContentError(
                "an array inside the pickle is no Latin-1 text; get the file again"
            ) from None
