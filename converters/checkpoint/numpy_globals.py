"""NumPy arrays and scalars inside pickles, of NumPy 1 and 2 and every protocol.

May import NumPy. Arrays of objects are refused: they have no data, only more pickle.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from converters.checkpoint.content import ContentError, LazyTensor, shown
from converters.checkpoint.unpickler import INERT, Inert, Unbuilt, Unpickler

_NUMBERS = re.compile(r"[biufc](1|2|4|8|16)")
_HARMLESS = re.compile(r"[USMm]\d*")  # text, dates: admitted, of no use as weights
_MOST_DIMENSIONS = 32


class _Dtype(Inert):
    """A dtype while its pickle builds it: numpy.dtype('f4', False, True), then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str):
        self.code = code
        self.order = "="

    def numpy(self) -> np.dtype | None:
        """Give the dtype, or None for one that is no number."""
        return np.dtype(self.order + self.code) if _NUMBERS.fullmatch(self.code) else None


class Bytes:
    """Bytes that the pickle spells as text in Latin-1, encoded when they are wanted."""

    __slots__ = ("_text", "_data")

    def __init__(self, text: str):
        self._text = text
        self._data: bytes | None = None

    def __len__(self) -> int:
        return len(self._text)

    def __bytes__(self) -> bytes:
        if self._data is None:
            self._data = self._text.encode("latin-1")
        return self._data


def set_state(unpickler: Unpickler, target: Any, state: Any) -> Any:
    """Give a dtype its byte order, and an array its shape and data."""
    if isinstance(target, _Dtype):
        # (version, byte order, subdtype, names, fields, size, alignment, flags)
        order, names = state[1], state[3]
        if names is not None or order not in ("<", ">", "|", "="):
            raise _refusal(target.code)
        target.order = order
        return None
    if not isinstance(target, _Unbuilt):
        return None
    # (version, shape, dtype, Fortran order, data); before version 1 without the version
    shape, dtype, fortran_order, data = state[-4:]
    return _array(unpickler, data, dtype, shape, "F" if fortran_order else "C")


class _Unbuilt(Unbuilt):
    """What _reconstruct(numpy.ndarray, (0,), b'b') makes."""

    __slots__ = ()


def _array(unpickler: Unpickler, data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, _Dtype):
        raise TypeError("an array without a dtype")
    if isinstance(data, list):
        raise _refusal("O")
    kind = dtype.numpy()
    if kind is None:
        return INERT
    if isinstance(data, str):  # Python 2 bytes that happened to be UTF-8
        data = data.encode("utf-8", "surrogatepass")
    if not (
        isinstance(data, bytes | Bytes)
        and isinstance(shape, tuple)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(n) is int and n >= 0 for n in shape)
        and order in ("C", "F")
        and math.prod(shape) * kind.itemsize == len(data)
    ):
        raise ContentError(
            "a NumPy array whose data does not fill its shape; the file is damaged or malicious. "
            f"Received: shape {shown(shape)}"
        )
    # Many arrays may be made of one run of bytes: what they would take together is limited.
    unpickler.spend(len(data) // 64)

    def read() -> np.ndarray:
        array = np.ndarray(shape, kind, bytes(data), order=order)
        return array.astype(kind.newbyteorder("="), order="K")

    return LazyTensor(shape, kind.newbyteorder("="), read)


def _dtype(unpickler: Unpickler, code: Any, *_: Any) -> _Dtype:
    if not isinstance(code, str) or not (_NUMBERS.fullmatch(code) or _HARMLESS.fullmatch(code)):
        raise _refusal(code)
    return _Dtype(code)


def _refusal(code: Any) -> ContentError:
    return ContentError(
        "a NumPy array or scalar that holds no numbers is refused; save only the tensors. "
        f"Received: numpy.dtype {shown(code)}"
    )


def _scalar(unpickler: Unpickler, dtype: Any, *_: Any) -> Inert:
    if not isinstance(dtype, _Dtype):
        raise TypeError("a NumPy scalar without a dtype")
    return INERT


def _encode(unpickler: Unpickler, text: Any, encoding: Any = None) -> Bytes:
    """_codecs.encode, which is how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ContentError(
            f"expected _codecs.encode(text, 'latin1'). Received: encoding {shown(encoding)}"
        )
    return Bytes(text)


def _bytes(unpickler: Unpickler, data: Any = b"", encoding: Any = None) -> bytes | Bytes:
    if isinstance(data, str):
        return _encode(unpickler, data, encoding)
    if not isinstance(data, bytes | Bytes):
        raise TypeError("bytes of what is neither bytes nor text")
    return data


_CORES = ("numpy.core", "numpy._core")
NUMPY_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): None,
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.multiarray", "_reconstruct"): lambda *_: _Unbuilt() for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _array for core in _CORES},
    ("_codecs", "encode"): _encode,
    **{
        (module, name): _bytes
        for module in ("builtins", "__builtin__")
        for name in ("bytes", "bytearray")
    },
}
