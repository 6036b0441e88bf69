"""Comparisons of integers of very small or large steps."""

from converters.tflite.comparisons import mistaken
from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit


def of_numbers(edit: Edit) -> None:
    """Has the numbers compared that the integers stand for."""
    for operator in edit.graph.operators:
        if mistaken(operator):
            inputs = [_numbers(edit, operator, t) for t in operator.inputs if t is not None]
            edit.put(operator, operator.name, inputs, operator.outputs[0], operator.options)
            edit.drop(operator)


def _numbers(edit: Edit, at: Operator, tensor: Tensor) -> Tensor:
    values = tensor.values()
    if values is not None:
        return edit.constant(values, f"{tensor.name};numbers")
    result = edit.without_steps(tensor, "FLOAT32", "numbers")
    return edit.put(at, "DEQUANTIZE", (tensor,), result, schema().DequantizeOptionsT())
