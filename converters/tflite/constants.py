"""Constants of a ``.tflite`` file of integers, written anew in other steps.

Imports the flatbuffer reader and NumPy.
"""

from copy import copy
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Graph, Operator, Tensor, TfliteFile, packed, schema

# Where operators have their input, weights and bias, whose steps are the product of the others'.
BIASED = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D"), (0, 1, 2)),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_INTEGERS: dict[str, Any] = {"INT8": np.int8, "INT32": np.int32, "INT64": np.int64}
# Of a step: more than the rounding of a product of float32.
_OFF = 1e-3


def with_biases(file: TfliteFile) -> TfliteFile:
    """The file with every bias in the steps that kernels take it to have.

    These are the input's times the weights', whatever the bias's own say. The converter gives
    equal constants one tensor, and with 16-bit activations the steps of one of their operators.

    Args:
        file: A `.tflite` file of integers.
    """
    model = None
    for operator in file.graph.operators:
        inputs, weights, bias = parts(operator)
        if bias is None or not bias.scales or inputs is None or weights is None:
            continue
        values, scales = bias.values(), steps(inputs, weights)
        if values is None or np.allclose(bias.scales, scales, rtol=_OFF, atol=0):
            continue
        model = model or file.changeable()
        replace(model, operator, bias, values / scales, scales)
    return packed(model) if model else file


def parts(operator: Operator) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The input, weights and bias of an operator that has such."""
    places = BIASED.get(operator.name, ())
    found = [operator.inputs[i] if i < len(operator.inputs) else None for i in places]
    return (found[0], found[1], found[2]) if found else (None, None, None)


def with_weights(graph: Graph) -> list[Operator]:
    """The operators that have weights, in their order."""
    return [operator for operator in graph.operators if operator.name in BIASED]


def steps(inputs: Tensor, weights: Tensor) -> np.ndarray:
    """What the integers of a bias count."""
    return inputs.scales[0] * np.asarray(weights.scales)


def replace(
    model: Any, operator: Operator, tensor: Tensor, integers: np.ndarray, scales: np.ndarray
) -> None:
    """Gives an operator another constant in place of one, which others may read too.

    Args:
        model: The file's `changeable`.
        operator: The operator.
        tensor: Its constant.
        integers: The new one's values, not yet rounded.
        scales: What they count.
    """
    dtype = _INTEGERS[tensor.dtype]
    limits = np.iinfo(dtype)
    rounded = np.clip(np.round(integers), max(limits.min, -limits.max), limits.max).astype(dtype)
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(rounded.tobytes(), np.uint8)
    graph = model.subgraphs[0]
    changed = graph.tensors[tensor.index]
    if sum(tensor.index in other.inputs for other in graph.operators) > 1:
        changed = copy(changed)
        changed.quantization = copy(changed.quantization)
        reader = copy(graph.operators[operator.index])
        reader.inputs = [len(graph.tensors) if i == tensor.index else i for i in reader.inputs]
        graph.operators = [*graph.operators]
        graph.operators[operator.index] = reader
        graph.tensors.append(changed)
    changed.quantization.scale = [float(scale) for scale in scales]
    if sum(t.buffer == changed.buffer for g in model.subgraphs for t in g.tensors) > 1:
        changed.buffer = len(model.buffers)
        model.buffers.append(buffer)
    else:
        model.buffers[changed.buffer] = buffer
