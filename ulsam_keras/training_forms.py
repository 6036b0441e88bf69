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

        return tensorflow_norm.normalized(x, kernel, weight, beta, epsilon, axis)
    axes = tuple(i for i in range(len(x.shape)) if i != axis)
    mean, variance = ops.moments(x, axes, synchronized=synchronized)
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
    if BACKEND == "tensorflow":
        return _product(kernel, rows, transpose_b=True)
    return ops.matmul(kernel, ops.transpose(rows))


def _product(a: Any, b: Any, **transposed: bool) -> Any:
    """TensorFlow's, which Keras would have transpose its operands in memory."""
    import tensorflow as tf

    return tf.matmul(a, b, **transposed)


def attended(x: Any, a: Any) -> Any:
    """(N, H, W, C) with each group multiplied by 1 and its maps (g, N, H * W)."""
    _, height, width, channels = ops.shape(x)
    groups, size = a.shape[0], channels // a.shape[0]
    if BACKEND == "tensorflow":
        from ulsam_keras import tensorflow_norm

        if not tensorflow_norm.on_gpu():
            # Spread by a matrix product, as TensorFlow broadcasts slowly.
            membership = ops.repeat(ops.eye(groups, dtype=a.dtype), size, axis=1)
            factor = _product(ops.reshape(a + 1.0, (groups, -1)), membership, transpose_a=True)
            return x * ops.reshape(factor, ops.shape(x))
    by_group = ops.reshape(ops.transpose(a, (1, 2, 0)), (-1, height, width, groups, 1))
    by_group = ops.cast(by_group, x.dtype)
    x = ops.reshape(x, (-1, height, width, groups, size))
    # Never 1 + a in half precision, where small attention would be lost beside the 1.
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    y = x + x * by_group if half else x * (1.0 + by_group)
    return ops.reshape(y, (-1, height, width, channels))


def _sliced(x: Any, axis: int, start: int, size: int) -> Any:
    index = [slice(None)] * 4
    index[axis] = slice(start, start + size)
    return x[tuple(index)]
