"""Reciprocal roots of what may be 0."""

import numpy as np

from converters.tflite.flatbuffer import schema
from converters.tflite.rewrites.edit import Edit

# Of a root's bound, beyond which x is bounded by the least normal number of float32.
_GREATEST = 1e18
_LEAST = float(np.finfo("float32").tiny)


def bounded(edit: Edit) -> None:
    """1 / sqrt(x), of floats, where it is bounded from above: x is, from below, in its place."""
    for root in edit.graph.operators:
        x = root.inputs[0] if root.name == "RSQRT" else None
        bound = edit.view.reader(root.outputs[0]) if x is not None else None
        if x is None or x.dtype != "FLOAT32" or bound is None or bound.name != "MINIMUM":
            continue
        others = [t for t in bound.inputs if t is not None and t != root.outputs[0]]
        most = edit.view.held(others[0]).values() if others else None
        if most is None or most.size != 1 or bound.outputs[0].shape != x.shape:
            continue
        number = float(most.reshape(()))
        if not number > 1 / _GREATEST:
            continue
        least = max(1 / number**2, _LEAST) if number < _GREATEST else _LEAST
        limit = edit.constant(np.full((1,) * len(x.shape), least, "float32"), f"{x.name};least")
        options = schema().MaximumMinimumOptionsT()
        kept = edit.put(root, "MAXIMUM", (x, limit), edit.like(x, x.shape, "bounded"), options)
        edit.again(root, (kept,), bound.outputs[0])
        edit.drop(root, bound)
