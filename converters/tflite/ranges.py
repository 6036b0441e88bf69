"""Ranges of the tensors that the converter's calibration finds overwritten, or ties to others.

The converter takes ranges from a run on the CPU kernels without XNNPACK, whose sums and products
write their result over an input that nobody else reads, and looks at inputs too late: it gives such
an input the range of the result. Inside of a network that is ULSAM's `1 + a`, whose 8 bits would
have the steps of the block's output, a tenth and more, and hardly any attention would come through;
and it is the convolution before every residual sum. What is tied to others: `tied_ranges.py`.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from converters.tflite.constants import replace
from converters.tflite.copies import MEETING, copied
from converters.tflite.flatbuffer import Graph, Operator, Tensor, TfliteFile, packed
from converters.tflite.jobs import JobFailed, measure
from converters.tflite.steps import LIMITS, Range, Steps, steps_for
from converters.tflite.tap import with_outputs
from converters.tflite.tied_ranges import Ties

# The operators that overwrite an input, and whose kernels take inputs of any range.
_READERS = frozenset({"ADD", "MUL", "SUB"})
# Operators whose kernels give a result of any range, with nothing else in the file depending on it.
_PRODUCERS = _READERS | {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def with_measured_ranges(
    file: TfliteFile, floats: TfliteFile, batches: Sequence[Mapping[str, np.ndarray]]
) -> TfliteFile:
    """The file with the true ranges of the tensors that calibration found overwritten or tied.

    Biases are left as they are: `with_biases` follows.

    Args:
        file: A `.tflite` file of integers.
        floats: The same graph in float, with a signature.
        batches: What the ranges are taken from: inputs by signature name, one batch per run.

    Returns:
        The new file: the same operators and, but for their steps, constants.

    Raises:
        JobFailed: If a range is none, as LiteRT computes NaN or an infinity in it.
    """
    graph = file.graph
    overwritten, ties = _overwritten(graph), Ties(graph)
    names = names_in_float(graph, floats.graph)
    asked = {tensor: names[tensor.index] for tensor in (*overwritten, *ties.tensors)}
    found = measured(floats, [*asked.values()], batches)
    ranges = {tensor: found[name] for tensor, name in asked.items() if name in found}
    for tensor in overwritten:
        if not np.isfinite(ranges.get(tensor, 0)).all():
            raise JobFailed(f"tensor {tensor.name!r} is NaN or infinite on the representative data")
    steps = {t: steps_for(t.dtype, *ranges[t]) for t in overwritten if t in ranges}
    steps |= ties.steps(ranges)
    return _with_steps(file, floats, steps) if steps else file


def _overwritten(graph: Graph) -> list[Tensor]:
    """The tensors of integers whose range is not to be trusted, and can be changed alone."""
    ends = set(graph.outputs)
    readers: dict[Tensor, set[str]] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            if tensor is not None:
                readers.setdefault(tensor, set()).add(operator.name)
    return [
        tensor
        for operator in graph.operators
        if operator.name in _PRODUCERS
        for tensor in operator.outputs
        if tensor.dtype in LIMITS
        and tensor not in ends
        and tensor in readers
        and readers[tensor] <= _READERS
    ]


def measured(
    file: TfliteFile, names: Sequence[str], batches: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Range]:
    """The smallest and largest value of inner tensors over data.

    Args:
        file: A `.tflite` file of floats with a signature.
        names: Names of tensors; those that are none of the file's, or constants, are left out.
        batches: Inputs by signature name, one batch per run.

    Returns:
        `{name: (smallest, largest)}`.
    """
    tensors = {t.name: t for t in file.graph.tensors if t.name in set(names) and not t.constant}
    if not tensors:
        return {}
    keys = {f"range{number}": name for number, name in enumerate(tensors)}
    # As outputs they are nobody's to overwrite.
    tapped = with_outputs(file, {key: tensors[name] for key, name in keys.items()})
    found = measure(tapped.content, batches)
    return {name: found[key] for key, name in keys.items()}


def names_in_float(graph: Graph, floats: Graph) -> dict[int, str]:
    """What the tensors of a graph of integers are called in the one of floats, by their index."""
    names = {tensor.index: tensor.name for tensor in graph.tensors}
    # Of several results each has the names of all.
    several = {";".join(t.name for t in o.outputs): o.outputs for o in floats.operators}
    for operator in graph.operators:
        source = operator.inputs[0] if operator.inputs else None
        if operator.name == "QUANTIZE" and source is not None:
            names[operator.outputs[0].index] = names[source.index]
        elif operator.name == "DEQUANTIZE" and source is not None:
            names[source.index] = operator.outputs[0].name
        elif len(operator.outputs) > 1:
            twins = several.get(operator.outputs[0].name, ())
            names |= {t.index: twin.name for t, twin in zip(operator.outputs, twins, strict=False)}
    return names


def _with_steps(file: TfliteFile, floats: TfliteFile, steps: Mapping[Tensor, Steps]) -> TfliteFile:
    """The file with other steps for some tensors, and for the constants that meet in them."""
    model = file.changeable()
    for tensor, (scale, zero) in steps.items():
        if scale:
            quantization = model.subgraphs[0].tensors[tensor.index].quantization
            quantization.scale, quantization.zeroPoint = [scale], [zero]
    twins = {operator.outputs[0].name: operator for operator in floats.graph.operators}
    for operator in file.graph.operators:
        if operator.name not in MEETING or operator.outputs[0] not in steps:
            continue
        scale, zero = steps[operator.outputs[0]]
        twin = twins.get(operator.outputs[0].name)
        for tensor in copied(operator):
            values = _floats(operator, tensor, twin) if tensor.constant else None
            if values is not None:
                replace(model, operator, tensor, values / scale, [scale], zero)
    return packed(model)


def _floats(operator: Operator, constant: Tensor, twin: Operator | None) -> np.ndarray | None:
    """What a constant of an operator is in the operator of floats, if that is the same."""
    place = operator.inputs.index(constant)
    if twin is None or twin.name != operator.name or len(twin.inputs) <= place:
        return None
    other = twin.inputs[place]
    values = None if other is None else other.floats()
    if other is None or values is None or other.shape != constant.shape:
        return None
    return values.reshape(other.shape)
