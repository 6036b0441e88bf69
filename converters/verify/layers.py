"""The first layer whose values are not those that PyTorch had there.

Imports NumPy; Keras inside functions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.data.layout import fitted
from converters.verify.limits import Limits
from converters.verify.outputs import relative_difference
from converters.verify.sides import KerasSide, ReferenceSide, Side

_SAMPLES = 8


def first_drift(
    model: Side,
    reference: ReferenceSide,
    limits: Limits,
    modules: Mapping[str, str] | None = None,
) -> str:
    """Where a model leaves what was recorded, in one line.

    Args:
        model: The model that differs.
        reference: What was recorded, in the layout of the model; with `layers` if this is to be
            found.
        limits: What passes.
        modules: PyTorch's path of each layer by its name, as a port report gives it. Layers that
            are not among them go by their names.

    Returns:
        The line; empty if the model is no Keras model whose graph is known, or none of the
        recorded modules is found among its layers.
    """
    recorded = reference.reference.layers
    if not isinstance(model, KerasSide) or not recorded:
        return ""
    import keras

    from ulsam_keras.graph import is_graph

    if not is_graph(model.model):
        return ""
    found = []
    for layer in model.model.layers:
        path = (modules or {}).get(layer.name, layer.name)
        if path in recorded and not isinstance(layer, (keras.layers.InputLayer, keras.Model)):
            output: Any = layer.output
            if isinstance(output, keras.KerasTensor):
                found.append((layer.name, path, output))
    if not found:
        return "None of the recorded modules is a layer of the model, by its name or by the port."
    probe = keras.Model(model.model.input, [output for *_, output in found])
    inputs = {name: value[:_SAMPLES] for name, value in reference.reference.inputs.items()}
    arrays = list(inputs.values())
    packed = arrays[0] if len(arrays) == 1 else keras.tree.pack_sequence_as(probe.input, arrays)
    values = probe.predict(packed, batch_size=_SAMPLES, verbose=0)
    flat = [np.asarray(value) for value in keras.tree.flatten(values)]
    last = ""
    for (name, path, output), value in zip(found, flat, strict=True):
        wanted = recorded[path][:_SAMPLES]
        try:
            wanted = fitted(wanted, (None, *output.shape[1:]), f"layers.{path}", model.name)
            difference = relative_difference(value, wanted)
        except ValueError:
            continue  # a map that was flattened, for example: another layout of the same values
        if not difference <= limits.reference:
            before = f"; {last} is as recorded" if last else "; it is the first that was recorded"
            return f"The first layer that drifts is {name} ({path}), by {difference:.1e}{before}."
        last = name
    return f"All {len(found)} recorded layers are as recorded, up to {last}: what differs is after."
