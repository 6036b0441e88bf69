"""Integers that are copied into a tensor of other steps."""

from converters.tflite.copies import MEETING, alike, copied, mistaken
from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit


def requantized(edit: Edit) -> None:
    """Copies keep the steps of what they copy, and get those of their result after or before."""
    kept: dict[tuple[int, float, int], Tensor] = {}
    for operator in edit.graph.operators:
        sources = [tensor for tensor in copied(operator) if not tensor.constant]
        wrong = mistaken(operator)
        if not sources or not wrong or len(operator.outputs) > 1:
            continue
        if wrong == [*operator.outputs]:
            _after(edit, operator, sources[0])
        elif operator.name in MEETING:
            _before(edit, operator, kept)


def _after(edit: Edit, operator: Operator, source: Tensor) -> None:
    output = operator.outputs[0]
    kept = edit.again(operator, operator.inputs, edit.like(source, output.shape, "copied"))
    edit.put(operator, "QUANTIZE", (kept,), output, schema().QuantizeOptionsT())
    edit.drop(operator)


def _before(edit: Edit, operator: Operator, kept: dict[tuple[int, float, int], Tensor]) -> None:
    """Gives all that meets in an operator the steps of its result.

    Args:
        edit: The graph.
        operator: The operator.
        kept: What was requantised before: the tensor's number, the steps.
    """
    output, met = operator.outputs[0], copied(operator)

    def in_steps(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor not in met or alike(tensor, output):
            return tensor
        key = (tensor.index, output.scales[0], output.zero_points[0])
        if key not in kept:
            kept[key] = _in_steps(edit, operator, tensor, output)
        return kept[key]

    edit.again(operator, [in_steps(tensor) for tensor in operator.inputs], output)
    edit.drop(operator)


def _in_steps(edit: Edit, at: Operator, tensor: Tensor, output: Tensor) -> Tensor:
    values = tensor.values()
    if values is not None:
        return edit.constant(output.quantized(values), f"{tensor.name};steps", like=output)
    result = edit.like(output, tensor.shape, "met")
    return edit.put(at, "QUANTIZE", (tensor,), result, schema().QuantizeOptionsT())
