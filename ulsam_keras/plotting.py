"""`plot_attention`: the attention of every site and group over the images, as a figure.

Imports Keras (public names only), NumPy, `ulsam_keras.attention` and `ulsam_keras.batches`;
Matplotlib, the extra `viz`, inside the functions.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from ulsam_keras.attention import attention_maps
from ulsam_keras.batches import batches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Scale = Literal["site", "all"]
# Lengths in inches, text in points.
_MARGIN, _GAP, _BAR, _BAR_TEXT = 0.05, 0.05, 0.08, 0.32
_BAR_ZONE = 0.1 + _BAR + _BAR_TEXT
_HEADER, _LABEL, _BETWEEN = 0.19, 0.15, 0.12
_SMALLEST, _LARGEST = 0.48, 1.5
_TEXT, _SMALL_TEXT = 8, 7
_DPI = 200
# The picture is grey and bright beneath the map, so that the map's colours tell its values.
_OPACITY, _PICTURE_BLACK = 0.65, -1
# The shortest scale, about the uniform attention: a flat map is neither dark nor bright. And the
# longest, from the smallest to the largest value: zeros would have no end.
_SHORTEST, _DEEPEST = (0.5, 2.0), 1000
# So many channels are those of a picture.
_FEW = (1, 3)


def plot_attention(
    model: keras.Model,
    images: Any,
    *,
    sites: Sequence[str] | None = None,
    pictures: Any = None,
    width: float = 7.0,
    scale: Scale = "site",
    colormap: str = "viridis",
    batch_size: int = 32,
) -> "Figure":
    """Draws the attention of every ULSAM of a model over images.

    There is a block for each site: for each image a row with the image and a panel for each group,
    in several lines where they are many. A map is shown in units of the uniform attention, `a * H *
    W`: 1 is that of a map that tells no position from another, 4 four times as much. The colours
    follow its logarithm. Groups are numbered as in the last axis of `attention_maps`.

    Args:
        model: A Keras 3 model of any kind.
        images: What the model's `predict` takes, as arrays.
        sites: Names of the sites to draw, as `attention_maps` has them, in this order; `None` for
            all.
        pictures: What to draw the maps over, in place of the images: `(N, H, W, C)`, `(N, C, H, W)`
            or `(N, H, W)` in any range. `None` takes the images, of several inputs the first of
            rank 4. Three channels are red, green and blue, of any other number the mean is shown
            in grey; every picture from its smallest value to its largest.
        width: The largest width of the figure in inches: 7 is a page, 3.4 a column of two. The text
            has 7 and 8 points at any width.
        scale: Whether the colours span the values of each `"site"`, or of `"all"`.
        colormap: A colour map of Matplotlib's. Defaults to `"viridis"`, which is perceptually
            uniform and fit for the colour-blind.
        batch_size: Images computed at a time. Defaults to 32.

    Returns:
        A Matplotlib figure, which no global state knows of: `figure.savefig("attention.pdf")`.

    Raises:
        ImportError: If Matplotlib is missing.
        ValueError: If a site is unknown, or the pictures are not as many as the images.

    Example:

    >>> plot_attention(model, images[:2], sites=["ulsam1"], width=3.4).savefig("attention.pdf")
    """
    need_matplotlib()
    kept = list(batches(images, batch_size))
    maps = attention_maps(model, ((batch,) for batch in kept))
    if pictures is None:
        inputs = map(np.concatenate, zip(*map(keras.tree.flatten, kept), strict=True))
        pictures = next((array for array in inputs if array.ndim == 4), None)
    return plot_maps(maps, pictures, sites=sites, width=width, scale=scale, colormap=colormap)


def plot_maps(
    maps: Mapping[str, np.ndarray],
    pictures: Any = None,
    *,
    sites: Sequence[str] | None = None,
    width: float = 7.0,
    scale: Scale = "site",
    colormap: str = "viridis",
) -> "Figure":
    """Draws attention that is there already, as `plot_attention` does.

    Args:
        maps: The attention of each site, `(N, H, W, g)`.
        pictures: As in `plot_attention`; `None` draws the maps alone.
        sites: Likewise.
        width: Likewise.
        scale: Likewise.
        colormap: Likewise.

    Raises:
        ImportError: If Matplotlib is missing.
        ValueError: If a site is unknown, or the pictures are not as many as the maps.
    """
    need_matplotlib()
    if scale not in ("site", "all"):
        raise ValueError(f"`scale` must be 'site' or 'all'. Received: scale={scale!r}")
    times = {
        name: np.asarray(maps[name], "float64") * math.prod(maps[name].shape[1:3])
        for name in _chosen(maps, sites)
    }
    count = len(next(iter(times.values())))
    shown = None if pictures is None else shown_pictures(pictures, count)
    least, most = ([end(value) for value in times.values()] for end in (np.min, np.max))
    if scale == "all":
        least, most = [min(least)] * len(times), [max(most)] * len(times)
    page = _Page(times, shown, width)
    for (name, value), low, high in zip(times.items(), least, most, strict=True):
        page.add_block(name, value, times_scale(low, high), colormap)
    return page.figure


class _Page:
    """A figure that is filled from its top, in inches."""

    def __init__(
        self,
        times: Mapping[str, np.ndarray],
        shown: np.ndarray | None,
        width: float,
    ) -> None:
        from matplotlib.figure import Figure

        self.shown, self.top = shown, _MARGIN
        room = width - 2 * _MARGIN - _BAR_ZONE
        beside = 0 if shown is None else 1
        most = max(1, int((room + _GAP) / (_SMALLEST + _GAP)) - beside)
        self.lines = {name: math.ceil(value.shape[3] / most) for name, value in times.items()}
        columns = {name: math.ceil(times[name].shape[3] / n) for name, n in self.lines.items()}
        self.across = max(columns.values()) + beside
        # Height over width, of the pictures or of the maps.
        sizes = [value.shape[1:3] for value in (times.values() if shown is None else [shown])]
        tall = max(height / width for height, width in sizes)
        fitting = (room - (self.across - 1) * _GAP) / self.across
        self.panel = min(fitting, _LARGEST, _LARGEST / tall)
        self.columns, self.left = columns, beside * (self.panel + _GAP) + _MARGIN
        heights = [self._height(name, value) for name, value in times.items()]
        self.width = 2 * _MARGIN + self.across * (self.panel + _GAP) - _GAP + _BAR_ZONE
        self.height = 2 * _MARGIN + sum(heights) + _BETWEEN * (len(heights) - 1)
        self.figure = Figure(figsize=(self.width, self.height), dpi=_DPI)

    def _panel_height(self, value: np.ndarray) -> float:
        height, width = (value if self.shown is None else self.shown).shape[1:3]
        return self.panel * height / width

    def _labelled(self, name: str, number: int) -> bool:
        """Whether the groups of an image are labelled: of the first, and where lines are many."""
        return number == 0 or self.lines[name] > 1

    def _height(self, name: str, value: np.ndarray) -> float:
        labels = sum(self._labelled(name, number) for number in range(len(value)))
        lines = self.lines[name]
        return (
            _HEADER
            + lines * (labels * _LABEL + len(value) * (self._panel_height(value) + _GAP))
            - _GAP
        )

    def add_block(self, name: str, value: np.ndarray, norm: Any, colormap: str) -> None:
        """Draws one site."""
        count, rows, columns, groups = value.shape
        self._text(_MARGIN, f"{name}  ({rows} × {columns})", _TEXT)
        self._text(self.width - _MARGIN, "times uniform", _SMALL_TEXT, ha="right")
        self.top += _HEADER
        start, height = self.top, self._panel_height(value)
        for number in range(count):
            for line in range(self.lines[name]):
                self.top += _LABEL * self._labelled(name, number)
                if line == 0 and self.shown is not None:
                    picture = self._axes(f"{name} {number}", _MARGIN, height)
                    picture.imshow(**_colours(self.shown[number]))
                per_line = self.columns[name]
                for column, group in enumerate(range(groups)[line * per_line :][:per_line]):
                    left = self.left + column * (self.panel + _GAP)
                    axes = self._axes(f"{name} {number} {group}", left, height)
                    image = self._overlay(axes, number, value[number, :, :, group], norm, colormap)
                    if self._labelled(name, number):
                        axes.set_title(f"group {group}", fontsize=_SMALL_TEXT, pad=2)
                self.top += height + _GAP
        top = start + _LABEL
        bar_height = min(self.top - _GAP - top, _LARGEST)
        left = self.width - _MARGIN - _BAR - _BAR_TEXT
        self.top, below = top, self.top - _GAP + _BETWEEN
        bar = self._axes(f"{name} bar", left, bar_height, _BAR)
        self.top = below
        lower = "min" if value.min() < norm.vmin else "neither"
        colours = self.figure.colorbar(image, cax=bar, ticks=scale_ticks(norm), extend=lower)
        colours.ax.set_yticklabels([tick_label(tick) for tick in colours.get_ticks()])
        colours.minorticks_off()
        colours.outline.set_linewidth(0.5)
        bar.tick_params(labelsize=_SMALL_TEXT, length=2, width=0.5, pad=2)

    def _overlay(
        self, axes: "Axes", number: int, values: np.ndarray, norm: Any, colormap: str
    ) -> "AxesImage":
        rows, columns = values.shape if self.shown is None else self.shown.shape[1:3]
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        if self.shown is not None:
            grey = self.shown[number].mean(axis=-1)
            axes.imshow(grey, cmap="gray", vmin=_PICTURE_BLACK, vmax=1, label="picture")
        return axes.imshow(
            values,
            cmap=colormap,
            norm=norm,
            alpha=None if self.shown is None else _OPACITY,
            extent=extent,
            interpolation="nearest",
            label="times uniform",
        )

    def _axes(self, label: str, left: float, height: float, width: float | None = None) -> "Axes":
        place = (
            left / self.width,
            1 - (self.top + height) / self.height,
            (width or self.panel) / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(place, label=label)
        if width is None:
            axes.set_axis_off()
        return axes

    def _text(self, left: float, text: str, size: float, **options: Any) -> None:
        place = left / self.width, 1 - (self.top + _HEADER / 2) / self.height
        self.figure.text(*place, text, fontsize=size, va="center", **options)


def need_matplotlib() -> None:
    """Raises an ImportError that says which extra has Matplotlib, if it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "plot_attention needs matplotlib, which is not installed; install it with "
            f'pip install "ulsam-keras[viz]". Received: {error}'
        ) from error


def _chosen(maps: Mapping[str, np.ndarray], sites: Sequence[str] | None) -> list[str]:
    names = list(maps) if sites is None else [sites] if isinstance(sites, str) else list(sites)
    unknown = [name for name in names if name not in maps]
    if unknown or not names:
        raise ValueError(
            f"`sites` must be one or more of {', '.join(map(repr, maps))}. "
            f"Received: {', '.join(map(repr, unknown)) or 'none'}"
        )
    return names


def shown_pictures(pictures: Any, count: int) -> np.ndarray:
    """Pictures as `(N, H, W, 3)` or, grey, `(N, H, W, 1)`, each from 0 to 1."""
    array = keras.ops.convert_to_numpy(pictures).astype("float64")
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or len(array) != count:
        raise ValueError(
            "`pictures` must be as many as the images, (N, H, W, C). "
            f"Received: pictures of shape {array.shape}, {count} images"
        )
    second = keras.config.image_data_format() == "channels_first"
    if (array.shape[1] in _FEW) != (array.shape[3] in _FEW):
        second = array.shape[1] in _FEW
    array = np.moveaxis(array, 1, 3) if second else array
    array = array if array.shape[3] == 3 else array.mean(axis=3, keepdims=True)
    least, most = (end(array, axis=(1, 2, 3), keepdims=True) for end in (np.min, np.max))
    return np.divide(array - least, most - least, out=np.full_like(array, 0.5), where=most > least)


def _colours(picture: np.ndarray) -> dict[str, Any]:
    if picture.shape[2] == 3:
        return {"X": picture}
    return {"X": picture[..., 0], "cmap": "gray", "vmin": 0, "vmax": 1}


def times_scale(least: float, most: float) -> Any:
    """A logarithmic scale: what is in units of something is compared by its ratio to it."""
    from matplotlib.colors import LogNorm

    low, high = _SHORTEST
    most = max(most, high)
    return LogNorm(min(max(least, most / _DEEPEST), low), most, clip=True)


def scale_ticks(norm: Any) -> list[float]:
    """Powers of two, the uniform attention among them, and five or so."""
    first, last = math.ceil(math.log2(norm.vmin)), math.floor(math.log2(norm.vmax))
    step = math.ceil((last - first) / 5)
    return [2.0**power for power in range(first, last + 1) if power % step == 0]


def tick_label(tick: float) -> str:
    """A power of two as a number or a fraction."""
    return f"{tick:.0f}" if tick >= 1 else f"1/{1 / tick:.0f}"
