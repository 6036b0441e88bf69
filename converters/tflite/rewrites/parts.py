"""Splits: their parts, and tensors that one operator reads twice.

The delegate makes one operator of two where all that the first gives goes to the second. A
`RESHAPE` to the same shape costs a copy at most, and keeps them apart.
"""

from collections import Counter

from converters.tflite.flatbuffer import Operator, Tensor
from converters.tflite.rewrites.edit import Edit

_SPLITS = {"SPLIT", "SPLIT_V", "UNPACK"}
# Operators that are right with one tensor as two inputs.
_REPEATABLE = {"ADD", "MUL", "CONCATENATION"}


def meeting(edit: Edit) -> None:
    """Parts of a split that only one operator reads."""
    for split in edit.graph.operators:
        if split.name not in _SPLITS:
            continue
        read = [part for part in split.outputs if edit.readers[part.index]]
        readers = {o.index: o for part in read for o in edit.readers[part.index]}
        if len(read) < 2 or len(readers) != 1 or not edit.ends.isdisjoint(p.index for p in read):
            continue
        (reader,) = readers.values()
        times = Counter(t.index for t in reader.inputs if t is not None)
        if (
            any(times[p.index] > 1 for p in read)
            or times.total() > len(read)
            or edit.dropped(reader)
        ):
            continue
        if not _undone(split, reader):
            _apart(edit, reader, min(read, key=lambda part: part.shape))


def _undone(split: Operator, reader: Operator) -> bool:
    """Whether the parts are put together as they were."""
    if (split.name, reader.name) == ("UNPACK", "PACK"):
        axis = {o.options.axis % len(split.inputs[0].shape) for o in (split, reader)}  # type: ignore[union-attr]
        return reader.inputs == split.outputs and len(axis) == 1
    whole = split.inputs[1 if split.name == "SPLIT" else 0]
    return (
        reader.name == "CONCATENATION"
        and reader.inputs == split.outputs
        and whole is not None
        and reader.outputs[0].shape == whole.shape
    )


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
                edit.view(split, whole, split.outputs[0])
                edit.drop(split)


def _apart(edit: Edit, reader: Operator, tensor: Tensor, position: int | None = None) -> None:
    """Has an operator read a tensor by way of a `RESHAPE` to its own shape."""
    position = reader.inputs.index(tensor) if position is None else position
    copy = edit.view(reader, tensor, edit.like(tensor, tensor.shape, "apart"))
    inputs = [*reader.inputs[:position], copy, *reader.inputs[position + 1 :]]
    edit.again(reader, inputs, reader.outputs[0])
    edit.drop(reader)
