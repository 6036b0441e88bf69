"""What data looks like, channel by channel, and whether it can be what a model is meant for.

Imports NumPy only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A deviation of a hundredth of the reference's, and a range ten times off it, are no sampling.
_DEVIATION, _RANGE = 100.0, 10.0
# So few samples may all be dark, or one class: others may be of a wider range.
_FEW = 8
# Of data of many channels the description is of all of them together.
_MOST_CHANNELS = 16


@dataclass(frozen=True)
class Channel:
    """The values of one channel of an input, over all samples and positions.

    Attributes:
        name: The input's name, and the number of the channel behind a colon, `"image:0"`.
        least: Smallest value.
        largest: Largest value.
        mean: Mean.
        deviation: Standard deviation.
    """

    name: str
    least: float
    largest: float
    mean: float
    deviation: float


def describe(arrays: Mapping[str, np.ndarray]) -> tuple[Channel, ...]:
    """Every channel, the last axis of maps and of signals; other inputs as a whole."""
    rows = []
    for name, array in arrays.items():
        many = array.ndim < 3 or array.shape[-1] > _MOST_CHANNELS
        parts = (
            {name: array}
            if many
            else {f"{name}:{index}": array[..., index] for index in range(array.shape[-1])}
        )
        for label, values in parts.items():
            # In float64: the mean of many float32 pixels drifts.
            moments = (values.min(), values.max(), values.mean(dtype="f8"), values.std(dtype="f8"))
            rows.append(Channel(label, *map(float, moments)))
    return tuple(rows)


def implausible(given: Sequence[Channel], reference: Sequence[Channel], samples: int) -> str:
    """Why data cannot be of the kind that a reference was recorded on; empty if it can be.

    Args:
        given: The channels of the data.
        reference: Those of the reference's inputs, in the same order.
        samples: Number of the reference's samples.
    """
    for ours, theirs in zip(given, reference, strict=False):
        if theirs.least == theirs.largest:
            continue  # what never changes has no range
        if ours.deviation * _DEVIATION < theirs.deviation:
            return (
                f"the deviation of {ours.name} is {ours.deviation:.3g}, less than a hundredth of "
                f"the reference's, {theirs.deviation:.3g}"
            )
        width, other = (c.largest - c.least for c in (ours, theirs))
        wider = width > _RANGE * other and samples >= _FEW
        if wider or other > _RANGE * width:
            return (
                f"the range of {ours.name} is {ours.least:.3g} to {ours.largest:.3g} and the "
                f"reference's {theirs.least:.3g} to {theirs.largest:.3g}"
            )
        # Of the same width, and nowhere near.
        if abs(ours.mean - theirs.mean) > _RANGE * max(width, other):
            return (
                f"the mean of {ours.name} is {ours.mean:.3g} and the reference's {theirs.mean:.3g}"
            )
    return ""


def check_scaling(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ValueError for numbers that nothing can be scaled with, whatever is confirmed."""
    if not all(map(math.isfinite, (*mean, *std))) or any(value <= 0 for value in std):
        raise ValueError(
            "The mean of images is finite numbers, and their deviation numbers above 0; give those "
            f"of training. Received: mean={tuple(mean)}, std={tuple(std)}"
        )


def implausible_scaling(mean: Sequence[float], std: Sequence[float]) -> str:
    """Why images cannot be meant to be scaled so, their pixels being 0 to 1 before; or empty."""
    off = [value for value in mean if not 0 <= value <= 1]
    if off:
        return f"a mean of {off[0]:g} is beyond the pixels, which are 0 to 1 when it is taken off"
    off = [value for value in std if not 0 < value <= 1]
    if off:
        return (
            f"a deviation of {off[0]:g} is not above 0, or wider than the pixels, which are 0 to 1 "
            "when they are divided by it"
        )
    return ""
