"""The bridging of ULSAM: its parts, each a tf_keras layer that can be quantised by itself.

Imports Keras and `ulsam_keras.layer`, and tf_keras inside functions only.
"""

from typing import TYPE_CHECKING, Any

import keras

from ulsam_keras.layer import ULSAM
from ulsam_keras.quantization.bridge.stock import legacy
from ulsam_keras.quantization.extra import tf_keras

if TYPE_CHECKING:
    from ulsam_keras.quantization.bridge.emitter import Emitter


def bridge_ulsam(layer: ULSAM, inputs: Any, emit: "Emitter") -> Any:
    """`x + x * attention`, with the attention in eight layers."""
    layers = tf_keras().layers
    from ulsam_keras.quantization.tf_layers import BlockDiagonalConv2D, SubspaceAttention

    channels_first = layer.data_format == "channels_first"
    x = inputs
    if channels_first:
        x = emit(layers.Permute((2, 3, 1), name=emit.name("channels_last")), x)
    if None in x.shape[1:3]:
        raise emit.refusal(f"height and width must be known, the input has the shape {x.shape}")
    config = layer.get_config()

    def option(name: str) -> Any:
        return legacy(name, config[name], emit)

    depthwise = layers.DepthwiseConv2D(
        1,
        data_format="channels_last",
        depthwise_regularizer=option("depthwise_regularizer"),
        depthwise_constraint=option("depthwise_constraint"),
        bias_regularizer=option("bias_regularizer"),
        bias_constraint=option("bias_constraint"),
        trainable=layer.depthwise_conv.trainable,
        name=emit.name("depthwise_conv"),
    )
    t = emit(
        depthwise,
        x,
        weights={
            "depthwise_kernel": layer.depthwise_conv.kernel,
            "bias": layer.depthwise_conv.bias,
        },
    )
    t = _norm(layer.depthwise_norm, t, "depthwise_norm", emit)
    t = emit(layers.ReLU(name=emit.name("depthwise_relu")), t)
    pool = layers.MaxPooling2D(3, 1, "same", data_format="channels_last", name=emit.name("pool"))
    t = emit(pool, t)
    pointwise = BlockDiagonalConv2D(
        layer.num_splits,
        kernel_regularizer=option("pointwise_regularizer"),
        kernel_constraint=option("pointwise_constraint"),
        bias_regularizer=option("bias_regularizer"),
        bias_constraint=option("bias_constraint"),
        trainable=layer.trainable,
        name=emit.name("pointwise_conv"),
    )
    s = emit(pointwise, t, weights={"kernel": layer.pointwise_kernel, "bias": layer.pointwise_bias})
    s = _norm(layer.pointwise_norm, s, "pointwise_norm", emit)
    s = emit(layers.ReLU(name=emit.name("pointwise_relu")), s)
    attention = SubspaceAttention(x.shape[-1], emit.attention, name=emit.name("attention"))
    a = emit(attention, s)
    y = emit(layers.Multiply(name=emit.name("attended")), [x, a])
    # Not x * (1 + a): beside the 1, an attention map of many positions is less than an int8 step.
    last = "sum" if channels_first else ""
    y = emit(layers.Add(name=emit.name(last)), [x, y])
    if channels_first:
        y = emit(layers.Permute((3, 1, 2), name=emit.name()), y)
    return y


def _norm(layer: keras.layers.BatchNormalization, x: Any, part: str, emit: "Emitter") -> Any:
    from ulsam_keras.quantization.tf_layers import BatchNormalization

    norm = BatchNormalization(
        momentum=layer.momentum,
        epsilon=layer.epsilon,
        synchronized=layer.synchronized,
        trainable=layer.trainable,
        name=emit.name(part),
    )
    weights = {
        name: getattr(layer, name) for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    return emit(norm, x, weights=weights)
