"""Constants that the GPU delegate takes along other dimensions than they lie along.

It keeps every tensor as (batch, height, width, channels): of fewer dimensions the first is the
batch, the last the channels. A constant's first dimension is never its batch. So the two meet as
they should only where there is one sample, or the constant is the same for all.

Imports the flatbuffer reader and NumPy.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator
from converters.tflite.view import View

ELEMENTWISE = {
    "ADD", "DIV", "EQUAL", "FLOOR_DIV", "FLOOR_MOD", "GREATER", "GREATER_EQUAL", "LESS",
    "LESS_EQUAL", "LOGICAL_AND", "MAXIMUM", "MINIMUM", "MUL", "NOT_EQUAL", "POW",
    "SQUARED_DIFFERENCE", "SUB",
}  # fmt: skip
# By the number of dimensions, where the delegate keeps them.
_PLACES = ((), (0,), (0, 3), (0, 2, 3), (0, 1, 2, 3))


def misplaced(view: View, operator: Operator) -> bool:
    """Whether a constant is taken along another dimension."""
    computed = view.computed(operator)
    constants = [t for t in operator.inputs if t is not None and view.constant(t)]
    if operator.name not in ELEMENTWISE or len(computed) != 1 or len(constants) != 1:
        return False
    x, number, rank = computed[0].shape, constants[0].shape, len(operator.outputs[0].shape)
    if max(len(x), len(number), rank) > 4 or np.prod(number) == 1:
        return False
    told, held = _kept(number, rank), (1,) * (4 - len(number)) + number
    return told != held or _kept(x, rank) != _kept(x, len(x)) or told[0] > _kept(x, rank)[0]


def _kept(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """What a tensor is kept as where it stands for one of `rank` dimensions."""
    kept = [1, 1, 1, 1]
    for place, size in zip(_PLACES[rank][::-1], shape[::-1], strict=False):
        kept[place] = size
    return tuple(kept)
