"""Padding before pools and convolutions.

The delegate makes a `PAD` part of what reads it. A pool's own padding does not count, neither as a
value nor among those that a mean divides by; a convolution's own is of zeros, whatever was padded
with. Of integers it keeps the two apart, and they are right.
"""

from dataclasses import dataclass

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit

_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}
_LEAST = np.finfo(np.float32).min


@dataclass(frozen=True)
class _Padding:
    """A `PAD` of height and width: what is padded, by how much on each side, with what number."""

    x: Tensor
    rows: tuple[int, int]
    columns: tuple[int, int]
    value: float


def _before(edit: Edit, reader: Operator) -> _Padding | None:
    """The padding that an operator reads."""
    tensor = reader.inputs[0]
    pad = None if tensor is None else edit.view.producer.get(tensor)
    if pad is None or pad.name not in ("PAD", "PADV2") or tensor is None:
        return None
    x, amounts, *value = pad.inputs
    counts = None if amounts is None else amounts.values()
    if x is None or x.dtype != "FLOAT32" or counts is None or counts.shape != (4, 2):
        return None
    number = edit.view.held(value[0]).values() if value and value[0] else np.zeros(())
    if number is None or counts[[0, 3]].any():
        return None
    rows, columns = [(int(a), int(b)) for a, b in counts[1:3]]
    return _Padding(x, rows, columns, float(number.reshape(())))


def maximum(edit: Edit) -> None:
    """Pools of the largest, where what is padded with can be it."""
    for pool in edit.graph.operators:
        padding = _before(edit, pool) if pool.name == "MAX_POOL_2D" else None
        if padding is None or padding.value <= _LEAST:
            continue
        options = pool.options
        seen = max(padding.rows) < options.filterHeight and max(padding.columns) < (
            options.filterWidth
        )
        valid = options.padding == schema().Padding.VALID
        if not (padding.value == 0 and seen and valid and padding.x in edit.view.nonnegative):
            _apart(edit, pool)


def mean(edit: Edit) -> None:
    """Pools of the mean: as depthwise convolutions, whose windows count all values alike."""
    for pool in edit.graph.operators:
        padding = _before(edit, pool) if pool.name == "AVERAGE_POOL_2D" else None
        if padding is None or not any((*padding.rows, *padding.columns)):
            continue
        x, output = pool.inputs[0], pool.outputs[0]
        assert x is not None
        rows, columns = pool.options.filterHeight, pool.options.filterWidth
        if pool.options.padding != schema().Padding.VALID:
            _apart(edit, pool)
            continue
        options = schema().DepthwiseConv2DOptionsT()
        options.padding, options.depthMultiplier = schema().Padding.VALID, 1
        options.strideH, options.strideW = pool.options.strideH, pool.options.strideW
        options.fusedActivationFunction = pool.options.fusedActivationFunction
        count, channels = rows * columns, x.shape[-1]
        shape, name = (1, rows, columns, channels), f"{output.name};mean"
        kernel = edit.constant(np.full(shape, 1 / count, "float32"), name)
        bias = edit.constant(np.zeros(channels, "float32"), f"{name};0")
        edit.put(pool, "DEPTHWISE_CONV_2D", (x, kernel, bias), output, options)
        edit.drop(pool)


def convolution(edit: Edit) -> None:
    """Convolutions behind padding with another number than 0."""
    for conv in edit.graph.operators:
        padding = _before(edit, conv) if conv.name in _CONVOLUTIONS else None
        if padding is not None and padding.value != 0:
            _apart(edit, conv)


def _apart(edit: Edit, reader: Operator) -> None:
    """Puts an operator that changes nothing between the padding and what reads it."""
    x = reader.inputs[0]
    assert x is not None
    least = edit.constant(np.full((1,) * 4, _LEAST), f"{x.name};least")
    options = schema().MaximumMinimumOptionsT()
    kept = edit.put(reader, "MAXIMUM", (x, least), edit.like(x, x.shape, "apart"), options)
    edit.again(reader, (kept, *reader.inputs[1:]), reader.outputs[0])
    edit.drop(reader)
