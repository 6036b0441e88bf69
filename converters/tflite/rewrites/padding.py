"""Padding before pools and convolutions.

The delegate makes a `PAD` part of what reads it. A pool's own padding does not count, neither as a
value nor among those that a mean divides by; a convolution's own is of zeros, whatever was padded
with. Of integers it keeps the two apart, and they are right. Of three dimensions it pads others
than it was told where the first is more than 1.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator, schema
from converters.tflite.pads import amounts, fill, of_samples, spatial, uncounted
from converters.tflite.rewrites.apart import apart
from converters.tflite.rewrites.edit import Edit

_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_LEAST = np.finfo(np.float32).min


def _before(edit: Edit, reader: Operator) -> Operator | None:
    """The padding of floats that an operator reads, if it is known with what."""
    tensor = reader.inputs[0]
    pad = None if tensor is None else edit.view.producer.get(tensor)
    if pad is None or not spatial(pad) or pad.outputs[0].dtype != "FLOAT32":
        return None
    return None if fill(edit.view, pad) is None else pad


def samples(edit: Edit) -> None:
    """Several samples of three dimensions, as maps of one row each."""
    for pad in edit.graph.operators:
        if not of_samples(pad):
            continue
        x, told, output, sizes = pad.inputs[0], pad.inputs[1], pad.outputs[0], amounts(pad)
        assert x is not None and told is not None and sizes is not None
        sizes = np.insert(sizes[1:], 1, 0, axis=0).astype("int32")
        map_, result = ((t.shape[0], 1, *t.shape[1:]) for t in (x, output))
        wide = edit.constant(sizes, f"{told.name};four")
        inputs = (edit.reshaped(pad, x, map_), wide, *pad.inputs[2:])
        edit.reshape(pad, edit.again(pad, inputs, edit.like(output, result, "four")), output)
        edit.drop(pad)


def maximum(edit: Edit) -> None:
    """Pools of the largest, where what is padded with can be it."""
    for pool in edit.graph.operators:
        pad = _before(edit, pool) if pool.name == "MAX_POOL_2D" else None
        if pad is not None and not uncounted(edit.view, pad, pool, float(_LEAST)):
            apart(edit, pool, [pad.outputs[0]])


def mean(edit: Edit) -> None:
    """Pools of the mean: as depthwise convolutions, whose windows count all values alike."""
    for pool in edit.graph.operators:
        pad = _before(edit, pool) if pool.name == "AVERAGE_POOL_2D" else None
        if pad is None or uncounted(edit.view, pad, pool, float(_LEAST)):
            continue
        x, output = pool.inputs[0], pool.outputs[0]
        assert x is not None
        rows, columns = pool.options.filterHeight, pool.options.filterWidth
        if pool.options.padding != schema().Padding.VALID:
            apart(edit, pool, [pad.outputs[0]])
            continue
        options = schema().DepthwiseConv2DOptionsT()
        options.padding, options.depthMultiplier = schema().Padding.VALID, 1
        options.strideH, options.strideW = pool.options.strideH, pool.options.strideW
        options.fusedActivationFunction = pool.options.fusedActivationFunction
        count, channels = rows * columns, x.shape[-1]
        shape, name = (1, rows, columns, channels), f"{output.name};mean"
        kernel = edit.constant(np.broadcast_to(np.float32(1 / count), shape), name)
        bias = edit.constant(np.zeros(channels, "float32"), f"{name};0")
        edit.put(pool, "DEPTHWISE_CONV_2D", (x, kernel, bias), output, options)
        edit.drop(pool)


def convolution(edit: Edit) -> None:
    """Convolutions, also those that are a Dense, behind padding with another number than 0."""
    for conv in edit.graph.operators:
        pad = _before(edit, conv) if conv.name in _CONVOLUTIONS else None
        if pad is not None and fill(edit.view, pad) != 0:
            apart(edit, conv, [pad.outputs[0]])
