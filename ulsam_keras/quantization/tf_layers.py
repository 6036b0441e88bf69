"""The tf_keras layers that stock tf_keras does not have: parts of ULSAM, and two small helpers.

Imports tf_keras, so it is itself imported inside functions only.
"""

from typing import Any

import numpy as np

from ulsam_keras.quantization.extra import tensorflow, tf_keras
from ulsam_keras.spatial_softmax import checked_form

tf: Any = tensorflow()
keras2: Any = tf_keras()
_Layer: Any = keras2.layers.Layer
_BatchNormalization: Any = keras2.layers.BatchNormalization


class BlockDiagonalConv2D(_Layer):
    """A 1x1 convolution whose every output sees the channels of its own group only.

    The kernel is stored as `Conv2D(groups, 1, groups=groups)` stores it and computed as one dense
    convolution with zeros outside the blocks: a grouped convolution is computed wrongly by the GPU
    delegate and has no gradient on some CPUs.

    Args:
        groups: Integer, the number of groups, which is the number of outputs too.
        kernel_regularizer: Regularizer of the kernel. Defaults to `None`.
        kernel_constraint: Constraint on the kernel. Defaults to `None`.
        bias_regularizer: Regularizer of the bias. Defaults to `None`.
        bias_constraint: Constraint on the bias. Defaults to `None`.
        **kwargs: Arguments of `tf_keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, C a multiple of `groups`.

    Output shape:
        `(N, H, W, groups)`.
    """

    def __init__(
        self,
        groups: int,
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.kernel_regularizer = keras2.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras2.constraints.get(kernel_constraint)
        self.bias_regularizer = keras2.regularizers.get(bias_regularizer)
        self.bias_constraint = keras2.constraints.get(bias_constraint)
        # What the dense kernel passes through: quantisation hooks in here, on the tensor that the
        # exported convolution holds.
        self.kernel_activation = keras2.activations.linear

    def build(self, input_shape: Any) -> None:
        channels = int(input_shape[-1])
        if channels % self.groups:
            raise ValueError(
                f"Layer {self.name!r} needs a number of channels that its groups divide. "
                f"Received: channels={channels}, groups={self.groups}"
            )
        self.kernel = self.add_weight(
            "kernel",
            (1, 1, channels // self.groups, self.groups),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = self.add_weight(
            "bias",
            (self.groups,),
            initializer="zeros",
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )
        self._blocks = np.repeat(
            np.eye(self.groups, dtype="float32"), channels // self.groups, axis=0
        )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        kernel = tf.reshape(tf.transpose(self.kernel, (0, 1, 3, 2)), (1, 1, -1, 1)) * self._blocks
        outputs = tf.nn.conv2d(inputs, self.kernel_activation(kernel), 1, "VALID")
        return tf.nn.bias_add(outputs, self.bias)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tf.TensorShape((*input_shape[:-1], self.groups))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": self.groups,
            "kernel_regularizer": keras2.regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": keras2.constraints.serialize(self.kernel_constraint),
            "bias_regularizer": keras2.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras2.constraints.serialize(self.bias_constraint),
        }


class SubspaceAttention(_Layer):
    """Scores to attention, one value per channel: a spatial softmax, spread over each group.

    Args:
        channels: Integer, the number of channels C to spread the maps over.
        form: How the softmax is computed, which decides what of it survives 8 bits.
            `"log_softmax"`: the exponential of the log-softmax; the int8 kernels keep a relative
            precision of 1/16 in it, on maps of any size. `"softmax"`: the softmax operator, whose
            int8 kernel has the fixed step 1/256; flat maps of more than about 16 x 16 positions
            become zeros. `"float"`: exponential, sum and quotient, which stay float operators in
            an int8 model. The three are the same function in float. Defaults to `"log_softmax"`.
        **kwargs: Arguments of `tf_keras.layers.Layer`.

    Input shape:
        `(N, H, W, g)`, H and W known, g a divisor of C.

    Output shape:
        `(N, H, W, C)`; every channel sums to 1.
    """

    def __init__(self, channels: int, form: str = "log_softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.form = checked_form(form)
        # Quantisation hooks in at these: the log-softmax, the attention before and after it is
        # spread (the same values, so the same range), and the 0/1 kernel.
        self.log_activation = keras2.activations.linear
        self.attention_activation = keras2.activations.linear
        self.kernel_activation = keras2.activations.linear

    def build(self, input_shape: Any) -> None:
        groups = int(input_shape[-1])
        spread = np.repeat(np.eye(groups, dtype="float32"), self.channels // groups, axis=1)
        self._kernel = spread[None, None]
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel_activation(tf.constant(self._kernel))
        attention = self.attention_activation(self._softmax(inputs))
        # The convolution copies values, so its result is on the grid of its input already.
        return self.attention_activation(tf.nn.conv2d(attention, kernel, 1, "VALID"))

    def _softmax(self, s: Any) -> Any:
        if self.form == "float":
            exponential = tf.exp(s - tf.reduce_max(s, (1, 2), keepdims=True))
            return exponential / tf.reduce_sum(exponential, (1, 2), keepdims=True)
        _, height, width, groups = s.shape
        z = tf.transpose(tf.reshape(s, (-1, height * width, groups)), (0, 2, 1))
        if self.form == "softmax":
            a = tf.nn.softmax(z)
        else:
            a = tf.exp(self.log_activation(tf.nn.log_softmax(z)))
        return tf.reshape(tf.transpose(a, (0, 2, 1)), (-1, height, width, groups))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tf.TensorShape((*input_shape[:-1], self.channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "form": self.form}


class ChannelAffine(_Layer):
    """A constant scale and offset per channel, as a 1x1 depthwise convolution: one int8 operator.

    A product and a sum would be two operators, the first without a range of its own.

    Args:
        scale: Number, or list of C numbers. Defaults to 1.
        offset: Number, or list of C numbers. Defaults to 0.
        **kwargs: Arguments of `tf_keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`.

    Output shape:
        As the input.
    """

    def __init__(self, scale: Any = 1.0, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = np.asarray(scale, "float32").tolist()
        self.offset = np.asarray(offset, "float32").tolist()
        self.kernel_activation = keras2.activations.linear

    def build(self, input_shape: Any) -> None:
        channels = int(input_shape[-1])
        self._scale = np.broadcast_to(np.float32(self.scale), (channels,))
        self._offset = np.broadcast_to(np.float32(self.offset), (channels,))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return _scaled(inputs, tf.constant(self._scale), self._offset, self.kernel_activation)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


class BatchNormalization(_BatchNormalization):
    """The stock layer, whose configuration does not say whether it is synchronized."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "synchronized": self.synchronized}


class ConvBatchNormalization(BatchNormalization):
    """A batch normalization that follows no convolution, one int8 operator all the same.

    It is the stock layer when training. In inference it is a 1x1 depthwise convolution of its
    scale and offset: product and sum would be two operators, the first without a range.

    Args:
        **kwargs: Arguments of `tf_keras.layers.BatchNormalization`.

    Input shape:
        `(N, H, W, C)` or `(N, C)`.

    Output shape:
        As the input.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_activation = keras2.activations.linear

    def call(self, inputs: Any, training: Any = None) -> Any:
        if training is None:
            training = keras2.backend.learning_phase()
        return keras2.backend.in_train_phase(
            lambda: super(ConvBatchNormalization, self).call(inputs, training=True),
            lambda: self._inference(inputs),
            training=training,
        )

    def _inference(self, inputs: Any) -> Any:
        scale = tf.math.rsqrt(self.moving_variance + self.epsilon)
        scale = scale if self.gamma is None else scale * self.gamma
        offset = -self.moving_mean * scale
        offset = offset if self.beta is None else offset + self.beta
        return _scaled(inputs, scale, offset, self.kernel_activation)


def _scaled(inputs: Any, scale: Any, offset: Any, kernel_activation: Any) -> Any:
    if len(inputs.shape) == 2:
        maps = tf.reshape(inputs, (-1, 1, 1, inputs.shape[-1]))
        return tf.reshape(_scaled(maps, scale, offset, kernel_activation), tf.shape(inputs))
    kernel = kernel_activation(tf.reshape(scale, (1, 1, -1, 1)))
    outputs = tf.nn.depthwise_conv2d(inputs, kernel, (1, 1, 1, 1), "VALID")
    return tf.nn.bias_add(outputs, offset)


class Cast(_Layer):
    """Integers, of an image for example, as float32."""

    def call(self, inputs: Any) -> Any:
        return tf.cast(inputs, tf.float32)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        # Its own: the default one of tf_keras leaves the name out of a layer without __init__.
        return super().get_config()


class HardSilu(_Layer):
    """Keras 3's hard_silu, `x * relu6(x + 3) / 6`, one operator in LiteRT: HARD_SWISH."""

    def call(self, inputs: Any) -> Any:
        return inputs * tf.nn.relu6(inputs + 3.0) * (1.0 / 6.0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        # Its own: the default one of tf_keras leaves the name out of a layer without __init__.
        return super().get_config()


LAYERS = {
    layer.__name__: layer
    for layer in (
        BlockDiagonalConv2D,
        SubspaceAttention,
        ChannelAffine,
        BatchNormalization,
        ConvBatchNormalization,
        Cast,
        HardSilu,
    )
}
