"""The ULSAM layer and its one-group block.

Imports Keras 3 (public names only), NumPy, `spatial_softmax` and `training_forms`: it runs on every
Keras back end.

Paper: Saini, Jha, Das, Mittal, Mohan, "ULSAM: Ultra-Lightweight Subspace Attention Module for
Compact Convolutional Neural Networks", WACV 2020, https://arxiv.org/abs/2006.15102.
"""

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import constraints, initializers, ops, regularizers

from ulsam_keras import training_forms
from ulsam_keras.spatial_softmax import softmax, spatial_softmax

_HALF = ("float16", "bfloat16")
_RECORDED: ContextVar[list[tuple["ULSAM", Any]] | None] = ContextVar("ulsam_recorded", default=None)
_SWITCHES: ContextVar[Mapping["ULSAM", Any] | None] = ContextVar("ulsam_switches", default=None)
# One item for each that is open, in whatever thread: torch.compile can read it, but no ContextVar.
_OPEN: list[None] = []


@contextmanager
def recorded_scores() -> Iterator[list[tuple["ULSAM", Any]]]:
    """While open, every ULSAM that is called adds itself and its attention (N, H, W, g) to a list.

    Only the calling thread is concerned, and no layer is changed.
    """
    scores: list[tuple[ULSAM, Any]] = []
    token = _RECORDED.set(scores)
    _OPEN.append(None)
    try:
        yield scores
    finally:
        _OPEN.pop()
        _RECORDED.reset(token)


@contextmanager
def switched_attention(switches: Mapping["ULSAM", Any]) -> Iterator[None]:
    """While open, the attention of each of these ULSAM is 0, and y = x, where its switch is false.

    A switch is a scalar, a variable for one: what is traced within then serves both, and no trace
    is ever one without the attention. Only the calling thread is concerned.
    """
    token = _SWITCHES.set(switches)
    _OPEN.append(None)
    try:
        yield
    finally:
        _OPEN.pop()
        _SWITCHES.reset(token)


@keras.saving.register_keras_serializable("ulsam_keras")
class ULSAM(keras.layers.Layer):
    """Ultra-lightweight subspace attention.

    The channels are split into `num_splits` contiguous groups. Each group gets one spatial
    attention map, made by a 1x1 depthwise convolution, a 3x3 max-pool, a 1x1 convolution to one
    channel and a softmax over all positions, and is scaled by it inside a residual:

    ```
    t = relu(batch_norm(depthwise_conv_1x1(x)))            # (N, H, W, C)
    s = relu(batch_norm(conv_1x1(max_pool_3x3(t))))        # (N, H, W, g), one map per group
    a = softmax(s) over the H * W positions, per sample and group
    y = x * a + x, a broadcast over the channels of its group
    ```

    The groups are computed together, without a loop: `t` and the pool are per channel anyway, the
    scores are one 1x1 convolution with a block-diagonal kernel, and a 1x1 convolution with a 0/1
    kernel and bias 1 spreads `1 + a` over the channels. With `training=True` the same is computed
    in a form that goes through memory less often (`docs/training.md`). There are `5 * C + 3 * g`
    trainable parameters.

    In half precision (`dtype="mixed_float16"`, `"mixed_bfloat16"`) softmax, `1 + a` and the product
    are float32, and the output is rounded once; in training on PyTorch the change `x * a` and its
    sum with x are rounded. What that leaves of the attention is the output's: float16 holds no
    change of a value by less than 1 / 4096 to 1 / 2048 of it, bfloat16 none by less than 1 / 512 to
    1 / 256, and `a` averages `1 / (H * W)`. From 28 x 28 positions on, flat attention leaves a
    bfloat16 output as it was; `docs/half_precision.md` has the table, and what to do.

    The defaults of the batch normalizations are those of the authors' PyTorch module, whose
    `momentum=0.9` is Keras's 0.1. The stock `keras.layers.BatchNormalization` is used: its running
    variance takes the biased batch variance, PyTorch's the unbiased one, so after a training step
    the batch term of the two differs by exactly `(n - 1) / n`, `n = N * H * W`.

    Args:
        num_splits: Integer, the number of groups g. It must divide the number of channels.
        momentum: Float, momentum of both batch normalizations. Defaults to 0.1.
        epsilon: Float, added to the variance in both batch normalizations. Defaults to 1e-5.
        synchronized: Boolean, whether both batch normalizations synchronize their batch
            statistics over all replicas of a distribution strategy (TensorFlow back end only).
            Defaults to `False`.
        data_format: `"channels_last"` or `"channels_first"`. `None` takes
            `keras.config.image_data_format()`. Both run on CPU and GPU. Defaults to `None`.
        depthwise_initializer: Initializer of the depthwise kernel, shape `(1, 1, C, 1)`.
            Defaults to `"glorot_uniform"`.
        pointwise_initializer: Initializer of the pointwise kernel, shape `(1, 1, C // g, g)`, laid
            out as in `Conv2D(g, 1, groups=g)`. Defaults to `"glorot_uniform"`.
        bias_initializer: Initializer of the two biases, shapes `(C,)` and `(g,)`. Defaults to
            `"zeros"`.
        depthwise_regularizer: Regularizer of the depthwise kernel. Defaults to `None`.
        pointwise_regularizer: Regularizer of the pointwise kernel. Defaults to `None`.
        bias_regularizer: Regularizer of the two biases. Defaults to `None`.
        depthwise_constraint: Constraint on the depthwise kernel. Defaults to `None`.
        pointwise_constraint: Constraint on the pointwise kernel. Defaults to `None`.
        bias_constraint: Constraint on the two biases. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and `trainable`. As with any
            Keras layer made of others, files keep whether the whole is trainable, not its parts.

    Call arguments:
        inputs: Float tensor of rank 4.
        training: Boolean, whether the batch normalizations use the batch's own statistics and
            update the running ones.
        return_attention_scores: Boolean, whether to return the attention too. Defaults to `False`.

    Input shape:
        `(N, H, W, C)` for `data_format="channels_last"`, `(N, C, H, W)` for `"channels_first"`. N,
        H and W may be unknown.

    In a functional model the number of a layer's outputs is that of its first call; a layer that
    was first called without the scores gives them through `ulsam_keras.attention_maps`.

    Output shape:
        As the input. With `return_attention_scores=True` a pair of that and of the attention after
        the softmax, `(N, H, W, g)` or `(N, g, H, W)`; every map of it sums to 1.

    Raises:
        ValueError: If `num_splits` is not a positive integer or does not divide the channels, if
            `data_format` is unknown, if `dtype` is not one of floats, if the input's rank is not 4
            or its channels are unknown, or if it is a tensor of a tf_keras model.

    Example:

    >>> inputs = keras.Input((56, 56, 64))
    >>> outputs = ULSAM(num_splits=4)(inputs)
    >>> outputs.shape
    (None, 56, 56, 64)
    >>> y, scores = ULSAM(4)(inputs, return_attention_scores=True)
    >>> scores.shape
    (None, 56, 56, 4)
    """

    def __init__(
        self,
        num_splits: int,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        synchronized: bool = False,
        data_format: str | None = None,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        quantized = isinstance(self.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy)
        if quantized or "float" not in self.compute_dtype:
            raise ValueError(
                "`dtype` must be one of floats, such as 'float32' or 'mixed_bfloat16'; for int8, "
                "convert the model or train with ulsam_keras.quantization. "
                f"Received: dtype={self.dtype_policy.name!r}"
            )
        self.num_splits = _positive_integer(num_splits)
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = synchronized
        self.data_format = _data_format(data_format)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.pointwise_constraint = constraints.get(pointwise_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

        self.depthwise_conv = keras.layers.DepthwiseConv2D(
            1,
            data_format="channels_last",
            depthwise_initializer=self.depthwise_initializer,
            bias_initializer=self.bias_initializer,
            depthwise_regularizer=self.depthwise_regularizer,
            bias_regularizer=self.bias_regularizer,
            depthwise_constraint=self.depthwise_constraint,
            bias_constraint=self.bias_constraint,
            trainable=self.trainable,
            dtype=self.dtype_policy,
            name="depthwise_conv",
        )
        self.depthwise_norm = self._batch_norm("depthwise_norm")
        self.pool = keras.layers.MaxPooling2D(
            3,
            strides=1,
            padding="same",
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="pool",
        )
        self.pointwise_norm = self._batch_norm("pointwise_norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = self._channels(input_shape)
        groups = self.num_splits
        self.depthwise_conv.build((None, None, None, channels))
        self.depthwise_norm.build((None, None, None, channels))
        self.pointwise_kernel = self.add_weight(
            name="pointwise_kernel",
            shape=(1, 1, channels // groups, groups),
            initializer=self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
        )
        self.pointwise_bias = self.add_weight(
            name="pointwise_bias",
            shape=(groups,),
            initializer=self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )
        self.pointwise_norm.build((None, None, None, groups))
        # Row c is 1 in the column of channel c's group. A NumPy constant: the exporter folds its
        # product with the kernel into one plain convolution at every C and g.
        self._membership = np.repeat(np.eye(groups, dtype="float32"), channels // groups, axis=0)
        self.input_spec = keras.InputSpec(ndim=4, axes={self._channel_axis: channels})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, kwargs.get("inputs")):
            if type(value).__module__.startswith("tf_keras."):
                raise ValueError(
                    f"Layer {self.name!r} is one of Keras 3, and a model of tf_keras would not see "
                    "its weights; build the model with keras.Input (without TF_USE_LEGACY_KERAS), "
                    "then bridge it with ulsam_keras.quantization.to_tf_keras if need be. "
                    "Received: a tensor of tf_keras"
                )
        return super().__call__(*args, **kwargs)

    def call(
        self, inputs: Any, training: bool | None = None, return_attention_scores: bool = False
    ) -> Any:
        # One implementation serves both layouts: the CPU kernels know channels_last only.
        channels_first = self.data_format == "channels_first"
        x = ops.transpose(inputs, (0, 2, 3, 1)) if channels_first else inputs
        outputs, scores = self._trained(x) if training else self._exported(x)
        if _OPEN and self in (switches := _SWITCHES.get() or {}):
            switch = ops.convert_to_tensor(switches[self])
            outputs = ops.where(switch, outputs, ops.cast(x, outputs.dtype))
            scores = ops.where(switch, scores, ops.zeros_like(scores))
        if channels_first:
            outputs = ops.transpose(outputs, (0, 3, 1, 2))
        scores = ops.cast(scores, self.compute_dtype)
        if _OPEN and (recorded := _RECORDED.get()) is not None:
            recorded.append((self, scores))
        if not return_attention_scores:
            return outputs
        return outputs, ops.transpose(scores, (0, 3, 1, 2)) if channels_first else scores

    # Two forms of one function: LiteRT knows few operators, and computes some of them wrongly; in
    # training what counts is how often a tensor of the input's size goes through memory.

    def _exported(self, x: Any) -> tuple[Any, Any]:
        """Outputs and attention in inference: 10 LiteRT operators, 8 for one group."""
        t = self.pool(ops.relu(self.depthwise_norm(self.depthwise_conv(x), training=False)))
        # Dense: a grouped convolution computes wrong numbers on the GPU delegate, a branch per
        # group is slower everywhere.
        kernel = ops.reshape(ops.transpose(self.pointwise_kernel, (0, 1, 3, 2)), (1, 1, -1, 1))
        kernel = kernel * ops.cast(self._membership, kernel.dtype)
        s = ops.conv(t, kernel, padding="valid", data_format="channels_last")
        s = ops.relu(self.pointwise_norm(s + self.pointwise_bias, training=False))
        # In half precision the sum of the exponentials loses its digits, and overflows at 65504.
        a = spatial_softmax(ops.cast(s, self._wide_dtype))
        # A convolution, as a rank-5 reshape is refused by the GPU delegate and, after a residual
        # block, computed wrongly by the CPU kernels, which then overwrite x in place.
        kernel = ops.cast(self._membership.T[None, None], a.dtype)
        multiplier = ops.conv(a, kernel, padding="valid", data_format="channels_last") + 1.0
        return ops.cast(ops.cast(x, a.dtype) * multiplier, self.compute_dtype), a

    def _trained(self, x: Any) -> tuple[Any, Any]:
        """Outputs and attention in training."""
        wide = self._wide_dtype
        dtype = training_forms.working_dtype(self.compute_dtype, wide)
        groups, (_, height, width, channels) = self.num_splits, ops.shape(x)
        x = ops.cast(x, dtype)
        conv = self.depthwise_conv
        kernel = ops.reshape(conv.kernel, (-1,))
        t = self._normalized(self.depthwise_norm, x, kernel, conv.bias, axis=3)
        kernel = ops.expand_dims(ops.transpose(self.pointwise_kernel[0, 0]), 0)
        kernel = kernel * ops.expand_dims(ops.eye(groups, dtype=kernel.dtype), -1)
        kernel = ops.cast(ops.reshape(kernel, (groups, channels)), dtype)
        s = ops.cast(training_forms.scores(training_forms.max_pool(t), kernel), wide)
        s, ones = ops.expand_dims(s, 0), ops.ones((groups,), wide)
        s = self._normalized(self.pointwise_norm, s, ones, self.pointwise_bias, axis=1)
        a = softmax(ops.reshape(s, (groups, -1, height * width)))
        y = ops.cast(training_forms.attended(x, a), self.compute_dtype)
        return y, ops.reshape(ops.transpose(a, (1, 2, 0)), (-1, height, width, groups))

    def _normalized(
        self, norm: keras.layers.BatchNormalization, x: Any, kernel: Any, bias: Any, axis: int
    ) -> Any:
        """`relu(norm(x * kernel + bias))` in training, with the channels on `axis`."""
        kernel, bias = ops.cast(kernel, self._wide_dtype), ops.cast(bias, self._wide_dtype)
        if not norm.trainable:
            factor = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
            shift = norm.beta + (bias - norm.moving_mean) * factor
            factor, shift = (training_forms.along(t, axis, x) for t in (kernel * factor, shift))
            return ops.relu(x * factor + shift)
        # The norm takes the bias off again: its gradient is 0, and there for who asks for it.
        beta = norm.beta + (bias - bias)
        y, mean, variance = training_forms.normalized(
            x, kernel, kernel * norm.gamma, beta, norm.epsilon, axis, self.synchronized
        )
        batch = kernel * mean + bias, ops.square(kernel) * variance
        for running, value in zip((norm.moving_mean, norm.moving_variance), batch, strict=True):
            running.assign(running * norm.momentum + value * (1.0 - norm.momentum))
        return y

    @property
    def _wide_dtype(self) -> str:
        """The type of sums, of the softmax and of the product."""
        return "float32" if self.compute_dtype in _HALF else self.compute_dtype

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        self._channels(input_shape)
        return tuple(input_shape)

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, return_attention_scores: bool = False
    ) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        outputs = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs
        scores_shape = list(shape)
        scores_shape[self._channel_axis] = self.num_splits
        return outputs, keras.KerasTensor(tuple(scores_shape), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_splits": self.num_splits,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "synchronized": self.synchronized,
            "data_format": self.data_format,
            "depthwise_initializer": initializers.serialize(self.depthwise_initializer),
            "pointwise_initializer": initializers.serialize(self.pointwise_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "depthwise_regularizer": regularizers.serialize(self.depthwise_regularizer),
            "pointwise_regularizer": regularizers.serialize(self.pointwise_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "depthwise_constraint": constraints.serialize(self.depthwise_constraint),
            "pointwise_constraint": constraints.serialize(self.pointwise_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }

    def _batch_norm(self, name: str) -> keras.layers.BatchNormalization:
        return keras.layers.BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            synchronized=self.synchronized,
            trainable=self.trainable,
            dtype=self.dtype_policy,
            name=name,
        )

    @property
    def _channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else 3

    def _channels(self, input_shape: tuple[int | None, ...]) -> int:
        """The number of channels, once the shape has been found fit."""
        if len(input_shape) != 4:
            layout = "(N, C, H, W)" if self._channel_axis == 1 else "(N, H, W, C)"
            raise ValueError(
                f"Layer {self.name!r} expects an input of rank 4, {layout}; reshape the input. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} needs to know the number of channels, axis "
                f"{self._channel_axis} for data_format={self.data_format!r}; give it in the Input. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if channels == 0 or channels % self.num_splits:
            raise ValueError(
                f"Layer {self.name!r} splits the channels, axis {self._channel_axis} for "
                f"data_format={self.data_format!r}, into num_splits equal groups; choose a "
                f"num_splits that divides them. "
                f"Received: channels={channels}, num_splits={self.num_splits}"
            )
        return channels


@keras.saving.register_keras_serializable("ulsam_keras")
class SubSpace(ULSAM):
    """The one-group block of ULSAM: one attention map over all channels.

    The same as `ULSAM(1)`, under the name that the authors' PyTorch code gives it.

    Args:
        **kwargs: The arguments of `ULSAM`, but for `num_splits`.

    Raises:
        ValueError: If the input's rank is not 4 or its channels are unknown.

    Example:

    >>> SubSpace()(keras.Input((28, 28, 64))).shape
    (None, 28, 28, 64)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["num_splits"]
        return config


def _positive_integer(num_splits: Any) -> int:
    try:
        value = operator.index(num_splits)
    except TypeError:
        value = 0
    if value < 1 or isinstance(num_splits, bool):
        raise ValueError(
            "`num_splits` must be an integer of at least 1, the number of channel groups. "
            f"Received: num_splits={num_splits!r}"
        )
    return value


def _data_format(data_format: str | None) -> str:
    if data_format is None:
        return keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "`data_format` must be 'channels_last', 'channels_first' or None. "
            f"Received: data_format={data_format!r}"
        )
    return data_format
