"""Pictures of the attention: read in the very file of a model, drawn over the images.

Imports NumPy, `data`, `extras`, `start`, `tflite`, `verify`, `whole_file`; `ulsam_keras` inside.
"""

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from converters.data.channels import implausible_scaling
from converters.data.images import image_files, image_shape, load_images
from converters.extras import require
from converters.start import start_tensorflow
from converters.tflite.quiet import without_native_logs
from converters.tflite.sites import site_names
from converters.verify.compare import load_side
from converters.verify.samples import DEFAULT_SIZE, load_samples
from converters.verify.sides import Arrays, Block, LeftOutError, Model, NotRunError
from converters.verify.targets import Runner, Target
from converters.whole_file import check_path, write_whole

SUFFIXES = (".png", ".svg", ".pdf")
# Of a folder or an .npz file, which may hold thousands.
FEW = 4


@dataclass(frozen=True)
class Picture:
    """What is drawn, and how.

    Attributes:
        model: A `.keras` or `.tflite` file, or `module:function`.
        images: Image files and folders of them, or one `.npz` file of inputs.
        output: The file that is written, its format told by its suffix, one of `SUFFIXES`.
        image_mean: What is taken off the pixels, scaled to 0 to 1, per channel or one.
        image_std: What they are then divided by, likewise.
        sites: Names of the sites to draw; `None` for all.
        samples: How many images at most; `None` for all files that are named, and `FEW` of what a
            folder or an `.npz` file holds.
        input_size: Height and width where the model leaves them open.
        width: The figure's largest width in inches.
        scale: Whether the colours span the values of each `"site"`, or of `"all"`.
    """

    model: str
    images: tuple[str, ...]
    output: str
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    sites: tuple[str, ...] | None = None
    samples: int | None = None
    input_size: tuple[int, int] | None = None
    width: float = 7.0
    scale: Literal["site", "all"] = "site"


def draw_attention(picture: Picture) -> dict[str, np.ndarray]:
    """Writes a picture of the attention of a model over images.

    Returns:
        The attention that is drawn, `(N, H, W, g)`, by site.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the model has no ULSAM, or does not take the images.
        ImportError: If Matplotlib is missing.
    """
    check_path(picture.output, "picture", SUFFIXES)
    files = image_files(picture.images)
    start_tensorflow()
    require("Drawing the attention", "matplotlib")
    from ulsam_keras.plotting import plot_maps

    side = load_side(picture.model, Runner())
    if not isinstance(side, Model):
        raise ValueError(
            f"The attention is of a model, a .keras or .tflite file. Received: {picture.model!r}"
        )
    arrays, pictures = _samples(picture, files, side)
    maps = _maps(side, arrays)
    figure = plot_maps(
        maps, pictures, sites=picture.sites, width=picture.width, scale=picture.scale
    )
    content = io.BytesIO()
    figure.savefig(content, format=Path(picture.output).suffix[1:].lower())
    write_whole(picture.output, content.getvalue())
    return {name: maps[name] for name in picture.sites or maps}


def _samples(
    picture: Picture, files: Sequence[Path], side: Model
) -> tuple[Arrays, np.ndarray | None]:
    """What the model is given, and what is drawn beneath its maps."""
    scaled = picture.image_mean is not None or picture.image_std is not None
    if any(path.suffix.lower() == ".npz" for path in files):
        if len(files) > 1 or scaled:
            raise ValueError(
                "An .npz file is given alone, with its numbers as the model takes them, without "
                f"`image_mean` and `image_std`. Received: {', '.join(map(str, files))}"
            )
        stored = load_samples(files[0]).fitted(side)
        for note in stored.notes:
            warnings.warn(note, stacklevel=2)
        arrays = stored.first(picture.samples or FEW)
        return arrays, next((a for a in arrays if a.ndim == 4), None)
    shapes = {name: tuple(size or 0 for size in shape) for name, shape in side.inputs.items()}
    _, *sizes, channels = image_shape(shapes)
    asked = picture.input_size or DEFAULT_SIZE
    height, width = (have or want for have, want in zip(sizes, asked, strict=True))
    mean, std = picture.image_mean or (0.0,), picture.image_std or (1.0,)
    if why := implausible_scaling(mean, std):
        raise ValueError(
            f"{why[0].upper()}{why[1:]}: give `image_mean` and `image_std` for pixels of 0 to 1. "
            f"Received: image_mean={mean}, image_std={std}"
        )
    [dtype] = side.dtypes.values()
    folders = any(os.path.isdir(path) for path in picture.images)
    with without_native_logs():  # of what is no image
        images = load_images(
            files[: picture.samples or (FEW if folders else None)],
            (height, width),
            channels=channels,
            mean=mean,
            std=std,
            dtype=dtype,
        )
    return (images,), images * np.array(std) + np.array(mean)


def _maps(side: Model, arrays: Arrays) -> dict[str, np.ndarray]:
    try:
        blocks = side.blocks(arrays, Target("XNNPACK", "cpu"))
    except LeftOutError as reason:
        raise ValueError(f"There is no attention to draw. Received: {reason}") from None
    except NotRunError as problem:
        raise ValueError(
            f"The model cannot be run. Received: {side.name!r}, {problem}"
        ) from problem
    if not blocks:
        raise ValueError(
            "The model must have a ULSAM whose map has more than one position. "
            f"Received: {side.name!r}, which has none"
        )
    return dict(zip(_names(blocks), (block.attention for block in blocks), strict=True))


def _names(blocks: Sequence[Block]) -> list[str]:
    sites = [block.site for block in blocks if block.site is not None]
    return site_names(sites) if sites else [block.name for block in blocks]
