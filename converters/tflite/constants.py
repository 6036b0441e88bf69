"""Constants of a ``.tflite`` file of integers, written anew in other steps.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Graph, Operator, Tensor, TfliteFile, packed, schema

# Where operators have their input, weights and bias, whose steps are the product of the others'.
BIASED = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D"), (0, 1, 2)),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_INTEGERS: dict[str, Any] = {
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
}  # fmt: skip
# Of a step: more than the rounding of a product of float32.
_OFF = 1e-3


def with_biases(file: TfliteFile, floats: TfliteFile) -> TfliteFile:
    """The file with every bias in the steps that kernels take it to have.

    These are the input's times the weights', whatever the bias's own say. The converter gives
    equal constants one tensor, and with 16-bit activations the steps of one of their operators;
    behind an input that is 0 on all data these are infinite.

    Args:
        file: A `.tflite` file of integers.
        floats: The same graph in float, which biases of infinite steps are taken from.

    Raises:
        ValueError: If such a bias is not found in the float graph.
    """
    model = None
    twins = Twins(file.graph, floats.graph)
    for operator in twins:
        inputs, weights, bias = parts(operator)
        if bias is None or not bias.scales or inputs is None or weights is None:
            continue
        scales = steps(inputs, weights)
        if not bias.constant or np.allclose(bias.scales, scales, rtol=_OFF, atol=0):
            continue
        known = np.isfinite(bias.scales).all()
        values = bias.values() if known else twins.floats(operator, 2)
        model = model or file.changeable()
        replace(model, operator, bias, values / scales, scales)
    return packed(model) if model else file


class Twins:
    """The operators of integers that have weights, each with the one that it was in float.

    They have other names, and the same order. Iterates over those of integers.

    Args:
        integers: The graph in integers.
        floats: The graph in float.
    """

    def __init__(self, integers: Graph, floats: Graph) -> None:
        ours, theirs = ([o for o in g.operators if o.name in BIASED] for g in (integers, floats))
        self._twins = dict.fromkeys((o.index for o in ours), None)
        if len(ours) == len(theirs):
            self._twins = dict(zip(self._twins, theirs, strict=True))
        self._ours = ours

    def __iter__(self) -> Iterator[Operator]:
        return iter(self._ours)

    def floats(self, operator: Operator, part: int) -> np.ndarray:
        """A constant of an operator, in float.

        Args:
            operator: Of the graph of integers.
            part: Its place in `parts`.

        Raises:
            ValueError: If the graph in float does not have it.
        """
        own, twin = parts(operator)[part], self._twins[operator.index]
        other = None if twin is None else parts(twin)[part]
        values = None if other is None else other.floats()
        if own is None or other is None or values is None or other.shape != own.shape:
            raise ValueError(
                "The input of an operator is 0 on all of the representative data, and its weights "
                "have no range; give data that reaches the layer, or leave the layer out. "
                f"Received: {operator.name} {operator.outputs[0].name!r}"
            )
        return values.reshape(other.shape)


def parts(operator: Operator) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The input, weights and bias of an operator that has such."""
    places = BIASED.get(operator.name, ())
    found = [operator.inputs[i] if i < len(operator.inputs) else None for i in places]
    return (found[0], found[1], found[2]) if found else (None, None, None)


def steps(inputs: Tensor, weights: Tensor) -> np.ndarray:
    """What the integers of a bias count."""
    return inputs.scales[0] * np.asarray(weights.scales)


def replace(
    model: Any,
    operator: Operator,
    tensor: Tensor,
    integers: np.ndarray,
    scales: Any,
    zero: int | None = None,
) -> None:
    """Gives an operator another constant in place of one, which others may read too.

    Args:
        model: The file's `changeable`.
        operator: The operator.
        tensor: Its constant.
        integers: The new one's values, not yet rounded.
        scales: What they count.
        zero: The integer that stands for 0, of an activation; weights keep theirs, which is 0.
    """
    dtype = _INTEGERS[tensor.dtype]
    limits = np.iinfo(dtype)
    least = -limits.max if zero is None else limits.min
    rounded = np.clip(np.round(integers) + (zero or 0), least, limits.max).astype(dtype)
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(rounded.tobytes(), np.uint8)
    graph = model.subgraphs[0]
    changed = graph.tensors[tensor.index]
    if sum(tensor.index in other.inputs for other in graph.operators) > 1:
        changed = copy(changed)
        changed.quantization = copy(changed.quantization)
        reader = graph.operators[operator.index]
        reader.inputs = [len(graph.tensors) if i == tensor.index else i for i in reader.inputs]
        graph.tensors.append(changed)
    changed.quantization.scale = [float(scale) for scale in scales]
    if zero is not None:
        changed.quantization.zeroPoint = [zero]
    if sum(t.buffer == changed.buffer for g in model.subgraphs for t in g.tensors) > 1:
        changed.buffer = len(model.buffers)
        model.buffers.append(buffer)
    else:
        model.buffers[changed.buffer] = buffer
