"""Integers that other integers are divided by."""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit

_LOWEST, _HIGHEST = -128, 127


def above_zero(edit: Edit) -> None:
    """Divisors of int8 that may be 0 are a step, the least that their range knows."""
    kept: dict[int, Tensor] = {}
    for division in edit.graph.operators:
        if division.name != "DIV" or division.outputs[0].dtype != "INT8":
            continue
        divisor = division.inputs[1]
        if divisor is None or edit.view.constant(divisor) or divisor.dtype != "INT8":
            continue
        if len(divisor.scales) != 1 or not divisor.scales[0] > 0:
            continue
        if _raised(edit, divisor):
            continue
        if divisor.index not in kept:
            kept[divisor.index] = _without_zero(edit, division, divisor)
        edit.again(division, (division.inputs[0], kept[divisor.index]), division.outputs[0])
        edit.drop(division)


def _raised(edit: Edit, divisor: Tensor) -> bool:
    """Raises the bound of x / max(length, epsilon) to a step, if it is less: most are 0."""
    bound = edit.view.producer.get(divisor)
    if bound is None or bound.name != "MAXIMUM" or edit.view.reader(divisor) is None:
        return False
    least = next((t for t in bound.inputs if edit.view.constant(t)), None)
    length = next((t for t in bound.inputs if not edit.view.constant(t)), None)
    zero, values = divisor.zero_points[0], None if least is None else least.values()
    if values is None or length is None or zero == _HIGHEST:
        return False
    integers = np.round(values / divisor.scales[0]) + zero
    if integers.min() <= zero:
        raised = np.maximum(integers, zero + 1).astype("int8")
        constant = edit.constant(raised, f"{divisor.name};least", like=divisor)
        edit.again(bound, (length, constant), divisor)
        edit.drop(bound)
    return True


def _without_zero(edit: Edit, at: Operator, divisor: Tensor) -> Tensor:
    zero = divisor.zero_points[0]

    def number(value: int, part: str) -> Tensor:
        values = np.full((1,) * len(divisor.shape), value, "int8")
        return edit.constant(values, f"{divisor.name};{part}", like=divisor)

    result = edit.like(divisor, divisor.shape, "bounded")
    step = number(zero - 1 if zero == _HIGHEST else zero + 1, "step")
    if zero in (_LOWEST, _HIGHEST):  # of one sign
        name = "MAXIMUM" if zero == _LOWEST else "MINIMUM"
        return edit.put(at, name, (divisor, step), result, schema().MaximumMinimumOptionsT())
    # Of both: what is 0 counts as above it.
    none = edit.without_steps(divisor, "BOOL", "none")
    edit.put(at, "EQUAL", (divisor, number(zero, "zero")), none, schema().EqualOptionsT())
    return edit.put(at, "SELECT_V2", (none, step, divisor), result, schema().SelectV2OptionsT())
