"""The bridging of bare Keras 3 operations in a graph, such as `x + 3` or `ops.relu(x)`.

Imports NumPy, and tf_keras inside functions only. An operation is known by its class name and
read by its public attributes.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ulsam_keras.quantization.bridge.emitter import Emitter
from ulsam_keras.quantization.extra import tf_keras


def bridge_operation(operation: Any, args: Any, kwargs: Any, emit: Emitter) -> Any:
    """Bridges one call of a bare operation.

    Raises:
        ValueError: If it is not one of `OPERATIONS`, or used in a way that tf_keras's layers and
            the int8 operators of LiteRT do not know.
    """
    function = OPERATIONS.get(type(operation).__name__)
    if function is None:
        raise emit.refusal("no tf_keras layer does the same")
    extra = {key: value for key, value in kwargs.items() if value is not None}
    if extra:
        raise emit.refusal(f"it is called with {sorted(extra)}")
    return function(operation, args, emit)


def _is_tensor(value: Any) -> bool:
    try:
        return tf_keras().backend.is_keras_tensor(value)
    # It is asked about tensors only.
    except ValueError:
        return False


def _array(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value), "float32")


def _arithmetic(operation: Any, args: Any, emit: Emitter) -> Any:
    name = type(operation).__name__
    a, b = args
    if _is_tensor(a) and _is_tensor(b):
        if name not in ("Add", "Subtract", "Multiply", "Maximum", "Minimum"):
            raise emit.refusal("it divides a tensor by a tensor, which no int8 operator does well")
        if len(a.shape) != len(b.shape):
            raise emit.refusal(
                f"its operands have {len(a.shape)} and {len(b.shape)} axes, which tf_keras lines "
                "up in another way; give them the same number"
            )
        return emit.merge(name, [a, b])
    x, constant, turned = (a, _array(b), False) if _is_tensor(a) else (b, _array(a), True)
    if name == "Add":
        return emit.affine(x, offset=constant)
    if name == "Multiply":
        return emit.affine(x, scale=constant)
    if name == "Subtract":
        return emit.affine(x, -1.0, constant) if turned else emit.affine(x, offset=-constant)
    if name in ("Divide", "TrueDivide") and not turned:
        return emit.affine(x, scale=1.0 / constant)
    raise emit.refusal("one of its operands is a constant")


def _activation(name: str) -> Callable[..., Any]:
    def bridge(operation: Any, args: Any, emit: Emitter) -> Any:
        return emit.activation(name, args[0])

    return bridge


def _layer(make: Callable[..., Any]) -> Callable[..., Any]:
    """One tf_keras layer, made by `make(tf_keras.layers, operation, name, input, ...)`."""

    def bridge(operation: Any, args: Any, emit: Emitter) -> Any:
        try:
            layer = make(tf_keras().layers, operation, emit.name(), *args)
        except _Unsupported as error:
            raise emit.refusal(str(error)) from error
        return emit(layer, args[0])

    return bridge


class _Unsupported(Exception):
    """An operation is used in a way that no layer has."""


def _gelu(operation: Any, args: Any, emit: Emitter) -> Any:
    if operation.approximate:
        raise emit.refusal("it is the approximate gelu; the int8 operator is the exact one")
    return emit.activation("gelu", args[0])


def _concatenate(layers: Any, operation: Any, name: str, x: Any) -> Any:
    return layers.Concatenate(operation.axis, name=name)


def _reshape(layers: Any, operation: Any, name: str, x: Any) -> Any:
    batch, *sizes = operation.newshape
    whole = batch not in (-1, None) or math.prod(sizes) == math.prod(s or 0 for s in x.shape[1:])
    if batch not in (-1, None, x.shape[0]) or not whole:
        raise _Unsupported(
            f"it does not keep the batch axis: {tuple(x.shape)} becomes {tuple(operation.newshape)}"
        )
    return layers.Reshape(tuple(sizes), name=name)


def _transpose(layers: Any, operation: Any, name: str, x: Any) -> Any:
    axes = operation.axes
    if axes is None or axes[0] != 0:
        raise _Unsupported(f"it moves the batch axis, axes={axes}")
    return layers.Permute(tuple(axes[1:]), name=name)


def _pool(kind: str) -> Callable[..., Any]:
    def make(layers: Any, operation: Any, name: str, x: Any) -> Any:
        if getattr(operation, "initial", None) is not None:
            raise _Unsupported(f"it begins with initial={operation.initial}")
        axis = operation.axis
        axes = {axis} if isinstance(axis, int) else set(axis or ())
        if len(x.shape) != 4 or {a % 4 for a in axes} != {1, 2}:
            raise _Unsupported(
                f"it reduces other axes than height and width of a batch of maps: axis={axis} of "
                f"shape {tuple(x.shape)}"
            )
        return getattr(layers, kind)(
            data_format="channels_last", keepdims=operation.keepdims, name=name
        )

    return make


def _pad(layers: Any, operation: Any, name: str, x: Any, constant: Any = None) -> Any:
    width = tuple(tuple(pair) for pair in operation.pad_width)
    zeros = operation.mode == "constant" and constant in (None, 0)
    if not zeros or len(width) != 4 or width[0] != (0, 0) or width[3] != (0, 0):
        how = operation.mode if constant is None else constant
        raise _Unsupported(
            f"it pads other axes than height and width, or not with zeros: {width} with {how}"
        )
    return layers.ZeroPadding2D(width[1:3], data_format="channels_last", name=name)


OPERATIONS: dict[str, Callable[[Any, Any, Emitter], Any]] = {
    "Add": _arithmetic,
    "Subtract": _arithmetic,
    "Multiply": _arithmetic,
    "Divide": _arithmetic,
    "TrueDivide": _arithmetic,
    "Maximum": _arithmetic,
    "Minimum": _arithmetic,
    "Negative": lambda operation, args, emit: emit.affine(args[0], scale=-1.0),
    "Relu": _activation("relu"),
    "Relu6": _activation("relu6"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Silu": _activation("silu"),
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "Gelu": _gelu,
    "ReLU": _layer(
        lambda layers, op, name, x: layers.ReLU(
            op.max_value, op.negative_slope, op.threshold, name=name
        )
    ),
    "LeakyRelu": _layer(lambda layers, op, name, x: layers.LeakyReLU(op.negative_slope, name=name)),
    "Elu": _layer(lambda layers, op, name, x: layers.ELU(op.alpha, name=name)),
    "Softmax": _layer(lambda layers, op, name, x: layers.Softmax(op.axis, name=name)),
    "Concatenate": _layer(_concatenate),
    "Reshape": _layer(_reshape),
    "Transpose": _layer(_transpose),
    "Mean": _layer(_pool("GlobalAveragePooling2D")),
    "Max": _layer(_pool("GlobalMaxPooling2D")),
    "Pad": _layer(_pad),
}
