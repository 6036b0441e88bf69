"""Integers that are copied into a tensor of other steps."""

from converters.tflite.copies import copied, mistaken
from converters.tflite.flatbuffer import schema
from converters.tflite.rewrites.edit import Edit


def requantized(edit: Edit) -> None:
    """Copies keep the steps of what they copy; those of their result come after."""
    for operator in edit.graph.operators:
        sources = [tensor for tensor in copied(operator) if not tensor.constant]
        if not sources or mistaken(operator) != [*operator.outputs] or len(operator.outputs) > 1:
            continue
        source, output = sources[0], operator.outputs[0]
        kept = edit.again(operator, operator.inputs, edit.like(source, output.shape, "copied"))
        edit.put(operator, "QUANTIZE", (kept,), output, schema().QuantizeOptionsT())
        edit.drop(operator)
