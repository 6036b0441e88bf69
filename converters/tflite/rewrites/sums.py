"""Cumulative sums with options, from behind, and along the first dimension."""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit
from converters.tflite.sums import axis, from_behind, mistaken, told


def cumulative(edit: Edit) -> None:
    """Sums of what is reversed, or moved by one, along an axis that is not the first."""
    for total in edit.graph.operators:
        given, (exclusive, backwards) = axis(total), told(total)
        if given is None or not (from_behind(total) or mistaken(total)):
            continue
        x, output = total.inputs[0], total.outputs[0]
        assert x is not None
        along, shape = given % len(x.shape), x.shape
        if along == 0 and len(shape) < 4:
            along, shape = 4 - len(shape), (1,) * (4 - len(shape)) + shape
        if (along == 0 and mistaken(total)) or shape[along] < 2:
            continue  # along the batch, or nothing to sum
        part = edit.reshaped(total, x, shape)
        if backwards:
            part = _reversed(edit, total, part, along)
        if exclusive:
            part = _moved(edit, total, part, along)
        number = edit.constant(np.array(along, "int32"), f"{output.name};axis")
        same = shape == output.shape
        result = output if same and not backwards else edit.like(output, shape, "sum")
        changed = {"exclusive": False, "reverse": False} if exclusive or backwards else {}
        part = edit.again(total, (part, number), result, **changed)
        if backwards:
            turned = output if same else edit.like(output, shape, "turned")
            part = _reversed(edit, total, part, along, turned)
        if not same:
            edit.reshape(total, part, output)
        edit.drop(total)


def _reversed(
    edit: Edit, at: Operator, x: Tensor, along: int, output: Tensor | None = None
) -> Tensor:
    result = edit.like(x, x.shape, "reversed") if output is None else output
    axes = edit.constant(np.array([along], "int32"), f"{result.name};axes")
    return edit.put(at, "REVERSE_V2", (x, axes), result, schema().ReverseV2OptionsT())


def _moved(edit: Edit, at: Operator, x: Tensor, along: int) -> Tensor:
    """All but the last, behind a 0."""
    size = np.array(x.shape, "int32")
    size[along] -= 1
    start = edit.constant(np.zeros_like(size), f"{x.name};start")
    count = edit.constant(size, f"{x.name};size")
    options = schema().SliceOptionsT()
    short = edit.put(at, "SLICE", (x, start, count), edit.like(x, size.tolist(), "short"), options)
    sizes = np.zeros((len(size), 2), "int32")
    sizes[along, 0] = 1
    padding = edit.constant(sizes, f"{x.name};moved by")
    return edit.put(
        at, "PAD", (short, padding), edit.like(x, x.shape, "moved"), schema().PadOptionsT()
    )
