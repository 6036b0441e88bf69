"""Representative data: what the ranges of integer activations are taken from.

Imports NumPy; Keras and TensorFlow inside the function that reads images.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.recorded import channels_last, load_arrays
from converters.tflite.inputs import Shape

# Fewer do not show the ranges of a network; a few hundred are what is commonly used.
FEW_SAMPLES = 100
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

Sample = dict[str, np.ndarray]


def representative_samples(data: Any, shapes: Mapping[str, Shape], dtypes: Sequence[str]) -> Sample:
    """Representative data as arrays, once it is found fit.

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
        arrays = _from_path(data, shapes)
    elif isinstance(data, Mapping):
        arrays = {name: [value] for name, value in _named(data, shapes, "the dictionary").items()}
    elif hasattr(data, "shape") and len(shapes) == 1:
        arrays = {name: [data] for name in shapes}
    elif isinstance(data, Iterable):
        arrays = {name: [] for name in shapes}
        for number, item in enumerate(data):
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
    count = next(iter(counts.values()))
    if count < FEW_SAMPLES:
        warnings.warn(
            f"The ranges of the activations are taken from {count} samples; give at least "
            f"{FEW_SAMPLES}, of the kind that the model will meet, or values beyond these ranges "
            "are clipped.",
            stacklevel=4,
        )
    return samples


def load_images(
    folder: str | os.PathLike[str],
    size: tuple[int, int],
    *,
    channels: int = 3,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Reads the images of a folder, and of the folders in it, as a model takes them.

    Each is cropped at its centre to the aspect ratio of `size`, resized bilinearly, and scaled to
    `(pixel / 255 - mean) / std`, pixels being 0 to 255. The defaults give 0 to 1; mean and std 0.5
    give -1 to 1; ImageNet's mean `(0.485, 0.456, 0.406)` and std `(0.229, 0.224, 0.225)` are
    torchvision's normalization.

    Args:
        folder: The folder; PNG, JPEG, BMP and GIF (its first picture) files in it are read, by
            their suffix, in the order of their paths.
        size: Height and width.
        channels: Integer, 3, or 1 for grey. Defaults to 3.
        mean: Number, or one per channel. Defaults to 0.
        std: Number, or one per channel, above 0. Defaults to 1.
        progress: Called with how many images are read and how many there are. Defaults to `None`.

    Returns:
        A float32 array `(N, height, width, channels)`.

    Raises:
        OSError: If the folder or a file cannot be read.
        ValueError: If the folder has no images, a file is no image, or an argument is not as
            above.
    """
    if channels not in (1, 3):
        raise ValueError(f"Images have 1 or 3 channels. Received: channels={channels!r}")
    offset, scale = (_per_channel(value, channels) for value in (mean, std))
    if (scale <= 0).any():
        raise ValueError(f"`std` must be above 0. Received: std={std!r}")
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"No such folder. Received: {os.fspath(folder)!r}")
    paths = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not paths:
        raise ValueError(
            f"The folder must hold images, files that end in {', '.join(IMAGE_SUFFIXES)}. "
            f"Received: {os.fspath(folder)!r} without any"
        )
    images = np.empty((len(paths), *size, channels), "float32")
    for number, path in enumerate(paths):
        images[number] = (_decoded(path, size, channels) / 255.0 - offset) / scale
        if progress:
            progress(number + 1, len(paths))
    return images


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


def image_shape(shapes: Mapping[str, Shape]) -> Shape:
    """The shape of the one input that takes images.

    Raises:
        ValueError: If there are several inputs, or it takes something else.
    """
    shape = next(iter(shapes.values()))
    if len(shapes) > 1 or len(shape) != 4:
        raise ValueError(
            "A folder of images is for models with one input of images; give an .npz file "
            f"with an array for each input. Received: inputs {dict(shapes)}"
        )
    return shape


def _from_path(path: str | os.PathLike[str], shapes: Mapping[str, Shape]) -> dict[str, list[Any]]:
    if os.path.isdir(path):
        shape = image_shape(shapes)
        images = load_images(path, (shape[1], shape[2]), channels=shape[3])
        return {next(iter(shapes)): [images]}
    if not os.fspath(path).lower().endswith(".npz"):
        raise ValueError(
            "`representative_data` must be a folder of images or an .npz file. "
            f"Received: {os.fspath(path)!r}"
        )
    stored = load_arrays(path)
    name = Path(path).name
    if len(shapes) == 1 and "inputs" in stored:
        stored = {next(iter(shapes)): stored["inputs"]}
    arrays = _named(stored, shapes, f"{name!r}")
    return {
        key: [channels_last(arrays[key], (None, *shape[1:]), key, name)]
        for key, shape in shapes.items()
    }


def _named(data: Mapping[str, Any], shapes: Mapping[str, Shape], where: str) -> dict[str, Any]:
    missing = [name for name in shapes if name not in data]
    if missing:
        alone = " or 'inputs'" if len(shapes) == 1 else ""
        raise ValueError(
            f"Representative data needs an array for every input, {sorted(shapes)}{alone}. "
            f"Received: {where} with {sorted(data)}"
        )
    return {name: data[name] for name in shapes}


def _item(item: Any, shapes: Mapping[str, Shape], number: int) -> dict[str, Any]:
    """One item of an iterable: a sample or batch by input; of a tuple the inputs, as in `fit`."""
    if isinstance(item, tuple) and (len(shapes) == 1 or len(item) != len(shapes)) and item:
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
        arrays.append(array.astype(dtype))
    samples = np.concatenate(arrays) if arrays else np.empty(0)
    if not len(samples):
        raise ValueError(
            "`representative_data` must hold at least one sample, and better "
            f"{FEW_SAMPLES}. Received: none for input {name!r}"
        )
    return samples


def _decoded(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    import keras
    import tensorflow as tf

    content = path.read_bytes()
    try:
        # Not every format can be read as grey.
        image = tf.io.decode_image(content, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"A file in the folder is no image that can be read; remove or repair it. "
            f"Received: {str(path)!r}"
        ) from error
    pixels = np.asarray(image if channels == 3 else tf.image.rgb_to_grayscale(image), "float32")
    return np.asarray(keras.preprocessing.image.smart_resize(pixels, size))


def _per_channel(value: Any, channels: int) -> np.ndarray:
    array = np.asarray(value, "float32")
    if array.shape not in ((), (1,), (channels,)) or not np.isfinite(array).all():
        raise ValueError(
            f"`mean` and `std` must be one number, or one for each of {channels} channels. "
            f"Received: {value!r}"
        )
    return array
