"""Cumulative sums that the GPU delegate computes wrongly.

It knows nothing of `exclusive` and `reverse`, of axes from behind, and of the first dimension of
less than four or of one sample.

Imports the flatbuffer reader.
"""

from converters.tflite.flatbuffer import Operator


def axis(operator: Operator) -> int | None:
    """The axis of a cumulative sum, from behind if it says so; `None` if it is not told."""
    told = (*operator.inputs, None, None)[1] if operator.name == "CUMSUM" else None
    values = None if told is None else told.stored()
    x = operator.inputs[0] if operator.inputs else None
    if values is None or values.size != 1 or x is None:
        return None
    found = int(values.reshape(()))
    return found if -len(x.shape) <= found < len(x.shape) else None


def told(operator: Operator) -> tuple[bool, bool]:
    """Whether it is exclusive, and whether reversed; neither if it has no such options."""
    exclusive, reverse = (
        bool(getattr(operator.options, name, False)) for name in ("exclusive", "reverse")
    )
    return exclusive, reverse


def from_behind(operator: Operator) -> bool:
    """Whether its axis is counted from behind."""
    found = axis(operator)
    return found is not None and found < 0


def mistaken(operator: Operator) -> bool:
    """Whether it is exclusive, reversed, or along a first dimension that is not summed."""
    found, x = axis(operator), operator.inputs[0] if operator.inputs else None
    if found is None or x is None:
        return False
    first = found % len(x.shape) == 0
    if first and (len(x.shape) == 4 and x.shape[0] == 1 or x.shape[0] > 1 and len(x.shape) < 4):
        return True
    return any(told(operator))
