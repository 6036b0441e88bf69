"""Splits: their parts, and tensors that one operator reads twice."""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import ELEMENTWISE, VIEWS, Edit

# What is split, by the operator: the position of its input.
_SPLITS = {"SPLIT": 1, "SPLIT_V": 0, "UNPACK": 0}
# Operators that the delegate makes part of what comes before them.
_FUSED = VIEWS | ELEMENTWISE
# Operators that put parts together again.
_MEETINGS = _FUSED | {"CONCATENATION", "PACK"}
# Operators that are right with one tensor as two inputs.
_REPEATABLE = {"ADD", "MUL", "CONCATENATION"}


def meeting(edit: Edit) -> None:
    """Splits whose parts meet again: each part by a slice of its own."""
    for split in edit.graph.operators:
        whole = split.inputs[_SPLITS[split.name]] if split.name in _SPLITS else None
        if whole is None or len(split.outputs) == 1 or len(whole.shape) > 4:
            continue
        # Integers are kept apart, and crash where a part is left unread.
        wrong = any(map(edit.view.unread, split.outputs)) if whole.scales else _meet(edit, split)
        if wrong:
            _sliced(edit, split)


def _meet(edit: Edit, split: Operator) -> bool:
    """Whether an operator reads two parts, or what fused operators make of them."""
    parts = {part.index: {number} for number, part in enumerate(split.outputs)}
    for operator in edit.graph.operators[split.index + 1 :]:
        if operator.name not in _MEETINGS:
            continue
        read = [parts.get(t.index, set()) for t in operator.inputs if t is not None]
        found = set().union(*read)
        if len(found) > 1 and not _undone(split, operator):
            return True
        if found and operator.name in _FUSED:
            parts[operator.outputs[0].index] = found
    return False


def _undone(split: Operator, reader: Operator) -> bool:
    """Whether the parts are put together as they were, which is right."""
    whole = split.inputs[_SPLITS[split.name]]
    together = ("CONCATENATION", "PACK")[split.name == "UNPACK"]
    return (
        reader.name == together
        and reader.inputs == split.outputs
        and whole is not None
        and reader.outputs[0].shape == whole.shape
        and (split.name != "UNPACK" or reader.options.axis == split.options.axis)
    )


def _sliced(edit: Edit, split: Operator) -> None:
    whole = split.inputs[_SPLITS[split.name]]
    assert whole is not None
    rank = len(whole.shape)
    if split.name == "UNPACK":
        axis = split.options.axis % rank
        sizes = [1] * len(split.outputs)
    else:
        told = split.inputs[0 if split.name == "SPLIT" else 2]
        number = None if told is None else told.values()
        if number is None:
            return
        axis = int(number.reshape(-1)[0]) % rank
        sizes = [part.shape[axis] for part in split.outputs]
    at = 0
    for part, size in zip(split.outputs, sizes, strict=True):
        begin = [0] * rank
        begin[axis], at = at, at + size
        shape = tuple(size if i == axis else n for i, n in enumerate(whole.shape))
        if edit.view.unread(part):
            continue
        result = part if part.shape == shape else edit.like(part, shape, "slice")
        inputs = (
            whole,
            edit.constant(np.array(begin, "int32"), f"{part.name};begin"),
            edit.constant(np.array(shape, "int32"), f"{part.name};size"),
        )
        edit.put(split, "SLICE", inputs, result, schema().SliceOptionsT())
        if result is not part:
            edit.reshape(split, result, part)
    edit.drop(split)


def repeated(edit: Edit) -> None:
    """Operators that read one tensor twice."""
    for operator in edit.graph.operators:
        if operator.name in _REPEATABLE or len(operator.inputs) != 2 or operator.options is None:
            continue
        first, second = operator.inputs
        if first is not None and first is second and not first.constant:
            _apart(edit, operator, first, position=1)


def one_way(edit: Edit) -> None:
    """Splits into one part."""
    for split in edit.graph.operators:
        if split.name in ("SPLIT", "SPLIT_V") and len(split.outputs) == 1:
            whole = split.inputs[1 if split.name == "SPLIT" else 0]
            if whole is not None:
                edit.reshape(split, whole, split.outputs[0])
                edit.drop(split)


def _apart(edit: Edit, reader: Operator, tensor: Tensor, position: int) -> None:
    """Has an operator read a tensor by way of a `RESHAPE` to its own shape."""
    copy = edit.reshape(reader, tensor, edit.like(tensor, tensor.shape, "apart"))
    inputs = [*reader.inputs[:position], copy, *reader.inputs[position + 1 :]]
    edit.again(reader, inputs, reader.outputs[0])
    edit.drop(reader)
