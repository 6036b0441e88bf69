"""The first layer whose values are not those that PyTorch had there."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from converters.data.layout import fitted
from converters.verify.causes import SAMPLES, allowed, distance, recalled
from converters.verify.limits import Limits
from converters.verify.outputs import relative_difference
from converters.verify.samples import Reference, Side
from converters.verify.sides import KerasSide
from converters.verify.targets import TENSORFLOW

Found = tuple[str, str, np.ndarray]


def first_drift(model: Side, reference: Reference, limits: Limits) -> str:
    """Where a model leaves what was recorded, in one line.

    Args:
        model: The model that differs.
        reference: What was recorded, in the layout of the model; with `layers` if this is to be
            found.
        limits: What passes.

    Returns:
        The line; empty if the difference passes, or the model is no Keras model whose graph is
        known and whose layers can be looked at.
    """
    recorded = reference.layers
    if not isinstance(model, KerasSide) or not recorded:
        return ""
    from ulsam_keras.graph import is_graph

    limit = allowed(model, limits)
    if not is_graph(model.model) or not distance(model, reference) > limit:
        return ""
    try:
        found = _layers(model, reference)
    except Exception:  # whatever a user's layers make of being called again
        return ""
    if not found:
        return "None of the recorded modules is a layer of the model, by its name or by the port."
    last = ""
    for name, path, value in found:
        wanted = recorded[path][: len(value)]
        try:
            wanted = fitted(wanted, (None, *value.shape[1:]), f"layers.{path}", model.name)
            difference = relative_difference(value, wanted)
        except ValueError:
            continue  # a map that was flattened, for example: another layout of the same values
        if not difference <= limit:
            before = f"; {last} is as recorded" if last else "; it is the first that was recorded"
            return f"The first layer that drifts is {name} ({path}), by {difference:.1e}{before}."
        last = name
    return f"All {len(found)} recorded layers are as recorded, up to {last}: what differs is after."


def _layers(side: KerasSide, reference: Reference) -> list[Found]:
    """The layers that were recorded, in the order of their calls: name, key, and what it answers.

    What a layer answered is that of its call in this model: it may be called in others too.
    """
    import keras

    found: list[tuple[str, str, Any]] = []
    calls: Counter[str] = Counter()

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = layer(*args, **kwargs)
        path = reference.modules.get(layer.name, layer.name)
        key = f"{path}@{calls[path]}" if calls[path] else path
        single = isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model)
        if single and key in reference.layers and isinstance(result, keras.KerasTensor):
            found.append((layer.name, key, result))
        calls[path] += 1
        return result

    other = recalled(side.model, call)
    if not found:
        return []
    probe = keras.Model(other.input, [output for *_, output in found])
    gives = {key: output.shape for _, key, output in found}
    looked_at = replace(side, model=probe, outputs=gives, gives=tuple(gives), _kept={})
    values = looked_at.answer(reference.first(SAMPLES), TENSORFLOW).outputs or {}
    return [(name, key, values[key]) for name, key, _ in found]
