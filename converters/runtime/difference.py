"""How far the outputs of two runs are apart. Imports NumPy only."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from converters.runtime.result import RunResult

# A map whose values differ by no more than the rounding of float16 is flat.
_FLAT = 2.0**-10

Outputs = RunResult | Mapping[str, np.ndarray] | np.ndarray


@dataclass(frozen=True)
class Difference:
    """The distance of one output from its reference.

    Both numbers are relative to the largest absolute value of the reference; they are infinite
    where a value is not finite.

    Attributes:
        largest: The largest absolute difference.
        mean: The mean absolute difference.
    """

    largest: float
    mean: float


@dataclass(frozen=True)
class AttentionDifference:
    """The distance of attention maps from their reference.

    Attributes:
        correlation: The smallest Pearson correlation of one map (one sample and group) with its
            reference; 1 for a flat map that has a flat reference, 0 for one that has not. A map is
            flat if its values differ by no more than float16's rounding.
        relative_error: The largest absolute difference, relative to the reference's largest value.
        row_sum_error: The largest distance from 1 of the sum over one map.
    """

    correlation: float
    relative_error: float
    row_sum_error: float


def compare(result: Outputs, reference: Outputs) -> dict[str, Difference]:
    """Compares outputs with a reference, output by output.

    Args:
        result: A `RunResult` of outcome `"ok"`, arrays by output name, or one array.
        reference: The same kind of thing; a bare array may stand for a single named output.

    Returns:
        A `Difference` by output name (`"output"` if neither side names it).

    Raises:
        ValueError: If the names or shapes differ, or if a run was not `"ok"`.
    """
    ours, theirs = _arrays(result), _arrays(reference)
    if len(ours) == len(theirs) == 1 and None in (*ours, *theirs):
        name = next((n for n in (*ours, *theirs) if n is not None), "output")
        ours, theirs = {name: next(iter(ours.values()))}, {name: next(iter(theirs.values()))}
    if set(ours) != set(theirs):
        raise ValueError(
            "Both sides must have the same outputs. "
            f"Received: {sorted(map(str, ours))} and {sorted(map(str, theirs))}"
        )
    return {str(name): _difference(ours[name], theirs[name]) for name in ours}


def compare_attention(attention: np.ndarray, reference: np.ndarray) -> AttentionDifference:
    """Compares attention maps, which the residual of the block hides in its output.

    Args:
        attention: Attention of shape `(N, H, W, g)`.
        reference: The attention that it should be, of the same shape.

    Raises:
        ValueError: If the shapes differ or are not of rank 4.
    """
    if attention.ndim != 4:
        raise ValueError(f"Attention has rank 4, (N, H, W, g). Received: shape={attention.shape}")
    error = _difference(attention, reference).largest
    maps, wanted = _maps(attention), _maps(reference)
    sums = np.abs(maps.sum(axis=0) - 1.0).max()
    return AttentionDifference(
        correlation=float(min(_correlation(a, b) for a, b in zip(maps.T, wanted.T, strict=True))),
        relative_error=error,
        row_sum_error=float(sums) if np.isfinite(sums) else float("inf"),
    )


def _arrays(side: Outputs) -> dict[str | None, np.ndarray]:
    if isinstance(side, RunResult):
        if side.outputs is None:
            raise ValueError(
                f"Only a run that was ok can be compared. Received: outcome={side.outcome!r}, "
                f"{side.message}"
            )
        return dict(side.outputs.items())
    if isinstance(side, Mapping):
        return {name: np.asarray(value) for name, value in side.items()}
    return {None: np.asarray(side)}


def _difference(value: np.ndarray, reference: np.ndarray) -> Difference:
    if value.shape != reference.shape:
        raise ValueError(
            f"Both sides must have the same shape. Received: {value.shape} and {reference.shape}"
        )
    value, reference = value.astype("float64"), reference.astype("float64")
    if not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return Difference(float("inf"), float("inf"))
    distance = np.abs(value - reference)
    if not distance.any():
        return Difference(0.0, 0.0)
    scale = np.abs(reference).max()
    if scale == 0:
        return Difference(float("inf"), float("inf"))
    return Difference(float(distance.max() / scale), float(distance.mean() / scale))


def _maps(attention: np.ndarray) -> np.ndarray:
    """(N, H, W, g) as float64 columns, one per sample and group."""
    n, height, width, groups = attention.shape
    columns = np.moveaxis(attention.reshape(n, height * width, groups), 1, 0)
    return columns.reshape(height * width, n * groups).astype("float64")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of a map with its reference, both of values around 1 / (H * W)."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    if np.ptp(b) <= _FLAT * np.abs(b).max():
        # What is left to correlate with would be rounding.
        return float(np.ptp(a) <= 4 * _FLAT * np.abs(a).max())
    if np.ptp(a) == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    value = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return value if np.isfinite(value) else 0.0
