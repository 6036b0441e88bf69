"""Numbers raised to a tensor, powers of what may be below 0, small ones of what may be 0."""

import numpy as np

from converters.tflite.flatbuffer import Tensor, schema
from converters.tflite.powers import constant_base, signable, whole_exponent
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


def negative(edit: Edit) -> None:
    """A power of the size; an odd one as x times the even below it; of n < 0, one by that of -n."""
    for power in edit.graph.operators:
        exponent = whole_exponent(edit.view, power)
        x = None if exponent is None else power.inputs[0]
        if exponent is None or x is None or exponent in (0, 1):
            continue
        output, count = power.outputs[0], abs(exponent)
        # One by the power of -n is not that of n to the bit, which an even one is.
        inverse = exponent < 0 and count % 2 == 1
        result = edit.like(output, output.shape, "odd") if inverse else output
        if count > 1:
            size = edit.put(
                power, "ABS", (x,), edit.like(x, x.shape, "size"), schema().AbsOptionsT()
            )
            even = count - count % 2 if inverse or exponent > 0 else exponent
            number = _number(edit, even, output, "exponent")
            if count % 2:
                raised = edit.again(power, (size, number), edit.like(output, output.shape, "even"))
                edit.put(power, "MUL", (x, raised), result, schema().MulOptionsT())
            else:
                edit.again(power, (size, number), result)
        else:
            result = x
        if inverse:
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
