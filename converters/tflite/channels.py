"""What the GPU delegate computes wrongly of channels, which it packs in fours.

Imports the flatbuffer reader.
"""

from converters.tflite.flatbuffer import Operator
from converters.tflite.groups import PACK
from converters.tflite.view import View


def reversed_channels(operator: Operator) -> bool:
    """Whether channels are put in reverse, of several packs and not of whole ones."""
    x, told = (*operator.inputs, None, None)[:2]
    axes = None if told is None or operator.name != "REVERSE_V2" else told.stored()
    if x is None or axes is None or not x.shape or x.shape[-1] < PACK or x.shape[-1] % PACK == 0:
        return False
    return bool((axes % len(x.shape) == len(x.shape) - 1).any())


def broken_pack(view: View, operator: Operator) -> bool:
    """Whether the largest of channels that are not whole packs is looked for.

    The rest of the last pack is taken for zeros, the largest where all are below 0.
    """
    x, told = (*operator.inputs, None, None)[:2]
    axis = None if told is None or operator.name != "ARG_MAX" else told.stored()
    if x is None or axis is None or axis.size != 1 or not 2 <= len(x.shape) <= 4:
        return False
    last = int(axis.reshape(())) % len(x.shape) == len(x.shape) - 1
    return last and x.shape[-1] % PACK != 0 and x not in view.nonnegative


def short_condition(view: View, operator: Operator) -> bool:
    """Whether a constant of less dimensions chooses between tensors of several samples."""
    condition = operator.inputs[0] if operator.name == "SELECT_V2" and operator.inputs else None
    shape = operator.outputs[0].shape if operator.outputs else ()
    if condition is None or not view.constant(condition) or not condition.shape:
        return False
    return len(condition.shape) < len(shape) and shape[0] > 1
