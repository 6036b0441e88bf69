"""Finds the layer that a conversion fails at, by converting ever smaller beginnings of the model.

What TensorFlow's converter says of a failure names its own operators, and of a crash it says
nothing. Imports Keras inside functions.
"""

from collections.abc import Callable, Sequence
from typing import Any

_ADVICE = "replace {}, or leave this precision out"


def find_culprit(model: Any, fails: Callable[[Any], bool]) -> Any | None:
    """The first layer with which a model fails.

    Args:
        model: A `keras.Model`.
        fails: Whether a model fails, called some ten times on beginnings of the model.

    Returns:
        The layer; `None` where the model is not functional, or no beginning of it fails.
    """
    layers = _layers(model)
    try:
        if not layers or not fails(_beginning(model, layers)):
            return None
        low, high = 0, len(layers)  # The first `low` are right, the first `high` fail.
        while high - low > 1:
            middle = (low + high) // 2
            if fails(_beginning(model, layers[:middle])):
                high = middle
            else:
                low = middle
    except ValueError:  # Of a layer that was first called elsewhere the output is not this model's.
        return None
    return layers[high - 1]


def described(layer: Any | None) -> tuple[str, str]:
    """Where it failed, and what to do, for a message."""
    if layer is None:
        return "", f"; {_ADVICE.format('what it names')}"
    return f" at layer {layer.name!r} ({type(layer).__name__})", f"; {_ADVICE.format('it')}"


def _layers(model: Any) -> list[Any]:
    """What a functional model calls, layers and bare operations, in an order in which it runs."""
    import keras

    if not getattr(model, "inputs", None):
        return []
    return [
        layer
        for layer in getattr(model, "operations", model.layers)
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def _beginning(model: Any, layers: Sequence[Any]) -> Any:
    import keras

    # What a layer of them reads is none of the outputs, that the converter may join the two.
    read = {id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.input)}
    outputs = [tensor for layer in layers for tensor in keras.tree.flatten(layer.output)]
    return keras.Model(model.inputs, [tensor for tensor in outputs if id(tensor) not in read])
