"""Images of files and folders as a model takes them.

Imports NumPy; Pillow inside the functions that read files.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from converters.data.channels import check_scaling
from converters.data.layout import as_dtype
from converters.extras import require

Shape = tuple[int, ...]
# How many images of a folder calibration takes: more change its ranges hardly.
ENOUGH = 500


def load_images(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: tuple[int, int],
    *,
    channels: int = 3,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
    dtype: str = "float32",
    count: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Reads images as a model takes them: of files, or of a folder and the folders in it.

    Each is turned as its EXIF orientation says, cropped at its centre to the aspect ratio of
    `size`, resized bilinearly (smoothed where it is made smaller), and scaled to
    `(pixel / 255 - mean) / std`, pixels being 0 to 255. The defaults give 0 to 1; mean and std 0.5
    give -1 to 1; ImageNet's mean `(0.485, 0.456, 0.406)` and std `(0.229, 0.224, 0.225)` are
    torchvision's normalization. Transparency is left out, 16-bit pictures become 8-bit, and of
    several pictures in a file the first is taken.

    Args:
        source: A folder, whose files of every format that Pillow reads are taken, told by their
            suffix, in the order of their paths, hidden ones left out; or a file; or several of
            both. One image at a time is in memory beside the result.
        size: Height and width.
        channels: Integer, 3, or 1 for grey. Defaults to 3.
        mean: Number, or one per channel, finite. Defaults to 0.
        std: Number, or one per channel, above 0. Defaults to 1.
        dtype: That of the array. Of integers the values are the pixels, whole and 0 to 255, and
            there is no mean and std. Defaults to `"float32"`.
        count: Integer, the most images to read: of more, so many are taken evenly over the sorted
            paths. Defaults to `None`, all.
        progress: Called with how many images are read and how many there are. Defaults to `None`.

    Returns:
        An array `(N, height, width, channels)`. Files of a folder that cannot be read are left
        out, with a warning that names them.

    Raises:
        ImportError: If Pillow is not installed; the extra `convert` brings it.
        OSError: If a folder, or a file given by itself, cannot be read.
        ValueError: If a folder has no images, none of them or a file given by itself can be read,
            or an argument is not as above.
    """
    require("Reading images", "PIL")
    if channels not in (1, 3):
        raise ValueError(f"Images have 1 or 3 channels. Received: channels={channels!r}")
    offset, scale = (_per_channel(value, channels) for value in (mean, std))
    check_scaling(offset.ravel().tolist(), scale.ravel().tolist())
    if count is not None and count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count!r}")
    whole = "int" in dtype
    if whole and ((offset != 0).any() or (scale != 1).any()):
        raise ValueError(
            f"Images of {dtype} are pixels, 0 to 255; leave mean and std out. "
            f"Received: mean={mean!r}, std={std!r}"
        )
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    paths = evenly(image_files(sources), count)
    named = {Path(path) for path in sources}
    images = np.empty((len(paths), *size, channels), "float32")
    bad: list[str] = []
    for number, path in enumerate(paths):
        try:
            pixels = _decoded(path, size, channels)
        except (ValueError, OSError) as error:
            if path in named:
                raise
            bad.append(f"{str(path)!r} ({_reason(error)})")
        else:
            kept = images[number - len(bad)]
            kept[...] = pixels if whole else (pixels / 255.0 - offset) / scale
        if progress:
            progress(number + 1, len(paths))
    if bad:
        told = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        if len(bad) == len(paths):
            raise ValueError(
                "No image of the folder can be read; repair them, or name another one. "
                f"Received: {told}"
            )
        warnings.warn(
            f"{len(bad)} of {len(paths)} images cannot be read and are left out: {told}",
            stacklevel=2,
        )
    return as_dtype(images[: len(paths) - len(bad)], dtype, str(paths[0].parent))


def evenly(items: Sequence[Any], count: int | None) -> Sequence[Any]:
    """Some of the items, as far apart as possible; all where there are no more."""
    if count is None or len(items) <= count:
        return items
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


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
        within = sorted(
            path
            for path in source.rglob("*")
            # A hidden file is of the system: `._a.jpg` of macOS is no picture.
            if path.suffix.lower() in _suffixes() and not path.name.startswith(".")
        )
        paths = [path for path in within if path.is_file()]
        if not paths:
            raise ValueError(
                "The folder must hold images, files that end in .png, .jpg, .webp or as others "
                f"that Pillow reads. Received: {str(source)!r} without any"
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


@cache
def _suffixes() -> frozenset[str]:
    """Of every format that Pillow opens."""
    from PIL import Image

    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN)


def _decoded(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """The pixels of a file, 0 to 255."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # Of damaged metadata, and of sizes that are refused only when they are twice as large.
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                if image.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
                    image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
                image = image.convert("RGB" if channels == 3 else "L")
    # What the readers of single formats raise for damage is of every kind.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            "The file is no image that can be read; remove or repair it. "
            f"Received: {str(path)!r}, {_reason(error)}"
        ) from error
    fitted = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(fitted, "float32").reshape(*size, channels)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    name = type(cause).__name__
    return (
        "no image" if name == "UnidentifiedImageError" else str(cause).splitlines()[0][:80] or name
    )


def _per_channel(value: Any, channels: int) -> np.ndarray:
    array = np.asarray(value, "float32")
    if array.shape not in ((), (1,), (channels,)) or not np.isfinite(array).all():
        raise ValueError(
            f"`mean` and `std` must be one number, or one for each of {channels} channels. "
            f"Received: {value!r}"
        )
    return array
