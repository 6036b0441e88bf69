"""Values read at coordinates.

PyTorch: Keras

- grid_sample of maps and volumes, bilinear, nearest, bicubic, every padding_mode and align_corners:
  a sum of `take`s of positions that are computed, or constants
- affine_grid: a product of matrices
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.arrange import CHANNELS_LAST
from converters.pytorch.graph.attention import multiplied
from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import Value, constant, flat, is_free, permuted, reshaped
from converters.pytorch.graph.registry import converts
from converters.pytorch.graph.resizing import far, near

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING = ("zeros", "border", "reflection")


@converts("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
def grid_sample(call: Call) -> Value:
    """Every sample's map at its own coordinates, or all at the same."""
    names = list(call.node.arguments)
    x, grid = call.value(names[0]), call.value(names[1])
    mode = _MODES[call.get("interpolation_mode", 0)]
    count = x.rank - 2
    if is_free(flat(x.dims[1:] + grid.dims[1:])):
        call.refuse("an open height or width is sampled; export it with fixed sizes")
    if x.constant:
        call.refuse("it reads a constant at coordinates that depend on the input")
    ops, sizes = call.ops, x.shape[2:]
    goal = grid.shape[1:-1]
    # Both count the same samples.
    more, before = ((),) * (count + 1), ((),) * (count + 1)
    (x, grid), _ = call.arranger.unified(
        [
            replace(x, dims=(*x.dims, *more)),
            replace(grid, dims=(grid.dims[0], *before, *grid.dims[1:])),
        ]
    )
    x = replace(x, dims=x.dims[: count + 2])
    grid = replace(grid, dims=(grid.dims[0], *grid.dims[count + 2 :]))
    x = call.ordered(x, CHANNELS_LAST[x.rank])
    channels = x.shape[1]
    shared = not any(a in flat(grid.axes) for a in grid.dims[0])
    # (…, P, count): positions of all rows as one axis; those that all samples share have no batch.
    group = tuple(flat(grid.dims[1:-1]))
    lead = () if shared else (grid.dims[0],)
    places = call.arranger.arranged(grid, (*lead, group, grid.dims[-1])).tensor
    taps = [
        _taps(call, ops.reshape(places[..., count - 1 - n], (-1,)), size, mode)
        for n, size in enumerate(sizes)
    ]
    rows = ops.reshape(x.tensor, (-1, int(np.prod(sizes)), channels))
    if not shared:
        # Rows of all samples as one axis: each sample's positions begin where its rows do.
        ones = ops.ones_like(places[..., 0], dtype="int32")
        before = ops.multiply(ops.subtract(ops.cumsum(ones, axis=0), ones), int(np.prod(sizes)))
        before = ops.reshape(before, (-1,))
        rows = ops.reshape(rows, (-1, channels))
    total: Any = None
    for combination in itertools.product(*taps):
        at: Any = None
        weight: Any = None
        for size, (position, share) in zip(sizes, combination, strict=True):
            at = position if at is None else ops.add(ops.multiply(at, size), position)
            if share is not None:
                weight = share if weight is None else ops.multiply(weight, share)
        at = at if shared else ops.add(at, before)
        part = ops.take(rows, at, axis=1 if shared else 0)
        if weight is not None:
            part = ops.multiply(part, ops.expand_dims(weight, -1))
        total = part if total is None else ops.add(total, part)
    tensor = ops.reshape(total, (-1, *goal, channels))
    return call.result(tensor, CHANNELS_LAST[x.rank])


def _taps(call: Call, place: Any, size: int, mode: str) -> list[tuple[Any, Any]]:
    """The positions along a dimension that coordinates in -1 … 1 read, and their shares."""
    ops = call.ops
    corners = bool(call.get("align_corners", False))
    padding = _PADDING[call.get("padding_mode", 0)]
    scale = (size - 1) / 2 if corners else size / 2
    at = ops.add(ops.multiply(place, float(scale)), (size - 1) / 2)
    if mode != "bicubic":
        at = _within(call, at, size, padding, corners)
    if mode == "nearest":
        return [_tap(call, ops.round(at), None, size, padding)]
    first = ops.floor(at)
    t = ops.subtract(at, first)
    if mode == "bilinear":
        shares = [ops.subtract(1.0, t), t]
        steps: Sequence[int] = (0, 1)
    else:
        shares = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
        steps = (-1, 0, 1, 2)
    reads = [ops.add(first, float(step)) for step in steps]
    if mode == "bicubic":
        reads = [_within(call, read, size, padding, corners) for read in reads]
    return [_tap(call, r, share, size, padding) for r, share in zip(reads, shares, strict=True)]


def _tap(call: Call, position: Any, share: Any, size: int, padding: str) -> tuple[Any, Any]:
    """A position within the dimension, and its share: none of it where zeros are read."""
    ops = call.ops
    inside = ops.clip(position, 0.0, float(size - 1))
    if padding == "zeros":
        known = ops.cast(ops.equal(inside, position), "float32")
        share = known if share is None else ops.multiply(share, known)
    return ops.cast(inside, "int32"), share


def _within(call: Call, at: Any, size: int, padding: str, corners: bool) -> Any:
    """Coordinates moved into the dimension, as the padding has it."""
    ops = call.ops
    if padding == "reflection":
        low = 0.0 if corners else -0.5
        span = size - 1 if corners else size
        if span == 0:
            return ops.multiply(at, 0.0)
        away = ops.abs(ops.subtract(at, low))
        turns = ops.floor(ops.multiply(away, 1.0 / span))
        rest = ops.subtract(away, ops.multiply(turns, float(span)))
        odd = ops.subtract(turns, ops.multiply(ops.floor(ops.multiply(turns, 0.5)), 2.0))
        back = ops.subtract(float(span), ops.multiply(rest, 2.0))
        at = ops.add(ops.add(rest, ops.multiply(odd, back)), low)
    if padding != "zeros":
        at = ops.clip(at, 0.0, float(size - 1))
    return at


@converts("aten.affine_grid_generator")
def affine_grid(call: Call) -> Value:
    """Where each position of a map comes from, by a matrix for each sample."""
    theta = call.value("theta")
    sizes = call.get("size")[2:]
    corners = bool(call.get("align_corners", False))
    lines = []
    for size in sizes:
        line = np.linspace(-1, 1, size) if corners else (np.arange(size) * 2 + 1) / size - 1
        lines.append(line if size > 1 or not corners else np.zeros(1))
    mesh = np.meshgrid(*lines, indexing="ij")
    base = np.stack([*mesh[::-1], np.ones(sizes)], -1).reshape(-1, len(sizes) + 1)
    product = multiplied(call, constant(base.astype("float32")), permuted(theta, (0, 2, 1)))
    goal = call.meta.hint
    found = reshaped(product, goal, [*call.free[:1], *[False] * len(sizes), False], call.batch)
    assert found is not None
    return found
