"""A range of their own for tensors that were 0 on all of the data.

The converter takes 1e-6 or less for the range of zeros. XNNPACK refuses to compute with it, and
with the operator the whole file. A bias counts in steps of its input's range times its weights', so
that behind such a tensor it does not fit into its integers, and the converter makes the weights
coarser until it does. Dead channels, a dead ReLU, the scores of a flat attention are such tensors.

Imports the flatbuffer reader and NumPy.
"""

from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Graph, Operator, Tensor, TfliteFile, packed, schema

# By type: above the step that the converter gives a tensor of zeros, 2e-6 / 255 and less than
# 1e-6 / 32767, and below any other; and what such a tensor gets, a range to 2 and to 1, as nothing
# is known of what it may be.
_OF_ZEROS = {"INT8": (1e-8, 1 / 128), "INT16": (4e-11, 1 / 32768)}
# Where operators have their input, weights and bias, whose steps are the product of the others'.
_BIASED = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D"), (0, 1, 2)),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_INTEGERS: dict[str, Any] = {"INT8": np.int8, "INT32": np.int32, "INT64": np.int64}


def with_ranges_for_zeros(file: TfliteFile, floats: TfliteFile) -> TfliteFile:
    """The file with steps that every kernel takes, and with weights and biases in them.

    Args:
        file: A `.tflite` file of integers.
        floats: The same graph in float, which weights and biases are taken from.

    Raises:
        ValueError: If the weights behind such a tensor are not found in the float graph.
    """
    graph = file.graph
    zeros = {
        tensor.index: _OF_ZEROS[tensor.dtype][1]
        for tensor in graph.tensors
        if tensor.dtype in _OF_ZEROS
        and not tensor.constant
        and tensor.scales
        and tensor.scales[0] < _OF_ZEROS[tensor.dtype][0]
    }
    if not zeros:
        return file
    model = file.changeable()
    for index, scale in zeros.items():
        model.subgraphs[0].tensors[index].quantization.scale = [scale]
    # Operators of integers have other names, and the same order.
    ours, theirs = _with_weights(graph), _with_weights(floats.graph)
    for number, operator in enumerate(ours):
        inputs, weights, bias = _parts(operator)
        if inputs is None or weights is None or inputs.index not in zeros:
            continue
        _, *twins = _parts(theirs[number]) if len(theirs) == len(ours) else (None, None, None)
        values = _floats(twins[0], weights, operator)
        others = tuple(i for i in range(values.ndim) if i != weights.axis)
        largest = np.abs(values).max(axis=others if len(weights.scales) > 1 else None)
        scales = np.atleast_1d(np.where(largest > 0, largest / 127, 1.0))
        along = np.reshape(scales, [-1 if i == weights.axis else 1 for i in range(values.ndim)])
        _write(model, weights, values / along, scales)
        if bias is not None:
            steps = zeros[inputs.index] * scales
            _write(model, bias, _floats(twins[1], bias, operator) / steps, steps)
    return packed(model)


def _with_weights(graph: Graph) -> list[Operator]:
    return [operator for operator in graph.operators if operator.name in _BIASED]


def _parts(operator: Operator) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Its input, weights and bias."""
    found = [
        operator.inputs[i] if i < len(operator.inputs) else None for i in _BIASED[operator.name]
    ]
    return found[0], found[1], found[2]


def _floats(twin: Tensor | None, tensor: Tensor, operator: Operator) -> np.ndarray:
    """A constant of an operator of integers, in float."""
    values = None if twin is None else twin.floats()
    if twin is None or values is None or twin.shape != tensor.shape:
        raise ValueError(
            "The input of an operator is 0 on all of the representative data, and its weights have "
            "no range; give data that reaches the layer, or leave the layer out. "
            f"Received: {operator.name} {operator.outputs[0].name!r}"
        )
    return values.reshape(twin.shape)


def _write(model: Any, tensor: Tensor, steps: np.ndarray, scales: np.ndarray) -> None:
    """Gives a constant other integers, which count other steps."""
    dtype = _INTEGERS[tensor.dtype]
    limits = np.iinfo(dtype)
    integers = np.clip(np.round(steps), max(limits.min, -limits.max), limits.max).astype(dtype)
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(integers.tobytes(), np.uint8)
    changed = model.subgraphs[0].tensors[tensor.index]
    changed.quantization.scale = [float(scale) for scale in scales]
    changed.buffer = len(model.buffers)
    model.buffers.append(buffer)
