"""Splits: their parts, and tensors that one operator reads twice."""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.gpu_rules import SPLITS, split_joined, split_mixed, split_unread
from converters.tflite.rewrites.edit import Edit

# Operators that are right with one tensor as two inputs.
_REPEATABLE = {"ADD", "MUL", "CONCATENATION"}


def meeting(edit: Edit) -> None:
    """The splits that the rules of `lint` name: each part by a slice of its own."""
    joined, mixed, unread = (rule(edit.view) for rule in (split_joined, split_mixed, split_unread))
    wrong = {*(place.before for place in (*joined, *mixed)), *(place.what for place in unread)}
    for split in edit.graph.operators:
        if split in wrong:
            _sliced(edit, split)


def _sliced(edit: Edit, split: Operator) -> None:
    whole = split.inputs[SPLITS[split.name]]
    if whole is None or len(split.outputs) == 1 or len(whole.shape) > 4:
        return
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
