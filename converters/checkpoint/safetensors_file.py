"""safetensors: a length, a header of JSON, and the tensors one behind another.

The format allows no holes and no overlaps, so every byte is one tensor's. The library of that name
would keep the file mapped, count every byte twice and let a header ask for any amount of memory.
May import NumPy.
"""

import math
import os
import struct
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from converters.checkpoint import json_header
from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    Room,
    Tree,
    is_shape,
    read_into,
    shown,
)
from converters.checkpoint.dtypes import SAFETENSORS_DTYPES

_COST = 700  # bytes that describing a tensor takes


def read_tree(file: BinaryIO, room: Room) -> Tree:
    """Describe every tensor of a safetensors file by its name, in the order of the data.

    Raises:
        ContentError: The header is not valid, does not fit the file or has an unknown dtype.
    """
    size = os.fstat(file.fileno()).st_size
    start = 8 + struct.unpack("<Q", file.read(8))[0]
    if start > size:
        raise ContentError(
            f"a damaged or incomplete safetensors file, whose header ends at {start}; get it "
            f"again. Received: {size} bytes"
        )
    room.take(start * (1 + json_header.OBJECTS))
    header = json_header.parse(file.read(start - 8), "the header of a safetensors file")
    header.pop("__metadata__", None)
    entries = sorted((_entry(name, entry) for name, entry in header.items()), key=lambda e: e[:2])
    tree, position = {}, 0
    for begin, end, name, dtype, shape in entries:
        room.take(_COST)
        if begin != position or end != position + math.prod(shape) * dtype.itemsize:
            raise ContentError(
                f"the header of a safetensors file puts {shown(name)} where it is not; the file is "
                f"damaged or malicious. Received: {begin} to {end}, {dtype.name} {shown(shape)}"
            )
        position = end
        tree[name] = LazyTensor(shape, dtype, partial(_read, file, start + begin, dtype, shape))
    if start + position != size:
        raise ContentError(
            f"a safetensors file of {start + position} bytes by its header; get it again. "
            f"Received: {size} bytes"
        )
    return Tree(tree, room, list(tree.values()))


def _entry(name: str, entry: Any) -> tuple[int, int, str, np.dtype, tuple[int, ...]]:
    """Take an entry of the header apart."""
    match entry:
        case {"dtype": str() as kind, "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            if is_shape(shape):
                if kind in SAFETENSORS_DTYPES:
                    return begin, end, name, SAFETENSORS_DTYPES[kind], tuple(shape)
                raise ContentError(
                    f"no NumPy array can hold safetensors dtype {shown(kind)}. "
                    f"Received: {shown(name)}"
                )
    raise ContentError(
        "the header of a safetensors file has no dtype, shape and place of a tensor; the file is "
        f"damaged or malicious. Received: {shown(name)}"
    )


def _read(file: BinaryIO, position: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    file.seek(position)
    return np.ndarray(shape, dtype, read_into(file, math.prod(shape) * dtype.itemsize))
