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
    x: Any, kernel: Any, weight: Any, beta: Any, epsilon: float, synchronized: bool
) -> tuple[Any, Any, Any]:
    """A batch norm of `x * kernel`, from the mean and the variance of x.

    The product is affine in every channel, so that its statistics follow from those of x, and no
    bias of it counts.

    Args:
        x: (N, H, W, C).
        kernel: (C,), as are `weight` and `beta`; in float32 where x is in half precision.
        weight: The kernel times the norm's gamma.
        beta: What the norm adds.
        epsilon: What the norm adds to the variance.
        synchronized: Whether the statistics are those of all replicas.

    Returns:
        The norm's output in x's type; mean and variance of x in the kernel's, not to be
        differentiated.
    """
    if BACKEND == "torch" and not synchronized:
        from ulsam_keras.torch_norm import normalized as by_hand

        return by_hand(x, kernel, weight, beta, epsilon)
    if BACKEND == "tensorflow" and not synchronized:
        return _by_hand(x, kernel, weight, beta, epsilon)
    mean, variance = ops.moments(x, (0, 1, 2), synchronized=synchronized)
    scale = weight * ops.rsqrt(ops.square(kernel) * variance + epsilon)
    return x * scale + (beta - mean * scale), mean, variance


def _by_hand(x: Any, kernel: Any, weight: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """The same with a gradient of its own, for TensorFlow.

    TensorFlow's writes out a tensor of x's size for the gradient of a mean and of a variance. Sums
    over all but the last axis are matrix products on a CPU, where its own are slow; on a GPU these
    may round to TF32.
    """
    import tensorflow as tf

    on_gpu = bool(tf.config.list_physical_devices("GPU"))

    def mean_of(t: Any) -> Any:
        if on_gpu:
            return ops.mean(t, (0, 1, 2))
        rows = ops.reshape(t, (-1, t.shape[-1]))
        return ops.matmul(ops.ones((1, ops.shape(rows)[0]), t.dtype), rows)[0] / count

    @ops.custom_gradient
    def function(x: Any, kernel: Any, weight: Any, beta: Any) -> tuple[tuple[Any, Any, Any], Any]:
        near = mean_of(x)
        centred = x - near
        rest = mean_of(centred)  # what a long sum in float32 misses of a mean far from 0
        variance = mean_of(ops.square(centred)) - ops.square(rest)
        root = ops.rsqrt(ops.square(kernel) * variance + epsilon)
        scale = weight * root

        def gradient(upstream: Any, *_: Any) -> tuple[Any, Any, Any, Any]:
            shared = mean_of(upstream)
            along = mean_of(upstream * centred) - rest * shared
            slope = -scale * ops.square(root) * kernel * along
            constant = scale * shared + rest * kernel * slope
            of_x = upstream * scale + (centred * (kernel * slope) - constant)
            return of_x, slope * variance * count, root * along * count, shared * count

        return (centred * scale + (beta - rest * scale), near + rest, variance), gradient

    count = ops.cast(ops.size(x) // x.shape[-1], x.dtype)
    return function(x, kernel, weight, beta)


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


def _sliced(x: Any, axis: int, start: int, size: int) -> Any:
    index = [slice(None)] * 4
    index[axis] = slice(start, start + size)
    return x[tuple(index)]
