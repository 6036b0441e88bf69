"""Products of many matrices with one, values written out, depthwise products of single values, and
constants along the batch.
"""

import numpy as np

from converters.tflite.broadcasts import misplaced
from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit


def shared(edit: Edit) -> None:
    """Products of many matrices with one."""
    for operator in edit.graph.operators:
        left, right = (*operator.inputs, None, None)[:2]
        if operator.name != "BATCH_MATMUL" or left is None or right is None:
            continue
        output = operator.outputs[0]
        rank = len(output.shape)
        wide = output.shape[:-2]
        few = [(1,) * (rank - len(t.shape)) + t.shape[:-2] for t in (left, right)]
        if few[0] == few[1] or (edit.view.constant(right) and len(right.shape) == 2):
            continue
        # How many of the last batch dimensions the right one lacks, and agrees in the others.
        same = next(i for i in range(rank - 1) if few[1][i:] == (1,) * (rank - 2 - i))
        if few[0] == wide and few[1][:same] == wide[:same] and not operator.options.adjX:
            rows = int(np.prod(wide[same:])) * left.shape[-2]
            lead = (*wide[:same], *(1,) * (rank - 2 - same))
            inputs = [edit.reshaped(operator, left, (*lead, rows, left.shape[-1])), right]
            result = (*lead, rows, output.shape[-1])
            product = edit.again(operator, inputs, edit.like(output, result, "rows"))
            edit.reshape(operator, product, output)
        else:
            inputs = [_tiled(edit, operator, t, (*wide, *t.shape[-2:])) for t in (left, right)]
            edit.again(operator, inputs, output)
        edit.drop(operator)


def elementwise(edit: Edit) -> None:
    """Sums, products and the like with constants along what the delegate takes for the batch."""
    for operator in edit.graph.operators:
        if not misplaced(edit.view, operator):
            continue
        (x,), output = edit.view.computed(operator), operator.outputs[0]
        if len(x.shape) == 4:
            continue  # the constant adds samples
        wide = edit.reshaped(operator, x, _of_four(x.shape))
        inputs = [wide if tensor is x else tensor for tensor in operator.inputs]
        if len(output.shape) == 4:
            edit.again(operator, inputs, output)
        else:
            result = edit.like(output, _of_four(output.shape), "four")
            edit.reshape(operator, edit.again(operator, inputs, result), output)
        edit.drop(operator)


def _of_four(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (4 - len(shape)) + shape


def broadcast(edit: Edit) -> None:
    """Repeated values that are written out."""
    for operator in edit.graph.operators:
        x = operator.inputs[0] if operator.name == "BROADCAST_TO" else None
        if x is None or len(operator.outputs[0].shape) > 4 or x.shape == ():
            continue
        _tiled(edit, operator, x, operator.outputs[0].shape, operator.outputs[0])
        edit.drop(operator)


def multiplied(edit: Edit) -> None:
    """Depthwise convolutions of single values with a multiplier."""
    for conv in edit.graph.operators:
        if conv.name != "DEPTHWISE_CONV_2D":
            continue
        x, weights = conv.inputs[:2]
        if weights is None or x is None or weights.shape[1:3] != (1, 1):
            continue
        held = edit.view.held(weights)
        values = held.stored()
        if x.shape[-1] in (1, weights.shape[-1]) or values is None:
            continue
        zeros = np.full_like(values, held.zero_points[0] if held.zero_points else 0)
        # "same" pads the second column after the map, where the stride reads over its end.
        kernel = edit.constant(
            np.concatenate([values, zeros], axis=2),
            f"{weights.name};wide",
            scales=held.scales,
            zeros=held.zero_points,
        )
        if held is not weights:
            wide = edit.view.producer[weights]
            kernel = edit.again(wide, (kernel,), edit.like(weights, kernel.shape, "wide"))
        inputs = (x, kernel, *conv.inputs[2:])
        edit.again(conv, inputs, conv.outputs[0], padding=schema().Padding.SAME)
        edit.drop(conv)


def _tiled(
    edit: Edit, at: Operator, tensor: Tensor, shape: tuple[int, ...], output: Tensor | None = None
) -> Tensor:
    """The tensor repeated to a shape that it broadcasts to."""
    if tensor.shape == shape and output is None:
        return tensor
    stored = tensor.stored()
    if stored is not None and output is None:
        return edit.constant(np.broadcast_to(stored, shape), f"{tensor.name};tiled", tensor)
    given = (1,) * (len(shape) - len(tensor.shape)) + tensor.shape
    tensor = edit.reshaped(at, tensor, given)
    times = [n // m for n, m in zip(shape, given, strict=True)]
    output = edit.like(tensor, shape, "tiled") if output is None else output
    multiples = edit.constant(np.array(times, "int32"), f"{output.name};times")
    return edit.put(at, "TILE", (tensor, multiples), output, schema().TileOptionsT())
