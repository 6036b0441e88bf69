"""The logarithm of a softmax."""

import numpy as np

from converters.tflite.flatbuffer import Tensor, schema
from converters.tflite.rewrites.edit import Edit


def logarithm(edit: Edit) -> None:
    """Without the operator, in floats; the maximum first, so that nothing overflows."""
    for operator in edit.graph.operators:
        x = operator.inputs[0] if operator.name == "LOG_SOFTMAX" else None
        if x is None or x.dtype != "FLOAT32":
            continue
        axis = edit.constant(np.array([len(x.shape) - 1], "int32"), "last")
        one = (*x.shape[:-1], 1)

        def put(
            name: str, options: str, part: str, *inputs: Tensor, shape: tuple[int, ...]
        ) -> Tensor:
            chosen = getattr(schema(), options)()
            if options == "ReducerOptionsT":
                chosen.keepDims = True
            return edit.put(operator, name, inputs, edit.like(x, shape, part), chosen)

        most = put("REDUCE_MAX", "ReducerOptionsT", "max", x, axis, shape=one)
        below = put("SUB", "SubOptionsT", "below", x, most, shape=x.shape)
        powers = put("EXP", "ExpOptionsT", "exp", below, shape=x.shape)
        total = put("SUM", "ReducerOptionsT", "sum", powers, axis, shape=one)
        log = edit.put(operator, "LOG", (total,), edit.like(x, one, "log"))
        edit.put(operator, "SUB", (below, log), operator.outputs[0], schema().SubOptionsT())
        edit.drop(operator)
