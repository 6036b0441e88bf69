"""What the bridge and the quantisation know of every layer class, a row each; users add theirs.

Imports Keras and the functions of `stock.py` and `ulsam.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from ulsam_keras.layer import ULSAM, SubSpace
from ulsam_keras.quantization.bridge import stock
from ulsam_keras.quantization.bridge.ulsam import bridge_ulsam
from ulsam_keras.quantization.plan import (
    LOG_PROBABILITY,
    PROBABILITY,
    SIGNED_UNIT,
    Range,
    Recipe,
)


@dataclass(frozen=True)
class Row:
    """What is known of one layer class.

    Attributes:
        becomes: `becomes(layer, inputs, emit)` writes a call of the Keras 3 layer in tf_keras.
        recipe: How the tf_keras layer of that name is quantised, or a function of the layer that
            says it. In the row of a user's class, all layers that the table does not know.
        quantize: Whether to quantise it unless the user says something else.
        widens: Whether it computes floats of integers, in Keras.
    """

    becomes: Callable[[Any, Any, Any], Any] | None = None
    recipe: Recipe | Callable[[Any], Recipe] = Recipe()
    quantize: bool = True
    widens: bool = False

    @property
    def takes_integers(self) -> bool:
        """Whether it gives of integers, in Keras, what it gives of the same numbers as floats."""
        recipe = self.recipe
        moves = isinstance(recipe, Recipe) and recipe.joins and recipe.computes is None
        return moves or self.widens


def _relu(layer: Any) -> Recipe:
    fits = not layer.negative_slope and not layer.threshold and layer.max_value in (None, 6)
    return Recipe(role="relu" if fits else None)


def _activation(layer: Any) -> Recipe:
    outputs: Mapping[str, Range] = {
        "sigmoid": PROBABILITY,
        "softmax": PROBABILITY,
        "tanh": SIGNED_UNIT,
    }
    return Recipe(output=outputs.get(layer.activation.__name__, "moving"))


def _upsampling(layer: Any) -> Recipe:
    return _MOVED if layer.interpolation == "nearest" else _INTERPOLATED


def _attention(layer: Any) -> Recipe:
    inner: Mapping[str, tuple[tuple[str, Range], ...]] = {
        "log_softmax": (("log_activation", LOG_PROBABILITY), ("attention_activation", "moving")),
        "softmax": (("attention_activation", PROBABILITY),),
        "float": (("attention_activation", "moving"),),
    }
    kernel = (("kernel_activation", 3),)
    return Recipe(constants=kernel, activations=inner[layer.form], output=None)


_CONV_FUSES = ("norm", "relu")
_FUSES_RELU = Recipe(fuses=("relu",))
# The operators take inputs of one range only, which is that of their output.
_JOINED = Recipe(joins=True)
# Values are moved, or the largest of them taken.
_MOVED = Recipe(output=None, joins=True)
_AVERAGED = Recipe(output=None, joins=True, computes="averages")
_INTERPOLATED = Recipe(output=None, joins=True, computes="interpolates")

# By Keras 3 class; by name what only `tf_layers.py` has.
LAYERS: dict[type | str, Row] = {
    layers.Conv2D: Row(
        stock.same("kernel", "bias"), Recipe(weights=(("kernel", 3),), fuses=_CONV_FUSES)
    ),
    layers.DepthwiseConv2D: Row(
        stock.same("bias", depthwise_kernel="kernel"),
        Recipe(weights=(("depthwise_kernel", 2),), fuses=_CONV_FUSES),
    ),
    layers.SeparableConv2D: Row(stock.separable),
    # Their kernels take one scale for the whole weight, so a norm of many cannot be folded in.
    layers.Conv2DTranspose: Row(stock.same("kernel", "bias"), Recipe(weights=(("kernel", None),))),
    layers.Dense: Row(
        stock.same("kernel", "bias"), Recipe(weights=(("kernel", None),), fuses=("relu",))
    ),
    ULSAM: Row(bridge_ulsam),
    SubSpace: Row(bridge_ulsam),
    "BlockDiagonalConv2D": Row(
        recipe=Recipe(constants=(("kernel_activation", 3),), fuses=_CONV_FUSES)
    ),
    "SubspaceAttention": Row(recipe=_attention),
    layers.BatchNormalization: Row(
        stock.same(
            *("gamma", "beta", "moving_mean", "moving_variance"),
            *("moving_stddev", "renorm_mean", "renorm_stddev"),  # with `renorm=True`
        ),
        Recipe(role="norm", fuses=("relu",)),
        widens=True,
    ),
    layers.Normalization: Row(stock.normalization),
    layers.Rescaling: Row(stock.rescaling, _FUSES_RELU),
    # Not fused with a norm: the converter holds equal constants once, and folds into that one.
    "ChannelAffine": Row(recipe=Recipe(constants=(("kernel_activation", 2),), fuses=("relu",))),
    "Cast": Row(),
    "HardSilu": Row(),
    layers.Activation: Row(stock.activation, _activation),
    layers.ReLU: Row(stock.same(), _relu),
    layers.LeakyReLU: Row(stock.same(renamed={"negative_slope": "alpha"})),
    layers.PReLU: Row(stock.same("alpha")),
    layers.ELU: Row(stock.same()),
    layers.Softmax: Row(stock.same(), Recipe(output=PROBABILITY)),
    layers.Add: Row(stock.merge, _FUSES_RELU),
    layers.Subtract: Row(stock.merge, _FUSES_RELU),
    layers.Multiply: Row(stock.merge, _FUSES_RELU),
    layers.Average: Row(stock.average),
    layers.Maximum: Row(stock.merge, _JOINED),
    layers.Minimum: Row(stock.merge, _JOINED),
    layers.Concatenate: Row(stock.same(), _JOINED),
    layers.MaxPooling2D: Row(stock.same(), _MOVED),
    layers.AveragePooling2D: Row(stock.same(), _AVERAGED),
    layers.GlobalMaxPooling2D: Row(stock.same(), _MOVED),
    layers.GlobalAveragePooling2D: Row(stock.same(), widens=True),
    layers.ZeroPadding2D: Row(stock.same(), _MOVED),
    layers.Cropping2D: Row(stock.same(), _MOVED),
    layers.UpSampling2D: Row(stock.same(), _upsampling),
    layers.Flatten: Row(stock.same(), _MOVED),
    layers.Reshape: Row(stock.same(), _MOVED),
    layers.Permute: Row(stock.same(), _MOVED),
    layers.Identity: Row(stock.identity),
    layers.Dropout: Row(stock.same(), _MOVED),
    layers.SpatialDropout2D: Row(stock.same(), _MOVED),
    layers.GaussianNoise: Row(stock.same(), _MOVED),
    layers.GaussianDropout: Row(stock.same(), _MOVED),
}
_RECIPES = {getattr(key, "__name__", key): row.recipe for key, row in LAYERS.items()}


def bridges(
    layer_class: type, *, quantize: bool = True, recipe: Recipe | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the function that bridges a layer class of your own.

    The function is called as `function(layer, inputs, emit)` for every call of such a layer:
    `layer` is the Keras 3 layer, `inputs` the tf_keras tensor it is called on, or the list of
    them. It returns the tf_keras tensor of its output, made with
    `emit(tf_keras_layer, inputs, weights={...})`, where `weights` pairs an attribute of the
    tf_keras layer with the Keras 3 variable (of the same shape) whose value it holds: it is
    copied there by `quantize_model`, and back by `restore`. Every tf_keras layer takes its name
    from `emit.name()`, or `emit.name("part")` where there are several.

    Stock tf_keras layers are quantised each as the table in
    `ulsam_keras/quantization/bridge/table.py` says, other ones as `recipe` does.

    Args:
        layer_class: A subclass of `keras.layers.Layer`. The exact class counts: a subclass of it
            is not bridged by the same function.
        quantize: Whether `quantize_model` quantises what the function emits. Defaults to `True`.
        recipe: How the tf_keras layers of your own that the function emits are quantised, a
            `quantization.Recipe`. Defaults to `None`: their output, over a range that follows
            the data.

    Returns:
        The decorator, which hands the function back.

    Raises:
        ValueError: If `layer_class` is not a Keras 3 layer class, or `recipe` not a recipe.

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
    if not isinstance(recipe, Recipe | None):
        raise ValueError(
            "`recipe` must be a ulsam_keras.quantization.Recipe, or None. "
            f"Received: recipe={recipe!r}"
        )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        LAYERS[layer_class] = Row(function, recipe or Recipe(), quantize)
        return function

    return register


def row_for(layer: Any) -> Row | None:
    """The row of a Keras 3 layer of exactly that class."""
    return LAYERS.get(type(layer))


def recipe_for(layer: Any, row: Row | None = None) -> Recipe:
    """The recipe of a tf_keras layer that the function of a row emitted."""
    recipe = _RECIPES.get(type(layer).__name__) or (row or Row()).recipe
    return recipe if isinstance(recipe, Recipe) else recipe(layer)
