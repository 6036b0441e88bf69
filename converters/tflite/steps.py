"""The steps that integers of a ``.tflite`` file count, and the ranges that they hold.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Tensor

Range = tuple[float, float]
# A scale, and the integer that stands for 0.
Steps = tuple[float, int]
# Of the types of activations.
LIMITS: Mapping[str, Any] = {"INT8": np.iinfo("int8"), "INT16": np.iinfo("int16")}
# Above the scale that the converter gives a tensor of zeros, 2e-6 / 255 and less than 1e-6 / 32767.
LEAST = {"INT8": 1e-8, "INT16": 4e-11}


def steps_of(tensor: Tensor) -> Steps:
    """The steps that a tensor has, of one scale."""
    return tensor.scales[0], tensor.zero_points[0]


def steps_for(dtype: str, low: float, high: float) -> Steps:
    """The steps for a range; their scale is 0 if that is 0.

    Args:
        dtype: One of `LIMITS`.
        low: The smallest value; 0 is taken into the range.
        high: The largest.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    limits = LIMITS[dtype]
    if dtype == "INT16":  # whose kernels take symmetric ranges only
        return max(-low, high) / limits.max, 0
    scale = (high - low) / (limits.max - limits.min)
    return scale, round(limits.min - low / scale) if scale else 0
