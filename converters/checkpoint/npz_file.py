"""NumPy's .npz: the .npy header of every member first, the data when asked for.

Not ``numpy.load``: it would trust a header's size before it sees the data, and keep a second copy.
May import NumPy.
"""

import io
import math
from collections.abc import Mapping
from functools import partial
from tokenize import TokenError
from typing import Protocol

import numpy as np
from numpy.lib import format as npy

from converters.checkpoint.content import ContentError, LazyTensor, UnsupportedTensor, shown

_LONGEST_HEADER = 1 << 14  # numpy refuses headers above 10 000 characters
_KINDS = "biufc"


class Members(Protocol):
    """What is read of an archive."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by the member's name."""

    def head(self, name: str, count: int) -> bytes:
        """Give the first bytes of a member."""

    def read(self, name: str) -> np.ndarray:
        """Give the bytes of a member."""


def read_tree(archive: Members) -> dict[str, LazyTensor | UnsupportedTensor]:
    """Describe every array of an .npz archive by its name.

    Raises:
        ContentError: A member is not an .npy array of the size that its header gives.
    """
    return {name.removesuffix(".npy"): _describe(archive, name) for name in archive.sizes}


def _describe(archive: Members, name: str) -> LazyTensor | UnsupportedTensor:
    stream = io.BytesIO(archive.head(name, _LONGEST_HEADER))
    try:
        version = npy.read_magic(stream)
        if version not in {(1, 0), (2, 0)}:  # 3.0 is for field names outside Latin-1
            raise ValueError(f".npy version {version}")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
        raise ContentError(
            f"expected an .npy array (format 1.0 or 2.0) at {shown(name)}; save it anew with "
            f"numpy.savez. Received: {shown(stream.getvalue()[:40].decode('latin-1'))}"
        ) from None
    if dtype.kind not in _KINDS:
        return UnsupportedTensor(
            f"an .npy array of dtype {dtype.str}",
            # numpy.savez writes the dtypes of ml_dtypes as raw bytes without their name.
            "save numbers that NumPy knows, and bfloat16 as float32 or in .safetensors",
        )
    start = stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != (
        archive.sizes[name] - start
    ):
        raise ContentError(
            f"an .npy array of shape {shown(shape)} and dtype {dtype.str} does not fill its "
            f"member; get the file again. Received: {archive.sizes[name] - start} bytes at "
            f"{shown(name)}"
        )
    return LazyTensor(
        shape,
        dtype.newbyteorder("="),
        partial(_read, archive, name, start, dtype, shape, fortran_order),
    )


def _read(
    archive: Members,
    name: str,
    start: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    fortran_order: bool,
) -> np.ndarray:
    array = np.ndarray(
        shape, dtype, archive.read(name), offset=start, order="F" if fortran_order else "C"
    )
    return array.astype(dtype.newbyteorder("="), order="K", copy=False)
