"""Arrays in the layout and dtype of a model. Imports NumPy only."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

# Channels second, or as the model has them.
Layout = Literal["pytorch", "model"]
Shape = tuple[int | None, ...]


def fitted(
    array: np.ndarray, shape: Shape, key: str, source: str, layout: Layout | None = None
) -> np.ndarray:
    """An array in the layout of a model.

    PyTorch has the channels of maps second, Keras last: they are moved where only that fits. Where
    both fit, as with 8x8x8 features, a map is taken to be in PyTorch's layout. A single value per
    sample may have an axis of its own or not.

    Args:
        array: The samples first.
        shape: The model's shape, the batch first; `None` for any size.
        key: What the array is called in messages.
        source: What it came from, in messages.
        layout: Which of the two it is in; `None` to find out.

    Raises:
        ValueError: If it fits in neither layout.
    """
    for name, candidate in layouts(array).items():
        if layout in (None, name) and fits(candidate.shape[1:], shape[1:]):
            return np.ascontiguousarray(candidate)
    if array.size == len(array) and all(size in (None, 1) for size in shape[1:]):
        return array.reshape(len(array), *[1] * (len(shape) - 1))
    raise ValueError(
        f"The {key} must have the model's shape, {(None, *shape[1:])}, or that with the channels "
        f"second. Received: {source!r} with {key} of shape {array.shape}"
    )


def layout_of(array: np.ndarray, shape: Shape) -> Layout | None:
    """The layout of a map that fits in one of them only; `None` where both fit, or neither."""
    fitting = [name for name, view in layouts(array).items() if fits(view.shape[1:], shape[1:])]
    return fitting[0] if array.ndim == 4 and len(fitting) == 1 else None


def fits(sizes: Sequence[int | None], wanted: Shape) -> bool:
    """Whether sizes can be those wanted, `None` standing for any."""
    return len(sizes) == len(wanted) and all(
        None in (have, want) or have == want for have, want in zip(sizes, wanted, strict=True)
    )


def layouts(array: np.ndarray) -> dict[Layout, np.ndarray]:
    """The array with the channels last, by what it was, in the order in which that is tried."""
    if array.ndim < 3:
        return {"model": array}
    moved = np.moveaxis(array, 1, -1)
    # Three axes are tokens more often than they are a signal with its channels second.
    if array.ndim == 3:
        return {"model": array, "pytorch": moved}
    return {"pytorch": moved, "model": array}


def as_dtype(array: np.ndarray, dtype: str, source: str) -> np.ndarray:
    """Numbers in the dtype of an input.

    Args:
        array: The numbers.
        dtype: The input's dtype, `"float32"` or an integer one.
        source: What they came from, in messages.

    Raises:
        ValueError: If they are none of the dtype's.
    """
    if "float" in dtype or dtype == "bool":
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    whole = array.dtype.kind in "iub" or (array == np.round(array)).all()
    if not whole or array.min() < limits.min or array.max() > limits.max:
        raise ValueError(
            f"An input of {dtype} takes whole numbers from {limits.min} to {limits.max}; record "
            f"them as the model takes them. Received: {source!r} with numbers from "
            f"{array.min():g} to {array.max():g}, {'whole' if whole else 'not whole'}"
        )
    return array.astype(dtype, copy=False)


def finite_numbers(array: np.ndarray, key: str, source: str) -> np.ndarray:
    """The array, if it holds finite numbers of at least one sample.

    Raises:
        ValueError: If it does not.
    """
    if array.ndim == 0 or array.dtype.kind not in "fiub" or not len(array):
        fault = f"shape {array.shape}, dtype {array.dtype}"
    elif not np.isfinite(array).all():
        fault = "NaN or infinite values"
    else:
        return array
    raise ValueError(
        f"The {key} must hold finite numbers, at least one sample, the samples first. "
        f"Received: {source!r} with {key} of {fault}"
    )
