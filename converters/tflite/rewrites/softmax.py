"""The logarithm of a softmax."""

from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import Edit

Shape = tuple[int, ...]


def logarithm(edit: Edit) -> None:
    """Without the operator, in floats; the maximum first, so that nothing overflows."""
    for operator in edit.graph.operators:
        x = operator.inputs[0] if operator.name == "LOG_SOFTMAX" else None
        if x is not None and x.dtype == "FLOAT32":
            _written_out(edit, operator, x)
            edit.drop(operator)


def _written_out(edit: Edit, operator: Operator, x: Tensor) -> None:
    axis = edit.constant(np.array([len(x.shape) - 1], "int32"), "last")
    one = (*x.shape[:-1], 1)
    over = schema().ReducerOptionsT()
    over.keepDims = True

    def put(name: str, part: str, shape: Shape, *inputs: Tensor, options: Any = None) -> Tensor:
        return edit.put(operator, name, inputs, edit.like(x, shape, part), options)

    most = put("REDUCE_MAX", "max", one, x, axis, options=over)
    below = put("SUB", "below", x.shape, x, most, options=schema().SubOptionsT())
    powers = put("EXP", "exp", x.shape, below, options=schema().ExpOptionsT())
    log = put("LOG", "log", one, put("SUM", "sum", one, powers, axis, options=over))
    edit.put(operator, "SUB", (below, log), operator.outputs[0], schema().SubOptionsT())
