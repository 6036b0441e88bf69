"""Which function bridges which layer class; users add their own with `@bridges`.

Imports Keras only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Handler:
    """What bridges a layer class: `function(layer, inputs, emit)`, and whether to quantise it."""

    function: Callable[[Any, Any, Any], Any]
    quantize: bool = True


_HANDLERS: dict[type, Handler] = {}


def bridges(
    layer_class: type, *, quantize: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the function that bridges a layer class of your own.

    The function is called as `function(layer, inputs, emit)` for every call of such a layer:
    `layer` is the Keras 3 layer, `inputs` the tf_keras tensor it is called on, or the list of
    them. It returns the tf_keras tensor of its output, made with
    `emit(tf_keras_layer, inputs, weights={...})`, where `weights` pairs an attribute of the
    tf_keras layer with the Keras 3 variable (of the same shape) whose value it holds: it is
    copied there by `quantize_model`, and back by `restore`. Every tf_keras layer takes its name
    from `emit.name()`, or `emit.name("part")` where there are several.

    Stock tf_keras layers are quantised each as the table in `ulsam_keras/quantization/plan.py`
    says, other ones at their output.

    Args:
        layer_class: A subclass of `keras.layers.Layer`. The exact class counts: a subclass of it
            is not bridged by the same function.
        quantize: Whether `quantize_model` quantises what the function emits. Defaults to `True`.

    Returns:
        The decorator, which hands the function back.

    Raises:
        ValueError: If `layer_class` is not a Keras 3 layer class.

    Example:

    >>> @bridges(LayerScale)
    ... def bridge_layer_scale(layer, inputs, emit):
    ...     scale = tf_keras.layers.DepthwiseConv2D(1, use_bias=False, name=emit.name())
    ...     return emit(scale, inputs, weights={"depthwise_kernel": layer.gamma})
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise ValueError(
            "`layer_class` must be a subclass of keras.layers.Layer (Keras 3). "
            f"Received: layer_class={layer_class!r}"
        )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _HANDLERS[layer_class] = Handler(function, quantize)
        return function

    return register


def handler_for(layer: Any) -> Handler | None:
    """What bridges the layer, if anything does."""
    return _HANDLERS.get(type(layer))


def handled_classes() -> tuple[type, ...]:
    """Every layer class that has a function of its own."""
    return tuple(_HANDLERS)
