"""The norm of a training step on TensorFlow, with gradients of its own. Imports TensorFlow.

A step is as long as its way through memory, and a second core has to be woken for every kernel:
what counts is how few there are, and how often one reads or writes a tensor of the input's size.
"""

from typing import Any

import tensorflow as tf

# Of a kernel's size, which is divided by: nothing beside the root of any epsilon.
_LEAST = 1e-12


def normalized(
    x: tf.Tensor,
    kernel: tf.Tensor,
    weight: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    axis: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`training_forms.normalized`."""
    # With other numbers of channels the gradient's kernel takes five times as long.
    few = axis == 3 and x.shape[axis] % 4 == 0 and x.dtype == tf.float32 and not on_gpu()
    function = _in_few_kernels(epsilon) if few else _in_operations(epsilon, axis)
    return function(x, kernel, weight, beta)


def on_gpu() -> bool:
    """Whether there is one, where a matrix product may round to TF32."""
    return bool(tf.config.list_physical_devices("GPU"))


def _in_operations(epsilon: float, axis: int) -> Any:
    """With a gradient that writes nothing of x's size for those of mean and variance."""

    @tf.custom_gradient
    def function(
        x: tf.Tensor, kernel: tf.Tensor, weight: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], Any]:
        shape = [-1 if i == axis else 1 for i in range(x.shape.rank)]
        kernel, weight, beta = (tf.reshape(t, shape) for t in (kernel, weight, beta))
        count = tf.cast(tf.size(x) // x.shape[axis], x.dtype)
        near = tf.reshape(_mean(x, axis), shape)
        centred = x - near
        rest = tf.reshape(_mean(centred, axis), shape)  # what a long sum misses far from 0
        variance = tf.reshape(_mean(tf.square(centred), axis), shape) - tf.square(rest)
        root = tf.math.rsqrt(tf.square(kernel) * variance + epsilon)
        scale = weight * root
        y = tf.nn.relu(centred * scale + (beta - rest * scale))

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=y)
            shared = tf.reshape(_mean(upstream, axis), shape)
            along = tf.reshape(_mean(upstream * centred, axis), shape) - rest * shared
            slope = -scale * tf.square(root) * kernel * along
            constant = scale * shared + rest * kernel * slope
            of_x = upstream * scale + (centred * (kernel * slope) - constant)
            of_weights = slope * variance, root * along, shared
            return of_x, *(tf.reshape(t * count, (-1,)) for t in of_weights)

        return (y, tf.reshape(near + rest, (-1,)), tf.reshape(variance, (-1,))), gradient

    return function


def _in_few_kernels(epsilon: float) -> Any:
    """The same of (N, H, W, C)."""

    @tf.custom_gradient
    def function(*inputs: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Any]:
        x, kernel, weight, beta = inputs
        # Any values of the map will do, so that the sums of what is left keep their digits.
        near = _mean(x[:, tf.shape(x)[1] // 2], 2)
        centred = x - near
        rest = _mean(centred, 3)
        variance = _mean(tf.square(centred), 3) - tf.square(rest)
        scale = weight * tf.math.rsqrt(tf.square(kernel) * variance + epsilon)
        # As a convolution, factor, shift and ReLU are one kernel.
        factor = tf.reshape(scale, (1, 1, -1, 1))
        y = tf.nn.depthwise_conv2d(centred, factor, (1, 1, 1, 1), "VALID")
        y = tf.nn.relu(tf.nn.bias_add(y, beta - rest * scale))

        @tf.custom_gradient
        def backward(upstream: tf.Tensor, *inputs: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Any]:
            # The norm in terms of x, whose variance is that of x * kernel through its square; of x
            # itself, so that nothing else of its size is kept for the way back.
            size = tf.maximum(tf.abs(kernel), _LEAST)
            spread = variance + epsilon / tf.square(size)
            of_x, along, of_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=tf.raw_ops.ReluGrad(gradients=upstream, features=y),
                x=x,
                scale=weight / size,
                reserve_space_1=near + rest,
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
                        outputs = _in_operations(epsilon, 3)(*inputs)[0]
                    gradients = inner.gradient(outputs, inputs, upstream)
                return outer.gradient(gradients, sources, upstreams)

            return (of_x, of_kernel, of_weight, of_beta), again

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return backward(upstream, *inputs)

        return (y, near + rest, variance), gradient

    return function


def _mean(t: tf.Tensor, axis: int) -> tf.Tensor:
    """Over all axes but one."""
    if axis == t.shape.rank - 1:  # The sum over all but the last takes four times as long.
        count = tf.size(t) // t.shape[axis]
        return tf.raw_ops.BiasAddGrad(out_backprop=t) / tf.cast(count, t.dtype)
    return tf.reduce_mean(t, [i for i in range(t.shape.rank) if i != axis])
