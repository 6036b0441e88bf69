"""A range of their own for tensors that were 0 on all of the data.

The converter takes 1e-6 or less for the range of zeros, which small numbers may have as well: they
are told apart by what they are in float. XNNPACK refuses to compute with it, and
with the operator the whole file. A bias counts in steps of its input's range times its weights', so
that behind such a tensor it does not fit into its integers, and the converter makes the weights
coarser until it does. Dead channels, a dead ReLU, the scores of a flat attention are such tensors.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from converters.tflite.constants import Twins, parts, replace
from converters.tflite.flatbuffer import TfliteFile, packed
from converters.tflite.ranges import measured, names_in_float
from converters.tflite.steps import LEAST

# The steps that a tensor of zeros gets, a range to 2 and to 1: nothing is known of what it may be.
_OF_ZEROS = {"INT8": 1 / 128, "INT16": 1 / 32768}


def with_ranges_for_zeros(
    file: TfliteFile, floats: TfliteFile, batches: Sequence[Mapping[str, np.ndarray]]
) -> TfliteFile:
    """The file with steps that every kernel takes, and the weights behind them as in float.

    Biases are left as they are: `with_biases` follows.

    Args:
        file: A `.tflite` file of integers.
        floats: The same graph in float, which weights are taken from, with a signature.
        batches: What the ranges were taken from: inputs by signature name, one batch per run.

    Raises:
        ValueError: If the weights behind such a tensor are not found in the float graph.
    """
    graph = file.graph
    tiny = [
        tensor
        for tensor in graph.tensors
        if tensor.dtype in _OF_ZEROS
        and not tensor.constant
        and tensor.scales
        and tensor.scales[0] < LEAST[tensor.dtype]
    ]
    names = names_in_float(graph, floats.graph)
    found = measured(floats, [names[tensor.index] for tensor in tiny], batches)
    zeros = {
        tensor.index: _OF_ZEROS[tensor.dtype]
        for tensor in tiny
        # Nothing is lost of what is 0 in the converter's own steps.
        if max(map(abs, found.get(names[tensor.index], (0.0, 0.0)))) < tensor.scales[0] / 2
    }
    if not zeros:
        return file
    model = file.changeable()
    for index, scale in zeros.items():
        model.subgraphs[0].tensors[index].quantization.scale = [scale]
    twins = Twins(graph, floats.graph)
    for operator in twins:
        inputs, weights, _ = parts(operator)
        if inputs is None or weights is None or inputs.index not in zeros:
            continue
        values = twins.floats(operator, 1)
        others = tuple(i for i in range(values.ndim) if i != weights.axis)
        largest = np.abs(values).max(axis=others if len(weights.scales) > 1 else None)
        scales = np.atleast_1d(np.where(largest > 0, largest / 127, 1.0))
        along = np.reshape(scales, [-1 if i == weights.axis else 1 for i in range(values.ndim)])
        replace(model, operator, weights, values / along, scales)
    return packed(model)
