"""Representative data in every form, as one array for each input. Imports NumPy."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from converters.data.images import ENOUGH, Shape, image_shape, load_images
from converters.data.layout import as_dtype, fitted
from converters.data.npz import load_arrays, source_name, stored_inputs

# Fewer do not show the ranges of a network; a few hundred are what is commonly used.
FEW_SAMPLES = 100

Sample = dict[str, np.ndarray]


def representative_samples(data: Any, shapes: Mapping[str, Shape], dtypes: Sequence[str]) -> Sample:
    """`as_samples`, with a warning where they are too few to show the ranges of a network."""
    samples = as_samples(data, shapes, dtypes)
    count = len(next(iter(samples.values())))
    if count < FEW_SAMPLES:
        warnings.warn(
            f"The ranges of the activations are taken from {count} samples; give at least "
            f"{FEW_SAMPLES}, of the kind that the model will meet, or values beyond these ranges "
            "are clipped.",
            stacklevel=4,
        )
    return samples


def as_samples(data: Any, shapes: Mapping[str, Shape], dtypes: Sequence[str]) -> Sample:
    """Data as arrays, once it is found fit.

    Args:
        data: As `representative_data` of `to_tflite`.
        shapes: The static shape of each input, by name.
        dtypes: The dtype of each input.

    Returns:
        One array per input, the samples first.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there are no samples, or some are not numbers, not finite, or of another
            shape than the input's.
    """
    if isinstance(data, (str, os.PathLike)):
        arrays = _from_path(data, shapes, dtypes)
    elif isinstance(data, Mapping):
        arrays = {name: [value] for name, value in _named(data, shapes, "the dictionary").items()}
    elif hasattr(data, "shape") and len(shapes) == 1:
        arrays = {name: [data] for name in shapes}
    elif isinstance(data, (list, tuple)) and _fits(data, shapes):
        arrays = {name: [value] for name, value in zip(shapes, data, strict=True)}
    elif isinstance(data, Iterable) or hasattr(data, "__getitem__"):
        arrays = {name: [] for name in shapes}
        for number, item in enumerate(_items(data)):
            for name, value in _item(item, shapes, number).items():
                arrays[name].append(value)
    else:
        raise ValueError(
            "`representative_data` must be samples: an array (N, ...), an iterable of samples or "
            f"batches, a folder of images, or an .npz file. Received: {type(data).__name__}"
        )
    samples = {
        name: _checked(name, parts, shape, dtype)
        for (name, parts), shape, dtype in zip(arrays.items(), shapes.values(), dtypes, strict=True)
    }
    counts = {name: len(value) for name, value in samples.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(
            f"`representative_data` must hold as many samples for every input. Received: {counts}"
        )
    return samples


def batches(samples: Sample, shapes: Mapping[str, Shape]) -> list[Sample]:
    """The samples cut into the model's own batches; the first ones fill up the last."""
    count = len(next(iter(samples.values())))
    size = next(iter(shapes.values()))[0]
    whole = -(-count // size) * size
    return [
        {
            name: np.take(value, range(start, start + shapes[name][0]), axis=0, mode="wrap")
            for name, value in samples.items()
        }
        for start in range(0, whole, size)
    ]


def _from_path(
    path: str | os.PathLike[str], shapes: Mapping[str, Shape], dtypes: Sequence[str]
) -> dict[str, list[Any]]:
    if os.path.isdir(path):
        shape = image_shape(shapes)
        images = load_images(
            path, (shape[1], shape[2]), channels=shape[3], dtype=dtypes[0], count=ENOUGH
        )
        return {next(iter(shapes)): [images]}
    if not os.fspath(path).lower().endswith(".npz"):
        raise ValueError(
            "`representative_data` must be a folder of images or an .npz file. "
            f"Received: {os.fspath(path)!r}"
        )
    source = source_name(path)
    stored = stored_inputs(load_arrays(path), list(shapes), source)
    return {
        key: [fitted(stored[key], shape, f"inputs.{key}", source)] for key, shape in shapes.items()
    }


def _named(data: Mapping[str, Any], shapes: Mapping[str, Shape], where: str) -> dict[str, Any]:
    missing = [name for name in shapes if name not in data]
    if missing:
        raise ValueError(
            f"Representative data needs an array for every input, {sorted(shapes)}. "
            f"Received: {where} with {sorted(data)}"
        )
    return {name: data[name] for name in shapes}


def _items(data: Any) -> Iterable[Any]:
    """The items of data; a `keras.utils.PyDataset` is indexed and would never end."""
    if not hasattr(data, "__iter__") and hasattr(data, "__len__"):
        return (data[number] for number in range(len(data)))
    return data


def _item(item: Any, shapes: Mapping[str, Shape], number: int) -> dict[str, Any]:
    """One item of an iterable: a sample or batch by input; of `(inputs, targets)` the inputs."""
    if _has_targets(item, shapes):
        item = item[0]
    if isinstance(item, Mapping):
        return _named(item, shapes, f"item {number}")
    if isinstance(item, (list, tuple)) and len(item) == len(shapes):
        return dict(zip(shapes, item, strict=True))
    if len(shapes) == 1:
        return {next(iter(shapes)): item}
    raise ValueError(
        f"Every item of `representative_data` must have the inputs {sorted(shapes)}, as a "
        f"dictionary or in order. Received: item {number} of type {type(item).__name__}"
    )


def _has_targets(item: Any, shapes: Mapping[str, Shape]) -> bool:
    """Whether an item is `(inputs, targets)` or `(inputs, targets, weights)`, or a list of them."""
    if not isinstance(item, (list, tuple)) or not item:
        return False
    if isinstance(item[0], Mapping):
        return True
    if len(shapes) > 1:
        return len(item) != len(shapes) or isinstance(item[0], (list, tuple))
    # PyTorch's DataLoader makes lists; a list of numbers is a sample.
    return isinstance(item, tuple) or (
        hasattr(item[0], "shape") and _of_shape(item[0], next(iter(shapes.values())))
    )


def _fits(data: Sequence[Any], shapes: Mapping[str, Shape]) -> bool:
    """Whether it is one array for each of several inputs."""
    return 1 < len(shapes) == len(data) and all(
        hasattr(value, "shape") and _of_shape(value, shape)
        for value, shape in zip(data, shapes.values(), strict=True)
    )


def _of_shape(value: Any, shape: Shape) -> bool:
    """Whether it is samples of a shape, several of them."""
    return tuple(value.shape[1:]) == shape[1:]


def _checked(name: str, parts: Sequence[Any], shape: Shape, dtype: str) -> np.ndarray:
    """The parts, each a sample or a batch, as one array of samples."""
    arrays = []
    for number, part in enumerate(parts):
        array = np.asarray(part)
        if array.shape == shape[1:]:
            array = array[None]
        if array.dtype.kind not in "fiub" or array.ndim == 0 or array.shape[1:] != shape[1:]:
            raise ValueError(
                f"Representative data for input {name!r} must hold numbers of shape {shape[1:]}, "
                f"or batches of such. Received: item {number} of shape {array.shape}, "
                f"dtype {array.dtype}"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"Representative data must be finite. Received: NaN or infinity for input "
                f"{name!r}, item {number}"
            )
        arrays.append(_whole(name, array, dtype))
    samples = np.concatenate(arrays) if arrays else np.empty(0)
    if not len(samples):
        raise ValueError(
            "`representative_data` must hold at least one sample, and better "
            f"{FEW_SAMPLES}. Received: none for input {name!r}"
        )
    return samples


def _whole(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    try:
        return as_dtype(array, dtype, name) if array.size else array.astype(dtype)
    except ValueError as error:
        raise ValueError(
            f"Representative data for input {name!r} must hold whole numbers, as its dtype, "
            f"{dtype}, does; give images as pixels, 0 to 255. Received: numbers from "
            f"{array.min():g} to {array.max():g}"
        ) from error
