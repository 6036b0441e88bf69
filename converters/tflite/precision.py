"""What precision a ``.tflite`` file is of, read off its tensors, and what the GPU takes of it.

Imports the flatbuffer reader only.
"""

from converters.tflite.flatbuffer import Graph

_EIGHT_BITS = {"INT8", "UINT8"}


def precision_of(graph: Graph) -> str:
    """The precision of a file, by the names that `to_tflite` takes.

    Args:
        graph: The graph that runs.

    Returns:
        `"int16x8"` or `"int8"` if activations are quantized to 16 or 8 bits; else `"float16"` or
        `"dynamic_range"` if weights are stored in half precision or quantized to 8 bits; else
        `"float32"`.
    """
    computed = {t.dtype for o in graph.operators for t in o.outputs if t.scales}
    if "INT16" in computed:
        return "int16x8"
    if computed & _EIGHT_BITS:
        return "int8"
    constants = [tensor for tensor in graph.tensors if tensor.constant]
    if any(tensor.dtype == "FLOAT16" for tensor in constants):
        return "float16"
    if any(tensor.dtype in _EIGHT_BITS and tensor.scales for tensor in constants):
        return "dynamic_range"
    return "float32"


def why_not_on_gpu(graph: Graph) -> str:
    """Why the GPU delegate does not take a file of integers, in words; empty if it may.

    What it refuses of float files is no matter of their precision: they are run, and it says so.
    """
    precision = precision_of(graph)
    if precision == "int16x8":
        return "the GPU delegate takes no 16-bit integers"
    if precision == "int8" and any(o.name == "LOG_SOFTMAX" for o in graph.operators):
        return "the GPU delegate takes no log-softmax; convert with --attention float for it"
    return ""
