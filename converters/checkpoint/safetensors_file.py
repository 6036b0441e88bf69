"""safetensors: the library reads and checks the header, this file the bytes.

The library's own arrays know no float8, and reading through its memory map counts every byte twice.
The format leaves no holes between tensors, so their order and sizes give their places.
"""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import numpy as np

from converters.checkpoint.content import ContentError, LazyTensor, read_into, shown
from converters.checkpoint.dtypes import SAFETENSORS_DTYPES


@contextmanager
def open_safetensors(file: BinaryIO) -> Iterator[dict[str, LazyTensor]]:
    """Describe every tensor of a safetensors file by its name.

    Raises:
        ContentError: The header is not valid, does not fit the file or has an unknown dtype.
    """
    from safetensors import SafetensorError, safe_open

    position = 8 + struct.unpack("<Q", file.read(8))[0]
    tree = {}
    try:
        with safe_open(os.fsdecode(file.name), framework="numpy") as header:
            for name in header.offset_keys():
                tensor = header.get_slice(name)
                kind, shape = tensor.get_dtype(), tuple(tensor.get_shape())
                if kind not in SAFETENSORS_DTYPES:
                    raise ContentError(
                        f"no NumPy array can hold safetensors dtype {kind}. Received: {shown(name)}"
                    )
                dtype = SAFETENSORS_DTYPES[kind]
                tree[name] = LazyTensor(shape, dtype, partial(_read, file, position, dtype, shape))
                position += math.prod(shape) * dtype.itemsize
    except SafetensorError as error:
        raise ContentError(
            f"a damaged or incomplete safetensors file; get it again. Received: {shown(str(error))}"
        ) from None
    if position != os.fstat(file.fileno()).st_size:
        raise ContentError(
            f"a safetensors file of {position} bytes by its header; get it again. "
            f"Received: {os.fstat(file.fileno()).st_size} bytes"
        )
    yield tree


def _read(file: BinaryIO, position: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    file.seek(position)
    return np.ndarray(shape, dtype, read_into(file, math.prod(shape) * dtype.itemsize))
