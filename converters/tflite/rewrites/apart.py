"""Two operators that the delegate takes for one, and computes otherwise or forgets a result of."""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.gpu_rules import extreme_of_sum, folded_broadcast, inner_output, padded_sum
from converters.tflite.rewrites.edit import Edit

_LEAST = np.finfo(np.float32).min


def mistaken(edit: Edit) -> None:
    """Those that the rules of `lint` name."""
    wrong: dict[Operator, set[str]] = {}
    for rule in (inner_output, extreme_of_sum, folded_broadcast, padded_sum):
        for place in rule(edit.view):
            assert isinstance(place.what, Operator)
            wrong.setdefault(place.what, set()).update(place.tensors)
    for reader, names in wrong.items():
        inner = [t for t in reader.inputs if t is not None and t.name in names]
        apart(edit, reader, [t for t in inner if t.dtype == "FLOAT32"])


def apart(edit: Edit, reader: Operator, tensors: list[Tensor]) -> None:
    """Puts an operator that changes nothing between tensors of floats and what reads them."""
    kept: dict[Tensor | None, Tensor] = {}
    for x in tensors:
        least = edit.constant(np.full((1,) * len(x.shape), _LEAST), f"{x.name};least")
        options = schema().MaximumMinimumOptionsT()
        kept[x] = edit.put(reader, "MAXIMUM", (x, least), edit.like(x, x.shape, "apart"), options)
    edit.again(reader, [kept.get(t, t) for t in reader.inputs], reader.outputs[0])
    edit.drop(reader)
