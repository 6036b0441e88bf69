"""How Keras 3's activations are written in tf_keras: a table.

Imports tf_keras inside functions only. Three need a function: tf_keras has no hard_silu, its
hard_sigmoid is another one, and silu is two LiteRT operators with a range each.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ulsam_keras.quantization.extra import tf_keras

if TYPE_CHECKING:
    from ulsam_keras.quantization.bridge.emitter import Emitter


def _layer(class_name: str, **arguments: Any) -> Callable[..., Any]:
    def write(x: Any, part: str, emit: "Emitter") -> Any:
        return emit(getattr(tf_keras().layers, class_name)(**arguments, name=emit.name(part)), x)

    return write


def _function(name: str) -> Callable[..., Any]:
    return _layer("Activation", activation=name)


def _silu(x: Any, part: str, emit: "Emitter") -> Any:
    return emit.merge("Multiply", [x, _function("sigmoid")(x, f"{part}gate", emit)], part)


def _hard_sigmoid(x: Any, part: str, emit: "Emitter") -> Any:
    x = emit.affine(x, offset=3.0, part=f"{part}shift")
    x = _layer("ReLU", max_value=6.0)(x, f"{part}clip", emit)
    return emit.affine(x, scale=1.0 / 6.0, part=f"{part}scale")


def _hard_silu(x: Any, part: str, emit: "Emitter") -> Any:
    from ulsam_keras.quantization.tf_layers import HardSilu

    return emit(HardSilu(name=emit.name(part)), x)


# By Keras 3's name: a function of the tensor, the part of the layer it is in, and `emit`.
ACTIVATIONS: dict[str, Callable[[Any, str, Any], Any]] = {
    "relu": _layer("ReLU"),
    "relu6": _layer("ReLU", max_value=6.0),
    "leaky_relu": _layer("LeakyReLU", alpha=0.2),
    "elu": _layer("ELU"),
    "softmax": _layer("Softmax"),
    "sigmoid": _function("sigmoid"),
    "tanh": _function("tanh"),
    "gelu": _function("gelu"),
    "selu": _function("selu"),
    "exponential": _function("exponential"),
    "softplus": _function("softplus"),
    "softsign": _function("softsign"),
    "linear": lambda x, part, emit: x,
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
}
