"""NumPy arrays and scalars inside pickles, of NumPy 1 and 2 and every protocol.

May import NumPy. Arrays of objects are no arrays here: they have no data, only more pickle.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    UnsupportedTensor,
    is_shape,
    shown,
)
from converters.checkpoint.spans import Span
from converters.checkpoint.unpickler import INERT, Global, Inert, Object, Unbuilt, Unpickler

_NUMBERS = re.compile(r"[biufc](1|2|4|8|16)")
_NO_WEIGHTS = re.compile(r"[USTMmO]\d*")  # text, dates, objects
_COST = 700  # bytes that describing an array takes


class _Dtype(Inert):
    """A dtype while its pickle builds it: numpy.dtype('f4', False, True), then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str):
        self.code = code
        self.order = "="

    def numpy(self) -> np.dtype | None:
        """Give the dtype, or None for one that is no number."""
        return np.dtype(self.order + self.code) if _NUMBERS.fullmatch(self.code) else None


def set_state(unpickler: Unpickler, target: Any, state: Any) -> Any:
    """Give a dtype its byte order, and an array its shape and data."""
    if isinstance(target, _Dtype):
        # (version, byte order, subdtype, names, fields, size, alignment, flags)
        order, names = state[1], state[3]
        if names is not None or order not in ("<", ">", "|", "="):
            target.code = "V"  # a record
        else:
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
    unpickler.room.take(_COST)
    kind = dtype.numpy()
    if kind is None:
        if isinstance(data, list) or _NO_WEIGHTS.fullmatch(dtype.code):
            return Object(Global("numpy", "ndarray"), data)
        what = UnsupportedTensor(f"a NumPy array of dtype {shown(dtype.code)}")
        unpickler.made.append(what)
        return what
    if isinstance(data, str):  # Python 2 bytes that happened to be UTF-8
        data = data.encode("utf-8", "surrogatepass")
    if not (
        isinstance(data, bytes | Span)
        and isinstance(shape, tuple)
        and is_shape(shape)
        and order in ("C", "F")
        and math.prod(shape) * kind.itemsize == len(data)
    ):
        raise ContentError(
            "a NumPy array whose data does not fill its shape; the file is damaged or malicious. "
            f"Received: shape {shown(shape)}"
        )
    # Arrays that are made of one run of bytes share it, unless they have to be copies.
    if isinstance(data, bytes) or not kind.isnative:
        unpickler.room.take(len(data))

    def read() -> np.ndarray:
        buffer = data.read() if isinstance(data, Span) else bytearray(data)
        return np.ndarray(shape, kind, buffer, order=order).astype(
            kind.newbyteorder("="), order="K", copy=False
        )

    place = (("array", id(data)), shape, kind.str, order)
    tensor = LazyTensor(shape, kind.newbyteorder("="), read, place)
    unpickler.made.append(tensor)
    return tensor


def _dtype(unpickler: Unpickler, code: Any, *_: Any) -> _Dtype:
    return _Dtype(code if isinstance(code, str) else "V")


def _scalar(unpickler: Unpickler, dtype: Any, *_: Any) -> Inert:
    if not isinstance(dtype, _Dtype):
        raise TypeError("a NumPy scalar without a dtype")
    return INERT


def _encode(unpickler: Unpickler, text: Any, encoding: Any = None) -> Any:
    """_codecs.encode, which is how protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str | Span):
        return INERT
    if isinstance(text, Span):
        return text.encoded()
    unpickler.room.take(len(text))
    return text.encode("latin-1")


def _bytes(unpickler: Unpickler, data: Any = b"", encoding: Any = None) -> Any:
    if isinstance(data, str) or encoding is not None:
        return _encode(unpickler, data, encoding)
    if not isinstance(data, bytes | Span):
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
