"""Small numbers of a ``.tflite`` file of float16 weights, kept in float32.

The converter rounds every constant to half precision, whose least number is 6e-8: an epsilon of
1e-12 that keeps a divisor or a logarithm from 0 is 0 then.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Callable

import numpy as np

from converters.tflite.flatbuffer import Operator, TfliteFile, packed, schema
from converters.tflite.rewrites.edit import prune

# Below it half precision has fewer digits, and none at last.
_LEAST = float(np.finfo(np.float16).smallest_normal)


def with_small_numbers(file: TfliteFile, floats: Callable[[], TfliteFile]) -> TfliteFile:
    """The file with constants of one number as in float32, if half precision is too coarse.

    Args:
        file: A `.tflite` file of float16 weights.
        floats: Gives the same graph in float32; called where there is such a number, or a 0.
    """
    small = {operator.outputs[0]: operator for operator in file.graph.operators if _small(operator)}
    if not small:
        return file
    ours = [operator for operator in file.graph.operators if operator.name != "DEQUANTIZE"]
    theirs = [operator for operator in floats().graph.operators if operator.name != "DEQUANTIZE"]
    if [operator.name for operator in ours] != [operator.name for operator in theirs]:
        return file
    known = {
        own: other.floats()
        for one, two in zip(ours, theirs, strict=True)
        for own, other in zip(one.inputs, two.inputs, strict=True)
        if own in small and other is not None
    }
    model = file.changeable()
    graph = model.subgraphs[0]
    dropped = set()
    for tensor, values in known.items():
        if values is None or values.size != 1 or not 0 < abs(values[0]) < _LEAST:
            continue
        buffer = schema().BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        graph.tensors[tensor.index].buffer = len(model.buffers)
        model.buffers.append(buffer)
        dropped.add(small[tensor].index)
    if not dropped:
        return file
    graph.operators = [o for index, o in enumerate(graph.operators) if index not in dropped]
    prune(model)
    return packed(model)


def _small(operator: Operator) -> bool:
    """Whether an operator widens a number of half precision that is nearly 0."""
    source = operator.inputs[0] if operator.name == "DEQUANTIZE" else None
    values = None if source is None or source.dtype != "FLOAT16" else source.floats()
    return values is not None and values.size == 1 and abs(float(values[0])) < _LEAST
