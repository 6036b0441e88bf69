"""Channels that are reversed or compared, and choices by constants."""

import numpy as np

from converters.tflite.channels import broken_pack, reversed_channels, short_condition
from converters.tflite.flatbuffer import schema
from converters.tflite.groups import PACK
from converters.tflite.rewrites.edit import Edit

# The least of each type, which is no largest.
_LEAST = {"FLOAT32": np.finfo("float32").min, "INT8": -128}


def backwards(edit: Edit) -> None:
    """Channels in reverse, by their numbers."""
    for turn in edit.graph.operators:
        x, told = (*turn.inputs, None, None)[:2]
        axes = None if told is None or not reversed_channels(turn) else told.stored()
        if x is None or axes is None or axes.size != 1:
            continue
        order = np.arange(x.shape[-1], dtype="int32")[::-1]
        options = schema().GatherOptionsT()
        options.axis = len(x.shape) - 1
        numbers = edit.constant(order, f"{turn.outputs[0].name};order")
        edit.put(turn, "GATHER", (x, numbers), turn.outputs[0], options)
        edit.drop(turn)


def largest(edit: Edit) -> None:
    """The number of the largest channel, of whole packs."""
    for search in edit.graph.operators:
        x = search.inputs[0] if broken_pack(edit.view, search) else None
        if x is None or x.dtype not in _LEAST:
            continue
        output, (first, *rest) = search.outputs[0], x.shape
        shape = (first, *(1,) * (3 - len(rest)), *rest)
        sizes = np.zeros((4, 2), "int32")
        sizes[3, 1] = -x.shape[-1] % PACK
        whole = edit.like(x, (*shape[:3], x.shape[-1] + sizes[3, 1]), "packs")
        least = np.full((1,), _LEAST[x.dtype], x.dtype.lower())
        inputs = (
            edit.reshaped(search, x, shape),
            edit.constant(sizes, f"{whole.name};sizes"),
            edit.constant(least, f"{whole.name};least", x if x.scales else None),
        )
        edit.put(search, "PADV2", inputs, whole, schema().PadV2OptionsT())
        axis = edit.constant(np.array(3, "int32"), f"{whole.name};axis")
        if len(output.shape) == 3:
            edit.again(search, (whole, axis), output)
        else:
            found = edit.again(search, (whole, axis), edit.like(output, shape[:3], "found"))
            edit.reshape(search, found, output)
        edit.drop(search)


def conditions(edit: Edit) -> None:
    """Constants that choose, of as many dimensions as what is chosen from."""
    for choice in edit.graph.operators:
        condition = choice.inputs[0] if short_condition(edit.view, choice) else None
        if condition is None:
            continue
        missing = len(choice.outputs[0].shape) - len(condition.shape)
        whole = edit.like(condition, (1,) * missing + condition.shape, "whole")
        edit.again(choice, (whole, *choice.inputs[1:]), choice.outputs[0])
        edit.drop(choice)
