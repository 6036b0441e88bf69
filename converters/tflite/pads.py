"""What a padding in a ``.tflite`` graph does, which the GPU delegate makes part of what reads it.

Imports NumPy and the flatbuffer reader.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator
from converters.tflite.view import View

PADS = {"PAD", "PADV2", "MIRROR_PAD"}
_VALID = 1  # of the schema's Padding


def amounts(operator: Operator) -> np.ndarray | None:
    """What a pad puts before and after each of four dimensions, `(4, 2)`; `None` if not told."""
    told = operator.inputs[1] if len(operator.inputs) > 1 else None
    if told is None or told.data is None:
        return None
    dtype = np.dtype(np.int64 if told.dtype == "INT64" else np.int32)
    if not 0 < len(told.data) <= 8 * dtype.itemsize or len(told.data) % (2 * dtype.itemsize):
        return None
    found = told.data.view(dtype).reshape(-1, 2)
    return np.pad(found, ((max(4 - len(found), 0), 0), (0, 0)))


def of_samples(operator: Operator) -> bool:
    """Whether it pads several samples of three dimensions, whose first the delegate misplaces."""
    x = operator.inputs[0] if operator.name in PADS and operator.inputs else None
    found = amounts(operator)
    several = x is not None and len(x.shape) == 3 and x.shape[0] > 1
    return several and found is not None and bool(found.any())


def fill(view: View, operator: Operator) -> float | None:
    """What a pad fills with; `None` if that is computed."""
    value = operator.inputs[2] if operator.name == "PADV2" else None
    if value is None:
        return 0.0
    numbers = view.held(value).values()
    return float(np.ravel(numbers)[0]) if numbers is not None and np.size(numbers) == 1 else None


def spatial(operator: Operator) -> bool:
    """Whether it pads height and width alone, which the delegate makes part of what follows.

    Of integers it does not.
    """
    found = amounts(operator) if operator.name in ("PAD", "PADV2") else None
    if found is None or operator.outputs[0].scales:
        return False
    return bool(found[1:3].any()) and not found[[0, 3]].any()


def uncounted(view: View, pad: Operator, pool: Operator, lowest: float) -> bool:
    """Whether a pool of a padded image is the same where the padding does not count.

    So it is if no window reaches it; and a maximum if what is padded with is never the largest:
    below `lowest`, or 0 beside what is not below 0, of which every window has some.
    """
    value, sizes = fill(view, pad), amounts(pad)
    if sizes is not None and not _reached(sizes, pad, pool):
        return True
    if pool.name != "MAX_POOL_2D" or value is None or sizes is None:
        return False
    if value <= lowest:
        return True
    options = pool.options
    window = (options.filterHeight, options.filterWidth)
    met = bool((sizes[1:3].max(axis=1) < window).all()) and options.padding == _VALID
    return value == 0 and met and pad.inputs[0] in view.nonnegative


def _reached(sizes: np.ndarray, pad: Operator, pool: Operator) -> bool:
    """Whether a window of a pool has padding in it."""
    x, result, options = pad.inputs[0], pool.outputs[0].shape, pool.options
    if x is None or len(x.shape) != 4 or len(result) != 4 or options.padding != _VALID:
        return True
    ends = (
        (result[1] - 1) * options.strideH + options.filterHeight,
        (result[2] - 1) * options.strideW + options.filterWidth,
    )
    within = all(end <= size for end, size in zip(ends, x.shape[1:3], strict=True))
    return bool(sizes[1:3, 0].any()) or not within
