"""Which key fills which Keras weight, and through which transform: one table per layer class.

Imports NumPy; Keras only inside functions.

Sources: the shapes of `torch.nn.Conv2d`, `ConvTranspose2d`, `Linear` and the norms in PyTorch's
documentation, of the like in Keras's, and for ULSAM the keys of the authors' module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Transform:
    """A named change of layout.

    Attributes:
        name: As the port report shows it.
        apply: Makes the Keras layout from the source and the Keras weight's shape. What does not
            fit comes out in another shape than the one asked for.
    """

    name: str
    apply: Callable[[np.ndarray, Shape], np.ndarray]


@dataclass(frozen=True)
class Row:
    """One Keras weight and its key.

    Attributes:
        weight: Attribute of the layer, dotted where it is one of a sub-layer's. A layer on which it
            is None (no bias, say) does not take the key.
        key: Key, relative to the module.
        transform: The change of layout.
        features: Axis of the Keras weight that runs over the features of a vector; None if there
            is none or no other order of them is possible.
        inputs: Axis of the Keras weight that runs over the channels of the layer's input map; None
            if there is none.
        outputs: The same of its output map.
        negative: Whether its values may be below 0.
    """

    weight: str
    key: str
    transform: Transform
    features: int | None = None
    inputs: int | None = None
    outputs: int | None = None
    negative: bool = True

    def join(self, parts: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        """Give the Keras weight from the key's array, or from its arrays in every group."""
        return self.transform.apply(parts[0] if len(parts) == 1 else np.concatenate(parts), shape)


@dataclass(frozen=True)
class Table:
    """The keys of a layer class.

    Attributes:
        rows: One per weight.
        counters: Keys of training-step counters, which have no counterpart in Keras.
        per_group: Whether every key exists once per group and the groups are joined along the
            first axis.
        settings: What no key tells: attributes of the Keras layer, with PyTorch's word for each.
    """

    rows: tuple[Row, ...]
    counters: tuple[str, ...] = ()
    per_group: bool = False
    settings: tuple[tuple[str, str], ...] = ()


def _convolution(value: np.ndarray, shape: Shape) -> np.ndarray:
    if value.ndim == 2 and np.prod(shape[:-2]) == 1:
        value = value.reshape(value.shape + (1,) * (len(shape) - 2))  # a Linear as a 1x1 conv
    return np.moveaxis(value, (0, 1), (-1, -2)) if value.ndim > 2 else value


def _depthwise(value: np.ndarray, shape: Shape) -> np.ndarray:
    value = np.moveaxis(value, (0, 1), (-1, -2)) if value.ndim > 2 else value
    # The outputs of a channel are neighbours in both frameworks.
    fits = value.shape[-2:] == (1, shape[-2] * shape[-1])
    return value.reshape(*value.shape[:-2], *shape[-2:]) if fits else value


def _dense(value: np.ndarray, shape: Shape) -> np.ndarray:
    if value.ndim > 2 and value.shape[2:] == (1,) * (value.ndim - 2):
        value = value.reshape(value.shape[:2])  # a 1x1 conv as a classifier
    return value.T if value.ndim == 2 else value


def _slope(value: np.ndarray, shape: Shape) -> np.ndarray:
    if value.shape == (1,):
        return np.broadcast_to(value, shape)
    fits = value.ndim == 1 and sorted(shape)[:-1] == [1] * (len(shape) - 1)
    return value.reshape(shape) if fits and value.size == np.prod(shape) else value


AS_IS = Transform("as is", lambda value, shape: value)
CONVOLUTION = Transform("O,I,... -> ...,I,O", _convolution)
TRANSPOSED = Transform("I,O,... -> ...,O,I", _convolution)
DEPTHWISE = Transform("C*m,1,... -> ...,C,m", _depthwise)
DENSE = Transform("O,I -> I,O", _dense)
SLOPE = Transform("C -> 1,...,C", _slope)

_BIAS = Row("bias", "bias", AS_IS, outputs=0)
_WINDOW = (("strides", "stride"), ("padding", "padding"), ("dilation_rate", "dilation"))
_EPSILON = (("epsilon", "epsilon"),)
_CONVOLUTION = Table(
    (Row("kernel", "weight", CONVOLUTION, inputs=-2, outputs=-1), _BIAS), settings=_WINDOW
)
_TRANSPOSED = Table(
    (Row("kernel", "weight", TRANSPOSED, inputs=-1, outputs=-2), _BIAS),
    settings=(*_WINDOW, ("output_padding", "output padding")),
)
_DEPTHWISE = Table(
    (Row("kernel", "weight", DEPTHWISE, inputs=-2), Row("bias", "bias", AS_IS, inputs=0)),
    settings=_WINDOW,
)


def _per_channel(weight: str, key: str, **options: Any) -> Row:
    return Row(weight, key, AS_IS, features=0, inputs=0, outputs=0, **options)


_SCALE_AND_SHIFT = (_per_channel("gamma", "weight"), _per_channel("beta", "bias"))

TABLES: dict[str, Table] = {
    "ULSAM": Table(
        rows=(
            Row("depthwise_conv.kernel", "conv_dws.weight", DEPTHWISE),
            Row("depthwise_conv.bias", "conv_dws.bias", AS_IS),
            Row("depthwise_norm.gamma", "bn_dws.weight", AS_IS),
            Row("depthwise_norm.beta", "bn_dws.bias", AS_IS),
            Row("depthwise_norm.moving_mean", "bn_dws.running_mean", AS_IS),
            Row("depthwise_norm.moving_variance", "bn_dws.running_var", AS_IS, negative=False),
            Row("pointwise_kernel", "conv_point.weight", CONVOLUTION),
            Row("pointwise_bias", "conv_point.bias", AS_IS),
            Row("pointwise_norm.gamma", "bn_point.weight", AS_IS),
            Row("pointwise_norm.beta", "bn_point.bias", AS_IS),
            Row("pointwise_norm.moving_mean", "bn_point.running_mean", AS_IS),
            Row("pointwise_norm.moving_variance", "bn_point.running_var", AS_IS, negative=False),
        ),
        counters=("bn_dws.num_batches_tracked", "bn_point.num_batches_tracked"),
        per_group=True,
        settings=_EPSILON,
    ),
    "Conv1D": _CONVOLUTION,
    "Conv2D": _CONVOLUTION,
    "Conv3D": _CONVOLUTION,
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
    "Conv1DTranspose": _TRANSPOSED,
    "Conv2DTranspose": _TRANSPOSED,
    "Conv3DTranspose": _TRANSPOSED,
    "Dense": Table((Row("kernel", "weight", DENSE, features=0, inputs=0, outputs=-1), _BIAS)),
    "BatchNormalization": Table(
        rows=(
            *_SCALE_AND_SHIFT,
            _per_channel("moving_mean", "running_mean"),
            _per_channel("moving_variance", "running_var", negative=False),
        ),
        counters=("num_batches_tracked",),
        settings=_EPSILON,
    ),
    "LayerNormalization": Table(_SCALE_AND_SHIFT, settings=(("axis", "axis"), *_EPSILON)),
    "GroupNormalization": Table(_SCALE_AND_SHIFT, settings=(("groups", "groups"), *_EPSILON)),
    "PReLU": Table((Row("alpha", "weight", SLOPE, features=0, inputs=-1, outputs=-1),)),
    "Embedding": Table((Row("embeddings", "weight", AS_IS),)),
}

# Why a stock layer that one might expect above is not there.
WITHOUT_TABLE = {
    "SeparableConv1D": "it is two modules in PyTorch; build it as DepthwiseConv1D and Conv1D",
    "SeparableConv2D": "it is two modules in PyTorch; build it as DepthwiseConv2D and Conv2D",
    "Normalization": "it has no counterpart in PyTorch; leave it out by None in `name_map`",
}


def table_of(layer: Any) -> Table | None:
    """Give the table of a layer's class or of the stock class it derives from, or None."""
    return next((t for classes, t in _by_class() if isinstance(layer, classes)), None)


def why_without_table(layer: Any) -> str:
    """Say why a layer with weights cannot be ported, in words that follow its name."""
    name = type(layer).__name__
    return WITHOUT_TABLE.get(name, f"there is no table of keys for its class, {name}")


@cache
def _by_class() -> list[tuple[type, Table]]:
    import keras

    import ulsam_keras

    return [
        (getattr(ulsam_keras, name, None) or getattr(keras.layers, name), table)
        for name, table in TABLES.items()
    ]
