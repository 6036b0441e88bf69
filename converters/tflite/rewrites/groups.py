"""Grouped convolutions of other than whole packs of channels, and of 1x1 in integers."""

import numpy as np

from converters.tflite.flatbuffer import schema
from converters.tflite.groups import flat, grouped, merged, mistaken
from converters.tflite.rewrites.edit import Edit


def of_packs(edit: Edit) -> None:
    """Groups put together, with weights of 0 between them; a 1x1 of integers as a 1x2."""
    for conv in edit.graph.operators:
        x, weights = (*conv.inputs, None, None)[:2]
        if x is None or weights is None or not mistaken(conv):
            continue
        held = edit.view.held(weights)
        stored = held.stored()
        if stored is None:
            continue
        count, new = grouped(conv), merged(conv)
        zero = held.zero_points[0] if held.zero_points else 0
        values = _together(stored, count, new, zero)
        options = {}
        if new > 1 and flat(conv):
            values = np.concatenate([values, np.full_like(values, zero)], axis=2)
            # "same" pads the second column after the map.
            options["padding"] = schema().Padding.SAME
        kernel = edit.constant(
            values,
            f"{weights.name};packs",
            scales=held.scales,
            zeros=held.zero_points,
            axis=0,
        )
        if held is not weights:
            wide = edit.view.producer[weights]
            kernel = edit.again(wide, (kernel,), edit.like(weights, kernel.shape, "packs"))
        edit.again(conv, (x, kernel, *conv.inputs[2:]), conv.outputs[0], **options)
        edit.drop(conv)


def _together(kernel: np.ndarray, count: int, new: int, zero: int) -> np.ndarray:
    """The kernel of `new` groups that computes what one of `count` groups does."""
    filters, height, width, channels = kernel.shape
    each, many = filters // count, count // new
    shape = (new, many, each, height, width, many, channels)
    values = np.full(shape, zero, kernel.dtype)
    parts = kernel.reshape(new, many, each, height, width, channels)
    for place in range(many):
        values[:, place, :, :, :, place] = parts[:, place]
    return values.reshape(filters, height, width, many * channels)
