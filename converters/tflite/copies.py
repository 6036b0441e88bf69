"""Operators of integers that copy bytes, whatever their result's steps say.

Seen of each kernel of the CPU with a result of another scale: these copy or refuse the file. The
GPU delegate computes in numbers, and rescales.

Imports the flatbuffer reader and NumPy.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor

_ALL = slice(None)
# Where operators have what they copy: those in which several tensors meet, and all others.
MEETING = {
    "CONCATENATION": _ALL, "DYNAMIC_UPDATE_SLICE": slice(0, 2), "MAXIMUM": _ALL, "MINIMUM": _ALL,
    "PACK": _ALL, "PADV2": slice(0, 3, 2), "SELECT": slice(1, 3), "SELECT_V2": slice(1, 3),
}  # fmt: skip
_COPIED = {
    **MEETING,
    "SPLIT": slice(1, 2),
    **dict.fromkeys(
        (
            "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "DEPTH_TO_SPACE", "EXPAND_DIMS",
            "GATHER", "GATHER_ND", "MAX_POOL_2D", "MIRROR_PAD", "PAD", "REDUCE_MAX",
            "REDUCE_MIN", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2",
            "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE",
            "TILE", "TOPK_V2", "TRANSPOSE", "UNPACK",
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
    ends = (*tensors, *copies(operator))
    return tensors if all(t.dtype in _INTEGERS and len(t.scales) == 1 for t in ends) else []


def copies(operator: Operator) -> tuple[Tensor, ...]:
    """The results of an operator that are of what it copies."""
    return operator.outputs[:1] if operator.name == "TOPK_V2" else operator.outputs


def mistaken(operator: Operator) -> list[Tensor]:
    """The tensors of other steps than the first that an operator copies."""
    tensors = copied(operator)
    ends = (*tensors, *copies(operator)) if tensors else ()
    return [tensor for tensor in ends if not alike(tensor, tensors[0])]


def alike(one: Tensor, two: Tensor) -> bool:
    """Whether the integers of two tensors count the same steps."""
    near = np.isclose(one.scales[0], two.scales[0], rtol=_SAME, atol=0)
    return bool(near) and one.zero_points[:1] == two.zero_points[:1]
