"""Pictures for a page, as data URIs: maps of the attention in colours, and what they are of.

Imports NumPy; Matplotlib, Pillow and `ulsam_keras` inside the functions.
"""

import base64
import functools
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.tflite.quiet import without_native_logs
from converters.verify.maps import SiteMaps

COLORMAP = "viridis"
# Pixels of all maps of a page together, which are about as many bytes.
BUDGET = 1_200_000
# A map is at least so large, so that the gap beside it is small.
_SMALLEST, _GAP = 24, 1
_PICTURE = 128
_COLOURS = 255  # one of the 256 is the gap's, transparent


class Tiles:
    """The maps of one site in one scale of colours, in units of the uniform attention.

    Args:
        maps: The attention of the site in all that was run.
        budget: Pixels that all of them may take together.
    """

    def __init__(self, maps: Sequence[SiteMaps], budget: int) -> None:
        self._times = {
            (each.subject, each.runtime): np.asarray(each.attention, "float64")
            * math.prod(each.attention.shape[1:3])
            for each in maps
        }
        finite = [values[np.isfinite(values)] for values in self._times.values()]
        least = min((v.min() for v in finite if v.size), default=0.0)
        most = max((v.max() for v in finite if v.size), default=1.0)
        self.scale = _plotting().times_scale(float(least), float(most))
        count = sum(values.shape[0] * values.shape[3] for values in self._times.values())
        self._side = max(8, math.isqrt(budget // max(count, 1)))

    def of(self, subject: str, runtime: str, sample: int) -> str:
        """The groups of one sample as one picture, row by row."""
        maps = self._times[subject, runtime][sample]
        tiles = [self._tile(maps[..., group]) for group in range(maps.shape[2])]
        columns = math.ceil(math.sqrt(len(tiles)))
        rows = math.ceil(len(tiles) / columns)
        height, width = (size + _GAP for size in tiles[0].shape)
        page = np.zeros((rows * height - _GAP, columns * width - _GAP), "uint8")
        for number, tile in enumerate(tiles):
            top, left = number // columns * height, number % columns * width
            page[top : top + height - _GAP, left : left + width - _GAP] = tile
        return _png(page, _palette())

    def bar(self) -> str:
        """The scale, from its smallest to its largest value."""
        return _png(np.arange(1, _COLOURS + 1, dtype="uint8")[None], _palette())

    def ticks(self) -> list[tuple[float, str]]:
        """Where along the bar, from 0 to 1, a number stands, and the number."""
        plotting = _plotting()
        ticks = plotting.scale_ticks(self.scale)
        return [(float(self.scale(tick)), plotting.tick_label(tick)) for tick in ticks]

    def _tile(self, values: np.ndarray) -> np.ndarray:
        """Colours of one map; NaN is left out, like the gap."""
        step = math.ceil(max(values.shape) / self._side)
        if step > 1:
            values = values[: values.shape[0] // step * step, : values.shape[1] // step * step]
            blocks = values.reshape(len(values) // step, step, -1, step)
            values = blocks.mean(axis=(1, 3))
        times = max(1, _SMALLEST // max(values.shape))
        known = np.nan_to_num(values, nan=0.0, posinf=np.finfo("f8").max, neginf=0.0)
        place = np.ma.filled(self.scale(np.maximum(known, 0)), 0.0)
        colours = 1 + np.round(place * (_COLOURS - 1)).astype("uint8")
        colours[np.isnan(values)] = 0
        return colours.repeat(times, axis=0).repeat(times, axis=1)


def input_pictures(pictures: np.ndarray) -> list[str]:
    """What the model was given, one picture a sample."""
    shown = _plotting().shown_pictures(pictures, len(pictures))
    step = math.ceil(max(shown.shape[1:3]) / _PICTURE)
    return [_png(np.round(255 * each[::step, ::step]).astype("uint8")) for each in shown]


@functools.cache
def _plotting() -> Any:
    """What draws the figures, whose colours these are; Keras comes with it, where it is not yet."""
    with without_native_logs():
        from ulsam_keras import plotting
    return plotting


def _palette() -> Any:
    from matplotlib import colormaps

    colours = colormaps[COLORMAP](np.linspace(0, 1, _COLOURS))[:, :3]
    return np.concatenate([np.zeros((1, 3)), colours])


def _png(pixels: np.ndarray, palette: np.ndarray | None = None) -> str:
    from PIL import Image

    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    options: dict[str, Any] = {}
    if palette is not None:
        image = image.convert("L")
        image.putpalette(np.round(255 * palette).astype("uint8").tobytes())
        options["transparency"] = 0
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
