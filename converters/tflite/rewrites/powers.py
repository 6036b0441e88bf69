"""Numbers raised to a tensor, odd powers of what may be below 0, small ones of what may be 0."""

import numpy as np

from converters.tflite.flatbuffer import Tensor, schema
from converters.tflite.powers import constant_base, odd_exponent, signable
from converters.tflite.rewrites.edit import Edit


def of_number(edit: Edit) -> None:
    """2 or 3 to a tensor: their square, which is no number of the delegate's, to its half."""
    for power in edit.graph.operators:
        base = constant_base(edit.view, power)
        x = None if base is None else power.inputs[1]
        if base is None or x is None:
            continue
        half = edit.put(
            power,
            "MUL",
            (x, _number(edit, 0.5, x, "half")),
            edit.like(x, x.shape, "halved"),
            schema().MulOptionsT(),
        )
        edit.again(power, (_number(edit, base**2, x, "square"), half), power.outputs[0])
        edit.drop(power)


def odd(edit: Edit) -> None:
    """An odd power as x times the even one below it; of n below 0, one by that of -n."""
    for power in edit.graph.operators:
        exponent = odd_exponent(edit.view, power)
        x = None if exponent is None else power.inputs[0]
        if exponent is None or x is None:
            continue
        output = power.outputs[0]
        even = _number(edit, abs(exponent) - 1, output, "exponent")
        size = edit.again(power, (x, even), edit.like(output, output.shape, "even"))
        result = output if exponent > 0 else edit.like(output, output.shape, "odd")
        edit.put(power, "MUL", (x, size), result, schema().MulOptionsT())
        if exponent < 0:
            one = _number(edit, 1.0, output, "one")
            edit.put(power, "DIV", (one, result), output, schema().DivOptionsT())
        edit.drop(power)


def small(edit: Edit) -> None:
    """A small power times the sign of its base."""
    for power in edit.graph.operators:
        x = power.inputs[0] if signable(edit.view, power) else None
        if x is None:
            continue
        output = power.outputs[0]
        raised = edit.again(power, power.inputs, edit.like(output, output.shape, "raised"))
        sign = edit.put(power, "SIGN", (x,), edit.like(x, x.shape, "sign"), schema().SignOptionsT())
        edit.put(power, "MUL", (sign, raised), output, schema().MulOptionsT())
        edit.drop(power)


def _number(edit: Edit, value: float, beside: Tensor, part: str) -> Tensor:
    shape = (1,) * len(beside.shape)
    return edit.constant(np.full(shape, value, "float32"), f"{beside.name};{part}")
