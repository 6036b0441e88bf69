"""Activations.

PyTorch: Keras

- relu, relu6, hardtanh(0, 6): `ReLU`, `ReLU(max_value=6)`
- leaky_relu, elu, prelu: `LeakyReLU`, `ELU`, `PReLU`
- sigmoid, tanh, silu, mish, softplus, selu, hardswish, hardsigmoid, gelu, log_sigmoid, softsign:
  `Activation` of that name, as PyTorch computes it
- gelu("tanh"): `keras.ops.gelu(approximate=True)`
- hardtanh, softplus with arguments, celu, threshold, hardshrink, softshrink, glu: operations
- softmax, log_softmax: `Softmax`, `keras.ops.log_softmax`
- dropout: `Dropout`, kept for training
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import Value, flat, is_free
from converters.pytorch.graph.registry import converts

_NAMED = {
    "aten.sigmoid": "sigmoid",
    "aten.special_expit": "sigmoid",
    "aten.tanh": "tanh",
    "aten.silu": "silu",
    "aten.mish": "mish",
    "aten.selu": "selu",
    "aten.hardswish": "hard_silu",
    "aten.hardsigmoid": "hard_sigmoid",
    "aten.log_sigmoid": "log_sigmoid",
    "aten.log_sigmoid_forward": "log_sigmoid",
}


def _input(call: Call) -> Value:
    return call.value("self" if "self" in call.node.arguments else "input")


def _named(target: str, name: str) -> None:
    @converts(target)
    def convert(call: Call) -> list[Value]:
        import keras

        x = _input(call)
        tensor = call.layer(keras.layers.Activation, x.tensor, activation=name)
        return [x.with_tensor(tensor, nonnegative=name in ("sigmoid", "hard_sigmoid"))]


for _target, _name in _NAMED.items():
    _named(_target, _name)


@converts("aten.relu", "aten.relu6", "aten.hardtanh")
def relu(call: Call) -> Value:
    """`ReLU`, with a bound."""
    import keras

    x = _input(call)
    low, high = 0.0, None
    if "hardtanh" in call.node.target:
        low, high = call.get("min_val", -1.0), call.get("max_val", 1.0)
    elif "relu6" in call.node.target:
        high = 6.0
    if low != 0.0:
        return x.with_tensor(call.ops.clip(x.tensor, low, high))
    bound: dict[str, Any] = {} if high is None else {"max_value": float(high)}
    return x.with_tensor(call.layer(keras.layers.ReLU, x.tensor, **bound), nonnegative=True)


@converts(
    "aten.leaky_relu", "aten.rrelu", "aten.rrelu_with_noise", "aten.rrelu_with_noise_functional"
)
def leaky_relu(call: Call) -> Value:
    """`LeakyReLU`; the random one is, in inference, one of its mean slope."""
    import keras

    x = _input(call)
    slope = call.get("negative_slope", 0.01)
    if "rrelu" in call.node.target:
        if call.get("training", False):
            call.refuse("it is in training mode; call .eval() on the module before the export")
        slope = (call.get("lower", 0.125) + call.get("upper", 1 / 3)) / 2
    return x.with_tensor(call.layer(keras.layers.LeakyReLU, x.tensor, negative_slope=slope))


@converts("aten.elu")
def elu(call: Call) -> Value:
    """`ELU`, scaled where that is asked for."""
    import keras

    x = _input(call)
    alpha, scale = call.get("alpha", 1.0), call.get("scale", 1.0)
    if call.get("input_scale", 1.0) != 1.0:
        call.refuse("its input_scale is not 1")
    tensor = call.layer(keras.layers.ELU, x.tensor, alpha=alpha)
    return x.with_tensor(tensor if scale == 1.0 else tensor * scale)


@converts("aten.celu")
def celu(call: Call) -> Value:
    """`max(0, x) + min(0, alpha (exp(x / alpha) - 1))`."""
    x = _input(call)
    return x.with_tensor(call.ops.celu(x.tensor, alpha=call.get("alpha", 1.0)))


@converts("aten.prelu", "aten._prelu_kernel")
def prelu(call: Call) -> Value:
    """`PReLU`, one slope for each channel or one for all."""
    import keras

    x = whole = _input(call)
    if x.rank > 4 and not any(map(is_free, x.dims[2:])):
        # LiteRT's has four dimensions.
        x = replace(x, dims=(*x.dims[:2], tuple(flat(x.dims[2:]))))
    x = call.last(x, min(1, x.rank - 1))
    weight = call.weight("weight")
    rank, channels = len(x.axes), x.shape[1] if x.rank > 1 else 1

    def slopes(w: Any) -> Any:
        shape = (1,) * (rank - 2) + (-1,)
        return (w.ravel() if w.size > 1 else w.repeat(channels)).reshape(shape)

    tensor = call.layer(
        keras.layers.PReLU,
        x.tensor,
        {"alpha": call.held(weight, slopes)},
        shared_axes=list(range(1, rank - 1)) or None,
    )
    return x.with_tensor(tensor, dims=whole.dims)


@converts("aten.gelu")
def gelu(call: Call) -> Value:
    """Both forms."""
    import keras

    x = _input(call)
    if call.get("approximate", "none") == "tanh":
        return x.with_tensor(call.ops.gelu(x.tensor, approximate=True))
    return x.with_tensor(call.layer(keras.layers.Activation, x.tensor, activation="gelu"))


@converts("aten.softplus")
def softplus(call: Call) -> Value:
    """`log(1 + exp(beta x)) / beta`, and x beyond a threshold, which at 20 makes no difference."""
    import keras

    x = _input(call)
    beta, threshold = call.get("beta", 1.0), call.get("threshold", 20)
    if beta == 1.0:
        tensor = call.layer(keras.layers.Activation, x.tensor, activation="softplus")
    else:
        tensor = call.ops.softplus(x.tensor * beta) / beta
    if threshold < 17:
        tensor = call.ops.where(x.tensor * beta > threshold, x.tensor, tensor)
    return x.with_tensor(tensor, nonnegative=True)


def _simple(target: str, function: Callable[[Call, Any], Any]) -> None:
    @converts(target)
    def convert(call: Call) -> Value:
        x = _input(call)
        return x.with_tensor(function(call, x.tensor))


_simple(
    "aten.threshold",
    lambda c, t: c.ops.where(t > c.get("threshold"), t, float(c.get("value"))),
)
_simple("aten.hardshrink", lambda c, t: c.ops.hard_shrink(t, c.get("lambd", 0.5)))
_simple("aten.softshrink", lambda c, t: c.ops.soft_shrink(t, c.get("lambd", 0.5)))


@converts("aten.glu")
def glu(call: Call) -> Value:
    """One half times the sigmoid of the other."""
    from converters.pytorch.graph.slicing import parts

    x = _input(call)
    dim = x.dim(call.get("dim", -1))
    half = x.shape[dim] // 2
    a, b = parts(call, x, dim, [half, half])
    return call.elementwise(lambda p, q: p * call.ops.sigmoid(q), a, b)


@converts(
    "aten.softmax", "aten._softmax", "aten.special_softmax",
    "aten.log_softmax", "aten._log_softmax", "aten.special_log_softmax",
)  # fmt: skip
def softmax(call: Call) -> Value:
    """Over one dimension."""
    import keras

    x, axis = _along_one(call)
    if "log" in call.node.target:
        return x.with_tensor(call.ops.log_softmax(x.tensor, axis=axis))
    if any(call.feeds("aten.nan_to_num", "nan", number) for number in (None, 0.0)):
        return _safe(call, x, axis)
    axis = -1 if axis == len(x.axes) - 1 else axis
    return x.with_tensor(call.layer(keras.layers.Softmax, x.tensor, axis=axis), nonnegative=True)


@converts("aten._safe_softmax")
def safe_softmax(call: Call) -> Value:
    """Softmax that gives zeros where all is minus infinity."""
    return _safe(call, *_along_one(call))


def _along_one(call: Call) -> tuple[Value, int]:
    """The input and the axis that is the dimension alone."""
    x = _input(call)
    call.arranger.own_to_a_sample(x.dims[x.dim(call.get("dim"))])
    return call.isolated(x, call.get("dim"))


def _safe(call: Call, x: Value, axis: int) -> Value:
    # Of nothing but minus infinity LiteRT's softmax makes equal shares, where others make NaN.
    import keras

    ops, least = call.ops, float(np.finfo(np.float32).min)
    tensor = ops.maximum(x.tensor, least)
    some = ops.greater(ops.max(tensor, axis=axis, keepdims=True), least)
    shares = call.layer(keras.layers.Softmax, tensor, axis=axis)
    return x.with_tensor(ops.multiply(shares, ops.cast(some, "float32")), nonnegative=True)


@converts(
    "aten.dropout", "aten.native_dropout", "aten.feature_dropout", "aten.alpha_dropout",
    "aten.feature_alpha_dropout",
)  # fmt: skip
def dropout(call: Call) -> list[Value]:
    """Does nothing in inference; its rate is kept for training."""
    import keras

    x = _input(call)
    if call.get("train", False):
        call.refuse("it is in training mode; call .eval() on the module before the export")
    rate = call.get("p", 0.5)
    kind = {
        "aten.dropout": keras.layers.Dropout,
        "aten.alpha_dropout": keras.layers.AlphaDropout,
    }.get(call.node.target.rsplit(".", 1)[0].replace("dropout_", "dropout"))
    if "feature_dropout" in call.node.target and x.rank == 4:
        x, kind = call.ordered(x, (0, 2, 3, 1)), keras.layers.SpatialDropout2D
    if kind is None or not 0 < rate < 1 or x.constant:
        call.note(f"dropout of rate {rate} is left out")
        return [x]
    return [x.with_tensor(call.layer(kind, x.tensor, rate=rate), nonnegative=x.nonnegative)]
