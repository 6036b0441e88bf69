"""Ranges of the tensors that the converter's calibration finds overwritten.

The converter takes ranges from a run on the CPU kernels without XNNPACK, whose sums and products
write their result over an input that nobody else reads, and looks at inputs too late: it gives such
an input the range of the result. Inside of a network that is ULSAM's `1 + a`, whose 8 bits would
have the steps of the block's output, a tenth and more, and hardly any attention would come through;
and it is the convolution before every residual sum.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Graph, Tensor, TfliteFile, packed
from converters.tflite.jobs import JobFailed, measure
from converters.tflite.tap import with_outputs

# The operators that overwrite an input, and whose kernels take inputs of any range.
_READERS = frozenset({"ADD", "MUL", "SUB"})
# Operators whose kernels give a result of any range, with nothing else in the file depending on it.
_PRODUCERS = _READERS | {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_INTEGERS: Mapping[str, Any] = {"INT8": np.iinfo("int8"), "INT16": np.iinfo("int16")}

Range = tuple[float, float]


def with_measured_ranges(
    file: TfliteFile, floats: TfliteFile, batches: Sequence[Mapping[str, np.ndarray]]
) -> TfliteFile:
    """The file with the true ranges of the tensors that calibration found overwritten.

    Args:
        file: A `.tflite` file of integers.
        floats: The same graph in float, with a signature.
        batches: What the ranges are taken from: inputs by signature name, one batch per run.

    Returns:
        The new file: the same operators and constants.

    Raises:
        JobFailed: If a range is none, as LiteRT computes NaN or an infinity in it.
    """
    tensors = _overwritten(file.graph)
    found = measured(floats, [tensor.name for tensor in tensors], batches)
    for name, ends in found.items():
        if not np.isfinite(ends).all():
            raise JobFailed(f"tensor {name!r} is NaN or infinite on the representative data")
    ranges = {t.index: found[t.name] for t in tensors if t.name in found}
    return _with_ranges(file, ranges) if ranges else file


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
        if tensor.dtype in _INTEGERS
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


def _with_ranges(file: TfliteFile, ranges: Mapping[int, Range]) -> TfliteFile:
    """The file with other ranges for some of its tensors of integers.

    Args:
        file: A `.tflite` file.
        ranges: The smallest and largest value, by the index of the tensor in the first graph; 0 is
            taken into the range.
    """
    dtypes = {tensor.index: tensor.dtype for tensor in file.graph.tensors}
    model = file.changeable()
    for index, (low, high) in ranges.items():
        low, high = min(low, 0.0), max(high, 0.0)
        limits = _INTEGERS[dtypes[index]]
        if dtypes[index] == "INT16":  # whose kernels take symmetric ranges only
            scale, zero = max(-low, high) / limits.max, 0
        else:
            scale = (high - low) / (limits.max - limits.min)
            zero = round(limits.min - low / scale) if scale else 0
        if scale:
            quantization = model.subgraphs[0].tensors[index].quantization
            quantization.scale, quantization.zeroPoint = [scale], [zero]
    return packed(model)
