"""Operators of integers that copy bytes, whatever their result's steps say.

Seen of each kernel of the CPU with a result of another scale: these copy or refuse the file. The
GPU delegate computes in numbers, and rescales.

Imports the flatbuffer reader and NumPy.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor

_ALL = slice(None)
# Where operators have what they copy, if it is not their first input.
_COPIED = {
    "SPLIT": slice(1, 2), "SELECT": slice(1, 3), "SELECT_V2": slice(1, 3),
    "DYNAMIC_UPDATE_SLICE": slice(0, 2), "CONCATENATION": _ALL, "PACK": _ALL, "MAXIMUM": _ALL,
    "MINIMUM": _ALL,
    **dict.fromkeys(
        (
            "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "DEPTH_TO_SPACE", "EXPAND_DIMS",
            "GATHER", "GATHER_ND", "MAX_POOL_2D", "MIRROR_PAD", "PAD", "PADV2", "REDUCE_MAX",
            "REDUCE_MIN", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2",
            "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE",
            "TILE", "TRANSPOSE", "UNPACK",
        ),
        slice(0, 1),
    ),
}  # fmt: skip
_INTEGERS = ("INT8", "UINT8", "INT16")
# Of a step: what kernels take for rounding.
_SAME = 1e-5


def copied(operator: Operator) -> list[Tensor]:
    """What an operator copies, if it is of integers with steps."""
    tensors = [t for t in operator.inputs[_COPIED.get(operator.name, slice(0))] if t is not None]
    ends = (*tensors, *operator.outputs)
    return tensors if all(t.dtype in _INTEGERS and len(t.scales) == 1 for t in ends) else []


def mistaken(operator: Operator) -> list[Tensor]:
    """The tensors of other steps than the first that an operator copies."""
    tensors = copied(operator)
    return [t for t in (*tensors, *operator.outputs) if tensors and not _alike(t, tensors[0])]


def _alike(one: Tensor, two: Tensor) -> bool:
    near = np.isclose(one.scales[0], two.scales[0], rtol=_SAME, atol=0)
    return bool(near) and one.zero_points[:1] == two.zero_points[:1]
