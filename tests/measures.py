"""A file run on floats, and how far its attention is from the one it should be, map by map."""

import numpy as np

from converters.tflite.flatbuffer import TfliteFile
from converters.verify.outputs import relative_difference
from converters.verify.targets import Runner, Target

# A map whose values differ by no more than the rounding of float16 is flat.
FLAT = 2.0**-10


def run_float(tflite, inputs, accelerator="cpu", gpu_precision="float32", env=None):
    """A run of a file of any types on float inputs, with float outputs."""
    target = Target("", accelerator, gpu_precision, repeats=0)
    return Runner(env=env).run(TfliteFile.of(tflite), inputs, target)


def differences(outputs, expected):
    """The largest relative difference of each output, by name."""
    assert set(outputs) == set(expected)
    return {name: relative_difference(outputs[name], expected[name]) for name in expected}


def sum_error(attention):
    """The largest distance from 1 of the sum over one map, of attention (N, H, W, g)."""
    return np.abs(attention.astype("float64").sum(axis=(1, 2)) - 1).max()


def correlation(attention, reference):
    """The smallest Pearson correlation of one map, of one sample and group, with its reference.

    1 for a flat map that has a flat reference, 0 for one that has not.
    """
    n, height, width, groups = reference.shape
    columns = [
        np.moveaxis(maps.astype("float64").reshape(n, height * width, groups), 1, 2)
        for maps in (attention, reference)
    ]
    pairs = zip(*(maps.reshape(n * groups, height * width) for maps in columns), strict=True)
    return min(_of_map(a, b) for a, b in pairs)


def _of_map(a, b):
    if np.ptp(b) <= FLAT * np.abs(b).max():  # what is left to correlate with would be rounding
        return float(np.ptp(a) <= 4 * FLAT * np.abs(a).max())
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) else 0.0
