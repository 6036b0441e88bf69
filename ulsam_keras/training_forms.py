"""What the back ends of Keras do at different speeds in a training step: one form for each.

The forms are one function; docs/training.md says what each is worth. Imports Keras (public names).
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


def moments(x: Any, synchronized: bool) -> tuple[Any, Any]:
    """Mean and variance of each channel of (N, H, W, C), over all replicas if synchronized."""
    axes = (0, 1, 2)
    if BACKEND == "torch":
        # There `ops.moments` is the mean of the squares less the square of the mean: of values
        # around 100 that differ by 0.01 it leaves nothing.
        return ops.mean(x, axes), ops.var(x, axes)
    return ops.moments(x, axes, synchronized=synchronized)


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
