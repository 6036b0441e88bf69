"""What both sides of a comparison are given: a reference's inputs, data, or random numbers."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from converters.data.layout import Shape
from converters.tflite.flatbuffer import Tensor
from converters.verify.references import Reference, Samples, Side, load_samples
from converters.verify.sides import FileSide, Model

# Samples of random numbers where there is no data.
RANDOM_SAMPLES = 4
# Numbers of all of them together: a quarter of a gigabyte.
_MOST_RANDOM = 1 << 26
DEFAULT_SIZE = (224, 224)
_PIXELS = (0, 255)


def common_samples(
    a: Side, b: Side, path: str | None, input_size: tuple[int, int] | None
) -> tuple[Model, Side, Samples]:
    """A model, what it is compared with, fitted to it, and what both are given."""
    if isinstance(a, Reference):
        a, b = b, a
    if isinstance(a, Reference):
        raise ValueError(
            "At least one side must be a model, a .keras or .tflite file. "
            f"Received: {b.name!r} and {a.name!r}"
        )
    if isinstance(b, Reference):
        if path is not None:
            raise ValueError(
                "A reference has its inputs; leave `inputs` out, or compare two models. "
                f"Received: {b.name!r} and `inputs` {path}"
            )
        b = b.fitted(a)
        return a, b, b
    b = b.fitted(a)
    # The shape of each input that both take, the batch open.
    shapes = [
        (None, *(y if x is None else x for x, y in zip(one[1:], other[1:], strict=True)))
        for one, other in zip(a.inputs.values(), b.inputs.values(), strict=True)
    ]
    if path is not None:
        both = replace(a, inputs=dict(zip(a.inputs, shapes, strict=True)))
        return a, b, load_samples(path).fitted(both)
    filled = [_filled(shape, input_size or DEFAULT_SIZE) for shape in shapes]
    return a, b, random_samples(a, b, filled)


def random_samples(a: Model, b: Model, shapes: Sequence[tuple[int, ...]]) -> Samples:
    """Random inputs that both models take, of these shapes without the samples."""
    if sum(map(math.prod, shapes)) * RANDOM_SAMPLES > _MOST_RANDOM:
        raise ValueError(
            "Inputs as large as these are not made of random numbers; give some with `inputs`. "
            f"Received: shapes {', '.join(map(str, shapes))}"
        )
    rng = np.random.default_rng(0)
    arrays = {}
    for sizes, *names in zip(shapes, a.inputs, b.inputs, strict=True):
        ends = list(zip((a, b), names, strict=True))
        whole = [dtype for side, name in ends if "float" not in (dtype := side.dtypes[name])]
        steps = [tensor for end in ends if (tensor := _quantized(*end)) is not None]
        shape = (RANDOM_SAMPLES, *sizes)
        if steps and not whole:
            arrays[names[0]] = _in_range(rng, shape, steps[0])
        else:
            arrays[names[0]] = _draw(rng, shape, whole[0] if whole else "float32")
    return Samples(arrays, "random")


def _filled(shape: Shape, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of a random sample: open sizes of images are those asked for."""
    image = len(shape) == 4
    whole = [n or size[i] if image and i < 2 else n for i, n in enumerate(shape[1:])]
    if None in whole:
        raise ValueError(
            "Open dimensions that are no image's have no size of random numbers; give some with "
            f"`inputs`. Received: an input of shape {shape}"
        )
    return tuple(n for n in whole if n is not None)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random values as an input of the dtype has them.

    Floats are standard normal; integers are those of a pixel, 0 to 255, or all that the dtype has
    if these are fewer, or negative ones too.
    """
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" not in dtype:
        return rng.standard_normal(shape, "float32")
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if limits.bits == 8 else _PIXELS
    return rng.integers(low, high, shape, dtype, endpoint=True)


def _quantized(side: Model, name: str) -> Tensor | None:
    """The integers that an input of a file of integers becomes, which have a range."""
    if not isinstance(side, FileSide):
        return None
    graph = side.file.graph
    tensor = graph.given[name]
    if tensor.scales:
        return tensor
    readers = [o for o in graph.operators if o.name == "QUANTIZE" and tensor in o.inputs]
    steps = [reader.outputs[0] for reader in readers if len(reader.outputs[0].scales) == 1]
    return steps[0] if steps else None


def _in_range(rng: np.random.Generator, shape: tuple[int, ...], tensor: Tensor) -> np.ndarray:
    """Random numbers in the range of integers, and such that these hold them exactly.

    Images are smooth: normal numbers on a grid of 4 x 4, stretched to their size. Numbers without a
    neighbourhood, or such as fill the range, take the layers behind beyond their own ranges.
    """
    limits = np.iinfo(tensor.dtype.lower())
    ends = tensor.dequantized(np.array([limits.min, limits.max]))
    image = len(shape) == 4
    numbers = rng.normal(size=(shape[0], 4, 4, shape[3]) if image else shape)
    if image:
        # How near each place of a line is to each of the four.
        places = (np.linspace(0, 3, size)[:, None] for size in shape[1:3])
        rows, columns = (np.maximum(1 - np.abs(line - np.arange(4)), 0) for line in places)
        numbers = np.einsum("hi,wj,nijc->nhwc", rows, columns, numbers)
    spread = np.ptp(ends) / (4 if image else 8)
    return tensor.dequantized(tensor.quantized(ends.mean() + spread * numbers))
