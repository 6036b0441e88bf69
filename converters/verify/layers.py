"""The first layer whose values are not those that PyTorch had there.

Imports NumPy; Keras inside functions.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.data.layout import fitted
from converters.verify.causes import SAMPLES, allowed, distance, recalled
from converters.verify.limits import Limits
from converters.verify.outputs import relative_difference
from converters.verify.references import Reference, Side
from converters.verify.sides import Arrays, KerasSide

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
        found = _layers(model.model, reference.first(SAMPLES), recorded, reference.modules)
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


def _layers(
    model: Any,
    inputs: Arrays,
    recorded: Mapping[str, np.ndarray],
    modules: Mapping[str, str],
) -> list[Found]:
    """The layers that were recorded, in the order of their calls: name, key, and what it answers.

    What a layer answered is that of its call in this model: it may be called in others too.
    """
    import keras

    found: list[tuple[str, str, Any]] = []
    calls: Counter[str] = Counter()

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = layer(*args, **kwargs)
        path = modules.get(layer.name, layer.name)
        key = f"{path}@{calls[path]}" if calls[path] else path
        single = isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model)
        if single and key in recorded and isinstance(result, keras.KerasTensor):
            found.append((layer.name, key, result))
        calls[path] += 1
        return result

    other = recalled(model, call)
    if not found:
        return []
    probe = keras.Model(other.input, [output for *_, output in found])
    count = len(inputs[0])
    batch = model.inputs[0].shape[0] or count
    whole = -(-count // batch) * batch
    arrays = [np.resize(value, (whole, *value.shape[1:])) for value in inputs]
    packed = keras.tree.pack_sequence_as(probe.input, arrays)
    values = probe.predict(packed, batch_size=batch, verbose=0)
    return [
        (name, key, np.asarray(value)[:count])
        for (name, key, _), value in zip(found, keras.tree.flatten(values), strict=True)
    ]
