"""Normalizations.

PyTorch: Keras

- batch_norm: `BatchNormalization`, momentum 1 - PyTorch's, epsilon kept
- layer_norm over the last dimension: `LayerNormalization`
- layer_norm over several: the same over one joined axis
- group_norm: `GroupNormalization`
- instance_norm: `GroupNormalization(groups=-1)`
- batch_norm with statistics of the batch: refused: `.eval()` before the export
"""

from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.arrange import CHANNELS_LAST
from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import Value, is_free
from converters.pytorch.graph.registry import converts


@converts(
    "aten.batch_norm", "aten._native_batch_norm_legit_no_training", "aten.native_batch_norm",
    "aten._native_batch_norm_legit", "aten._batch_norm_no_update",
    "aten._native_batch_norm_legit_functional", "aten._batch_norm_with_update",
)  # fmt: skip
def batch_norm(call: Call) -> list[Value]:
    """Batch normalization with its running statistics."""
    import keras

    mean, variance = call.optional_weight("running_mean"), call.optional_weight("running_var")
    kind = call.node.modules[-1].kind if call.node.modules else ""
    if mean is None and "InstanceNorm" in kind:
        # Decomposed, it is a batch normalization of the channels of all samples as channels.
        x = call.value("input")
        if call.batch == 1:
            return [_grouped(call, x.shape[1], call.get("eps", 1e-5))]
        return [_per_channel(call, x, call.get("eps", 1e-5))]
    if mean is None and ((x := call.value("input")).constant or call.again):
        return [_per_channel(call, x, call.get("eps", 1e-5), first=True)]  # weights, standardised
    trains = call.get("training", call.get("train", False)) or "with_update" in call.node.target
    if trains or mean is None or variance is None:
        call.refuse(
            "it normalizes with the statistics of the batch; call .eval() on the module before "
            "torch.export.export"
            if mean is not None
            else "it keeps no running statistics, so that a sample's output depends on its batch"
        )
    x = call.last(call.value("input"), 1)
    momentum = call.get("momentum", 0.1)
    weight, bias = call.optional_weight("weight"), call.optional_weight("bias")
    tensor = call.layer(
        keras.layers.BatchNormalization,
        x.tensor,
        {
            "gamma": call.held(weight),
            "beta": call.held(bias),
            "moving_mean": call.held(mean),
            "moving_variance": call.held(variance),
        },
        axis=-1,
        momentum=round(1 - momentum, 12),
        epsilon=call.get("eps", 1e-5),
        scale=weight is not None,
        center=bias is not None,
    )
    return [x.with_tensor(tensor)]


@converts("aten.layer_norm", "aten.native_layer_norm")
def layer_norm(call: Call) -> list[Value]:
    """Layer normalization."""
    import keras

    x = call.value("input")
    count = len(call.get("normalized_shape"))
    weight, bias = call.optional_weight("weight"), call.optional_weight("bias")
    whole = x
    if count > 1:
        joined = tuple(a for g in x.dims[x.rank - count :] for a in g)
        x = replace(x, dims=(*x.dims[: x.rank - count], joined))
    x = call.last(x, -1)
    tensor = call.layer(
        keras.layers.LayerNormalization,
        x.tensor,
        {
            "gamma": call.held(weight, np.ravel),
            "beta": call.held(bias, np.ravel),
        },
        axis=-1,
        epsilon=call.get("eps", 1e-5),
        scale=weight is not None,
        center=bias is not None,
    )
    return [replace(x, tensor=tensor, dims=whole.dims, nonnegative=False)]


@converts("aten.group_norm", "aten.native_group_norm")
def group_norm(call: Call) -> list[Value]:
    """Group normalization."""
    groups = call.get("num_groups", call.get("group"))
    return [_grouped(call, groups, call.get("eps", 1e-5))]


@converts("aten.instance_norm")
def instance_norm(call: Call) -> Value:
    """Every channel of every sample by itself; with running statistics a batch normalization."""
    if not call.get("use_input_stats", True):
        return batch_norm(call)[0]
    return _grouped(call, call.value("input").shape[1], call.get("eps", 1e-5))


def _grouped(call: Call, groups: int, epsilon: float) -> Value:
    import keras

    x = call.value("input")
    # The batch is the first axis: Keras normalizes over all others, with one axis more inside, so
    # that a map is given with height and width as one.
    closed = not any(map(is_free, x.dims[2:]))
    if x.rank > 3 and closed or x.rank not in CHANNELS_LAST:
        joined = tuple(a for g in x.dims[2:] for a in g)
        x = replace(x, dims=(*x.dims[:2], joined))
    x = call.ordered(x, CHANNELS_LAST[x.rank])
    channels = x.shape[1]
    weight, bias = call.optional_weight("weight"), call.optional_weight("bias")
    tensor: Any = x.tensor
    flat = len(tensor.shape) == 2
    if flat:
        tensor = call.ops.expand_dims(tensor, 1)
    tensor = call.layer(
        keras.layers.GroupNormalization,
        tensor,
        {"gamma": call.held(weight), "beta": call.held(bias)},
        groups=groups,
        axis=-1,
        epsilon=epsilon,
        scale=weight is not None,
        center=bias is not None,
    )
    if flat:
        tensor = call.ops.squeeze(tensor, 1)
    assert tensor.shape[-1] == channels
    return replace(x, tensor=tensor, dims=call.value("input").dims, nonnegative=False)


def _per_channel(call: Call, x: Value, epsilon: float, first: bool = False) -> Value:
    """Over all dimensions but the first two, or but the second."""
    ops = call.ops
    dims = (*((0,) if first else ()), *range(2, x.rank))
    mean = call.reduced(x, dims, lambda t, axes: ops.mean(t, axis=axes, keepdims=True))
    variance = call.reduced(x, dims, lambda t, axes: ops.var(t, axis=axes, keepdims=True))
    scale = variance.with_tensor(ops.rsqrt(ops.add(variance.tensor, epsilon)))
    y = call.elementwise(lambda a, m, s: (a - m) * s, x, mean, scale)
    for name, function in (("weight", ops.multiply), ("bias", ops.add)):
        held = call.optional(name)
        if held is not None:
            shaped = replace(held, dims=(*held.dims, *((),) * (x.rank - 2)))
            y = call.elementwise(function, y, shaped)
    return y


@converts("aten.rms_norm", "aten._fused_rms_norm")
def rms_norm(call: Call) -> list[Value]:
    """`x / sqrt(mean(x ** 2) + eps) * weight`, over the last dimensions."""
    x = call.value("input")
    count = len(call.get("normalized_shape"))
    eps = call.get("eps") or float(np.finfo("float32").eps)
    ops = call.ops
    squares = x.with_tensor(ops.square(x.tensor))
    mean = call.reduced(
        squares,
        range(x.rank - count, x.rank),
        lambda t, axes: ops.mean(t, axis=axes, keepdims=True),
    )
    scale = mean.with_tensor(ops.rsqrt(mean.tensor + eps))
    weight = call.optional("weight")
    if weight is None:
        return [call.elementwise(ops.multiply, x, scale)]
    return [call.elementwise(lambda a, b, c: ops.multiply(ops.multiply(a, b), c), x, scale, weight)]


@converts("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(call: Call) -> list[Value]:
    """Weights given as a direction and a length are multiplied out."""
    v, g = call.weight("v"), call.weight("g")
    direction, length = call.array(v), call.array(g)
    assert direction is not None and length is not None
    dim = call.get("dim", 0)
    # -1 stands for none: one length for all.
    others = tuple(d for d in range(direction.ndim) if d != dim)
    norm = np.sqrt(np.square(direction).sum(others, keepdims=True))
    call.note("the weight is folded: direction times length")
    return [call.result(direction * (length / norm), keys=(*v.keys, *g.keys))]
