"""Attention maps of several models side by side, as a picture.

Imports Matplotlib and NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def side_by_side(
    path: Path,
    image: np.ndarray,
    models: Mapping[str, Mapping[str, np.ndarray]],
    groups: Mapping[str, int],
    title: str,
) -> None:
    """Writes a PNG: a row for each site, a column for each model, one colour scale in each row.

    Args:
        path: The PNG.
        image: What the models looked at, `(H, W, C)` in [0, 1].
        models: For each model, by the name that its column gets, the attention on that image by
            site, `(H, W, g)`.
        groups: For each site, by name, the group that is shown.
        title: What stands above.
    """
    columns = len(models)
    # Not pyplot, which keeps figures and picks a window system.
    figure = Figure(figsize=(2.0 + 1.7 * columns, 0.8 + 1.75 * len(groups)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(
        len(groups), columns + 1, squeeze=False, width_ratios=[1] + [1] * columns
    )
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes[1:, 0]:
        axis.set_axis_off()
    axes[0, 0].imshow(image.mean(axis=2), cmap="gray", vmin=image.min(), vmax=image.max())
    axes[0, 0].set_title("image", fontsize=9)
    for row, (site, group) in enumerate(groups.items()):
        maps = [attention[site][..., group] for attention in models.values()]
        height, width = maps[0].shape
        for axis, name, values in zip(axes[row, 1:], models, maps, strict=True):
            shown = axis.imshow(values, cmap="viridis", vmin=0, vmax=np.max(maps))
            if row == 0:
                axis.set_title(name, fontsize=9)
        axes[row, 1].set_ylabel(f"{site}, group {group + 1}\n{height} x {width}", fontsize=9)
        bar = figure.colorbar(shown, ax=axes[row, 1:].tolist(), shrink=0.9, pad=0.01)
        bar.ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=100)
