"""The norm of a training step in few of TensorFlow's CPU kernels. Imports TensorFlow.

A step is as long as its way through memory, and a second core has to be woken for every kernel:
what counts is how few there are, and how often one reads or writes a tensor of the input's size.
"""

from typing import Any

import tensorflow as tf

# Of a kernel's size, which is divided by: nothing beside the root of any epsilon.
_LEAST = 1e-12


def fits(x: tf.Tensor, axis: int) -> bool:
    """Whether there are kernels for it, and fast ones."""
    # With other numbers of channels the gradient's kernel takes five times as long.
    fast = axis == 3 and x.shape[axis] % 4 == 0
    return fast and x.dtype == tf.float32 and not tf.config.list_physical_devices("GPU")


def normalized(
    x: tf.Tensor, kernel: tf.Tensor, weight: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`training_forms.normalized` of (N, H, W, C) in float32."""

    @tf.custom_gradient
    def function(*inputs: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Any]:
        x, kernel, weight, beta = inputs
        # Any values of the map will do, so that the sums of what is left keep their digits.
        near = _mean(x[:, tf.shape(x)[1] // 2])
        centred = x - near
        rest = _mean(centred)
        variance = _mean(tf.square(centred)) - tf.square(rest)
        scale = weight * tf.math.rsqrt(tf.square(kernel) * variance + epsilon)
        # As a convolution, factor, shift and ReLU are one kernel.
        factor = tf.reshape(scale, (1, 1, -1, 1))
        y = tf.nn.depthwise_conv2d(centred, factor, (1, 1, 1, 1), "VALID")
        y = tf.nn.relu(tf.nn.bias_add(y, beta - rest * scale))

        @tf.custom_gradient
        def backward(upstream: tf.Tensor, *inputs: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Any]:
            # The norm in terms of x, whose variance is that of x * kernel through its square.
            size = tf.maximum(tf.abs(kernel), _LEAST)
            spread = variance + epsilon / tf.square(size)
            of_x, along, of_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=tf.raw_ops.ReluGrad(gradients=upstream, features=y),
                x=centred,
                scale=weight / size,
                reserve_space_1=rest,
                reserve_space_2=spread,
                reserve_space_3=[0.0],
                epsilon=0.0,
            )
            of_weight = along / size
            of_kernel = -weight * kernel * variance * of_weight / (tf.square(size) * spread)

            def again(*upstreams: tf.Tensor) -> list[tf.Tensor]:
                sources = [upstream, *inputs]
                with tf.GradientTape() as outer:
                    outer.watch(sources)
                    with tf.GradientTape() as inner:
                        inner.watch(inputs)
                        plain = _in_operations(*inputs, epsilon)
                    gradients = inner.gradient(plain, inputs, upstream)
                return outer.gradient(gradients, sources, upstreams)

            return (of_x, of_kernel, of_weight, of_beta), again

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return backward(upstream, *inputs)

        return (y, near + rest, variance), gradient

    return function(x, kernel, weight, beta)


def _in_operations(
    x: tf.Tensor, kernel: tf.Tensor, weight: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tf.Tensor:
    mean = tf.reduce_mean(x, (0, 1, 2))
    variance = tf.math.reduce_variance(x, (0, 1, 2))
    scale = weight * tf.math.rsqrt(tf.square(kernel) * variance + epsilon)
    return tf.nn.relu((x - mean) * scale + beta)


def _mean(t: tf.Tensor) -> tf.Tensor:
    """Over all but the last axis: a matrix product, where TensorFlow's sum is slow."""
    rows = tf.reshape(t, (-1, t.shape[-1]))
    count = tf.shape(rows)[0]
    return tf.matmul(tf.ones((1, count), t.dtype), rows)[0] / tf.cast(count, t.dtype)
