"""Comparisons of integers, which the CPU makes of numbers rounded to 1/256.

Its kernel multiplies 256 times the integers by the scale as a fraction below 1: of steps of less
than 1/512 it takes several for one, and from 1 on it computes other numbers, or aborts the process.

Imports the flatbuffer reader.
"""

from converters.tflite.flatbuffer import Operator

COMPARISONS = {"EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"}
_LEAST, _LIMIT = 1 / 512, 1.0


def mistaken(operator: Operator) -> bool:
    """Whether it compares integers of steps that the kernel does not count in."""
    if operator.name not in COMPARISONS or len(operator.inputs) != 2:
        return False
    compared = [t for t in operator.inputs if t is not None and t.dtype in ("INT8", "UINT8")]
    if [len(tensor.scales) for tensor in compared] != [1, 1]:
        return False
    # A constant of small steps is moved by 1/512 at most, which is within a step of the other.
    least = min((t.scales[0] for t in compared if not t.constant), default=_LIMIT)
    return least < _LEAST or max(t.scales[0] for t in compared) >= _LIMIT
