"""What the back ends of Keras do at different speeds in a training step: one form for each.

The forms are one function; docs/training.md says what each is worth. Imports Keras (public names),
and inside functions `torch_norm` or TensorFlow where that is the back end.
"""

from typing import Any

import keras
from keras import ops

BACKEND = keras.backend.backend()


def working_dtype(compute_dtype: str, wide_dtype: str) -> str:
    """The type in which tensors of the input's size are kept between two operations.

    Where a compiler fuses operations nothing is kept, and half precision is only rounding: the sums
    of its gradients would be in half too, and scattered 16-bit additions are slow on a GPU. PyTorch
    writes every tensor to memory when it is not compiled.
    """
    return compute_dtype if BACKEND == "torch" else wide_dtype


def normalized(
    x: Any, kernel: Any, weight: Any, beta: Any, epsilon: float, axis: int, synchronized: bool
) -> tuple[Any, Any, Any]:
    """The ReLU of a batch norm of `x * kernel`, from the mean and the variance of x.

    The product is affine in every channel, so that its statistics follow from those of x, and no
    bias of it counts.

    Args:
        x: Channels are on `axis`.
        kernel: One number a channel, as are `weight` and `beta`; in float32 where x is in half
            precision.
        weight: The kernel times the norm's gamma.
        beta: What the norm adds.
        epsilon: What the norm adds to the variance.
        axis: 1 or the last.
        synchronized: Whether the statistics are those of all replicas.

    Returns:
        The outputs in x's type; mean and variance of x in the kernel's, not to be differentiated.
    """
    if BACKEND == "torch" and not synchronized:
        from ulsam_keras import torch_norm

        y, mean, variance = torch_norm.normalized(x, kernel, weight, beta, epsilon, axis)
        return ops.relu(y), mean, variance
    if BACKEND == "tensorflow" and not synchronized:
        from ulsam_keras import tensorflow_norm

        if tensorflow_norm.fits(x, axis):
            return tensorflow_norm.normalized(x, kernel, weight, beta, epsilon)
    axes = tuple(i for i in range(len(x.shape)) if i != axis)
    if synchronized:
        mean, variance = ops.moments(x, axes, synchronized=True)
    else:  # TensorFlow's moments are wrong when they are differentiated twice.
        mean, variance = ops.mean(x, axes), ops.var(x, axes)
    scale = weight * ops.rsqrt(ops.square(kernel) * variance + epsilon)
    near, scale, shift = (along(t, axis, x) for t in (mean, scale, beta))
    return ops.relu((x - near) * scale + shift), mean, variance


def along(t: Any, axis: int, x: Any) -> Any:
    """(C,) so that it broadcasts along an axis of x, in x's type."""
    shape = [1] * len(x.shape)
    shape[axis] = -1
    return ops.cast(ops.reshape(t, shape), x.dtype)


def max_pool(t: Any) -> Any:
    """The 3x3 max-pool, stride 1, padding "same", of values that are not negative."""
    if BACKEND == "torch":
        # Keras copies channels_last to (N, C, H, W) and back; PyTorch's kernel takes the view.
        t = ops.max_pool(ops.transpose(t, (0, 3, 1, 2)), 3, 1, "same", "channels_first")
        return ops.transpose(t, (0, 2, 3, 1))
    if BACKEND == "jax":
        # XLA's gradient of a pool is a scatter: slow on a CPU, atomic additions on a GPU. Maxima of
        # slices fuse, forwards and backwards. Padding with 0 changes no maximum of what is not
        # negative.
        for axis in (1, 2):
            size = t.shape[axis]
            padded = ops.pad(t, [(int(i == axis),) * 2 for i in range(4)])
            low, middle, high = (_sliced(padded, axis, start, size) for start in range(3))
            t = ops.maximum(ops.maximum(low, middle), high)
        return t
    return ops.max_pool(t, 3, 1, "same", "channels_last")


def scores(t: Any, kernel: Any) -> Any:
    """The product of (N, H, W, C) with (g, C): (g, N * H * W), where a map lies in one piece."""
    rows = ops.reshape(t, (-1, t.shape[-1]))
    if BACKEND == "tensorflow":  # Else the rows would be transposed in memory.
        import tensorflow as tf

        return tf.matmul(kernel, rows, transpose_b=True)
    return ops.matmul(kernel, ops.transpose(rows))


def _sliced(x: Any, axis: int, start: int, size: int) -> Any:
    index = [slice(None)] * 4
    index[axis] = slice(start, start + size)
    return x[tuple(index)]
