"""Images of files and folders as a model takes them.

Imports NumPy; Keras and TensorFlow inside the function that reads a file.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.data.layout import as_dtype
from converters.extras import require

Shape = tuple[int, ...]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def load_images(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: tuple[int, int],
    *,
    channels: int = 3,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
    dtype: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Reads images as a model takes them: of files, or of a folder and the folders in it.

    Each is cropped at its centre to the aspect ratio of `size`, resized bilinearly, and scaled to
    `(pixel / 255 - mean) / std`, pixels being 0 to 255. The defaults give 0 to 1; mean and std 0.5
    give -1 to 1; ImageNet's mean `(0.485, 0.456, 0.406)` and std `(0.229, 0.224, 0.225)` are
    torchvision's normalization.

    Args:
        source: A folder, whose PNG, JPEG, BMP and GIF (its first picture) files are read, told by
            their suffix, in the order of their paths; or a file; or several of both.
        size: Height and width.
        channels: Integer, 3, or 1 for grey. Defaults to 3.
        mean: Number, or one per channel. Defaults to 0.
        std: Number, or one per channel, above 0. Defaults to 1.
        dtype: That of the array. Of integers the values are the pixels, whole and 0 to 255, and
            there is no mean and std. Defaults to `"float32"`.
        progress: Called with how many images are read and how many there are. Defaults to `None`.

    Returns:
        An array `(N, height, width, channels)`.

    Raises:
        ImportError: If the extra `convert` is not installed, with which images are decoded.
        OSError: If the folder or a file cannot be read.
        ValueError: If the folder has no images, a file is no image, or an argument is not as
            above.
    """
    require("Reading images", "tensorflow")
    if channels not in (1, 3):
        raise ValueError(f"Images have 1 or 3 channels. Received: channels={channels!r}")
    offset, scale = (_per_channel(value, channels) for value in (mean, std))
    if (scale <= 0).any():
        raise ValueError(f"`std` must be above 0. Received: std={std!r}")
    whole = "int" in dtype
    if whole and ((offset != 0).any() or (scale != 1).any()):
        raise ValueError(
            f"Images of {dtype} are pixels, 0 to 255; leave mean and std out. "
            f"Received: mean={mean!r}, std={std!r}"
        )
    paths = image_files([source] if isinstance(source, (str, os.PathLike)) else source)
    images = np.empty((len(paths), *size, channels), "float32")
    for number, path in enumerate(paths):
        pixels = _decoded(path, size, channels)
        images[number] = np.round(pixels) if whole else (pixels / 255.0 - offset) / scale
        if progress:
            progress(number + 1, len(paths))
    return as_dtype(images, dtype, str(paths[0].parent))


def image_files(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files that are given, and those of the folders among them, as `load_images` reads them.

    Raises:
        OSError: If a file or folder is not there.
        ValueError: If a folder has no images.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if not source.is_dir():
            if not source.exists():
                raise FileNotFoundError(f"No such file or folder. Received: {str(source)!r}")
            found.append(source)
            continue
        within = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        paths = [path for path in within if path.is_file()]
        if not paths:
            raise ValueError(
                f"The folder must hold images, files that end in {', '.join(IMAGE_SUFFIXES)}. "
                f"Received: {str(source)!r} without any"
            )
        found += paths
    return found


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


def _decoded(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    import keras
    import tensorflow as tf

    content = path.read_bytes()
    try:
        # Not every format can be read as grey.
        image = tf.io.decode_image(content, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            "The file is no image that can be read, a PNG, JPEG, BMP or GIF; remove or repair it. "
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
