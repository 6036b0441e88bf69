"""Strided 1x1 convolutions of integers."""

from converters.tflite.flatbuffer import Tensor, schema
from converters.tflite.rewrites.edit import Edit


def pointwise(edit: Edit) -> None:
    """The stride by a pool of single values, which convolutions of one tensor share."""
    thinned: dict[tuple[int, int, int], Tensor] = {}
    for conv in edit.graph.operators:
        if conv.name != "CONV_2D":
            continue
        x, weights = conv.inputs[0], conv.inputs[1]
        rows, columns = conv.options.strideH, conv.options.strideW
        if x is None or weights is None or x.dtype != "INT8" or rows * columns == 1:
            continue
        if weights.shape[1:3] != (1, 1) or x.shape[1:3] == (1, 1):
            continue
        key = (x.index, rows, columns)
        if key not in thinned:
            n, h, w, c = x.shape
            options = schema().Pool2DOptionsT()
            options.padding = schema().Padding.VALID
            options.filterHeight = options.filterWidth = 1
            options.strideH, options.strideW = rows, columns
            thin = edit.like(x, (n, -(-h // rows), -(-w // columns), c), "thin")
            thinned[key] = edit.put(conv, "MAX_POOL_2D", (x,), thin, options)
        edit.again(conv, (thinned[key], *conv.inputs[1:]), conv.outputs[0], strideH=1, strideW=1)
        edit.drop(conv)
