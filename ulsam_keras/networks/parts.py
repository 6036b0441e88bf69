"""What MobileNetV1 and MobileNetV2 are put together from: inputs, convolutions, ULSAM and top.

Everything is channels-last, whatever `keras.config.image_data_format()` says, and equal to the
PyTorch networks: strided convolutions are padded by one on every side, the epsilon of the batch
normalizations is 1e-5 and their momentum PyTorch's 0.1, which is Keras's 0.9.

Imports Keras (public names only) and `ulsam_keras.layer`.
"""

import operator
import os
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from ulsam_keras.layer import ULSAM

# The networks halve the height and the width five times.
SMALLEST_INPUT = 32


def image_input(input_shape: Sequence[int | None] | None, input_tensor: Any) -> Any:
    """The symbolic input of a network, once it has been found fit.

    Raises:
        ValueError: If the shape is not (H, W, C), with H and W unknown or at least 32 and C known.
    """
    argument = "input_shape" if input_tensor is None else "input_tensor.shape"
    given = input_shape if input_tensor is None else tuple(input_tensor.shape)[1:]
    shape = _sizes((224, 224, 3) if given is None else given)
    sizes_fit = all(size is None or size >= SMALLEST_INPUT for size in shape[:2])
    if len(shape) != 3 or not sizes_fit or not shape[2] or shape[2] < 1:
        whole = isinstance(given, int) and not isinstance(given, bool)
        example = f", ({given}, {given}, 3) for colour images" if whole else ""
        raise ValueError(
            f"The input must be (H, W, C) with H and W at least {SMALLEST_INPUT} or None, and C "
            f"known{example}. Received: {argument}={given!r}"
        )
    return keras.Input(shape, name="image") if input_tensor is None else input_tensor


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """The shape as a tuple of integers and None; empty if it is none."""
    try:
        return tuple(None if size is None else operator.index(size) for size in shape)
    except TypeError:
        return ()


def model(inputs: Any, input_tensor: Any, outputs: Any, name: str) -> keras.Model:
    """The functional model; one on an `input_tensor` starts where that comes from."""
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(input_tensor)
        inputs = sources[0] if len(sources) == 1 else sources
    return keras.Model(inputs, outputs, name=name)


def convolution(
    x: Any, name: str, filters: int, kernel_size: int = 1, stride: int = 1, bn_name: str = ""
) -> Any:
    """Convolution without bias, then batch normalization."""
    x = _padded(x, name, stride)
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding=_PADDING[stride],
        use_bias=False,
        data_format="channels_last",
        name=name,
    )(x)
    return _batch_norm(x, bn_name or f"{name}_bn")


def depthwise_convolution(x: Any, name: str, stride: int = 1) -> Any:
    """3x3 depthwise convolution without bias, then batch normalization."""
    x = _padded(x, name, stride)
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding=_PADDING[stride],
        use_bias=False,
        data_format="channels_last",
        name=name,
    )(x)
    return _batch_norm(x, f"{name}_bn")


def relu(x: Any, name: str, max_value: float | None = None) -> Any:
    """ReLU, or ReLU6 with `max_value=6.0`."""
    return layers.ReLU(max_value=max_value, name=name)(x)


def ulsam(x: Any, block: int, num_splits: int) -> Any:
    """The ULSAM after or in place of the block of that number."""
    return ULSAM(num_splits, data_format="channels_last", name=f"block_{block}_ulsam")(x)


def top(
    x: Any,
    include_top: bool,
    pooling: str | None,
    dropout: float,
    classes: int,
    classifier_activation: Any,
) -> Any:
    """The classifier, or what takes its place in a backbone.

    Raises:
        ValueError: If `pooling` is unknown or `classes` is not a positive integer.
    """
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}")
    if include_top:
        if not isinstance(classes, int) or classes < 1:
            raise ValueError(f"`classes` must be at least 1. Received: classes={classes!r}")
        x = layers.GlobalAveragePooling2D(data_format="channels_last", name="average_pool")(x)
        if dropout:
            x = layers.Dropout(dropout, name="dropout")(x)
        return layers.Dense(classes, activation=classifier_activation, name="classifier")(x)
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(data_format="channels_last", name="average_pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(data_format="channels_last", name="max_pool")(x)
    return x


def check_alpha(alpha: float) -> None:
    """Raises a ValueError unless the width multiplier is positive."""
    if isinstance(alpha, str) or not alpha > 0:
        raise ValueError(f"`alpha` must be greater than 0. Received: alpha={alpha!r}")


def check_widths(argument: str, values: Sequence[int | None], expected: str, count: int) -> None:
    """Raises a ValueError unless there are `count` widths, each None or a positive integer."""
    if len(values) != count or any(value is not None and value < 1 for value in values):
        raise ValueError(
            f"`{argument}` must be {count} positive integers: {expected}. "
            f"Received: {argument}={tuple(values)}"
        )


def load_weights(model: keras.Model, weights: str | os.PathLike | None) -> None:
    """Loads a `.weights.h5` file into the model; `None` leaves it as it is.

    Raises:
        ValueError: If it is no such file.
    """
    if weights is None:
        return
    path = os.fspath(weights)
    if not path.endswith(".weights.h5") or not os.path.isfile(path):
        raise ValueError(
            "`weights` must be None or an existing `.weights.h5` file; weights of other "
            f"frameworks are to be converted first. Received: weights={path!r}"
        )
    model.load_weights(path)


# "same" puts the odd row of padding at the end where the stride is 2, PyTorch on both sides.
_PADDING = {1: "same", 2: "valid"}


def _padded(x: Any, name: str, stride: int) -> Any:
    if stride == 1:
        return x
    return layers.ZeroPadding2D(1, data_format="channels_last", name=f"{name}_pad")(x)


def _batch_norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(axis=-1, momentum=0.9, epsilon=1e-5, name=name)(x)
