"""Resizing, and what changes pixels into channels.

PyTorch: Keras

- upsample_nearest, a whole number of times: `keras.ops.image.resize`; `UpSampling2D` of open sizes
- upsample_bilinear, align_corners=False, a whole number of times:
  `UpSampling2D(interpolation="bilinear")`
- upsample_bilinear, align_corners=False, to any size: `keras.ops.image.resize`
- … align_corners=True, bicubic, linear, trilinear, antialiased: a matrix along each axis, exact
- pixel_shuffle, pixel_unshuffle, channel_shuffle: reshapes and transposes of rank 4 or less
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.pytorch.graph.arrange import CHANNELS_LAST
from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import Value, is_free, permuted, reshaped
from converters.pytorch.graph.registry import converts


def mapped(call: Call, tensor: Any, matrices: Mapping[int, np.ndarray]) -> Any:
    """A matrix (new, old) along each of some axes of a tensor.

    Each axis comes last for it: of products with a constant, GPUs have those from the right.
    """
    order = list(range(len(tensor.shape)))
    for axis, matrix in matrices.items():
        tensor, order = _turned(call, tensor, order, [*(a for a in order if a != axis), axis])
        rest = tuple(tensor.shape[1:-1])
        if len(rest) > 2:
            tensor = call.ops.reshape(tensor, (-1, int(np.prod(rest)), matrix.shape[1]))
        tensor = call.ops.matmul(tensor, np.ascontiguousarray(matrix.T, "float32"))
        if len(rest) > 2:
            tensor = call.ops.reshape(tensor, (-1, *rest, matrix.shape[0]))
    return _turned(call, tensor, order, sorted(order))[0]


def _turned(call: Call, tensor: Any, have: list[int], want: list[int]) -> tuple[Any, list[int]]:
    if have != want:
        tensor = call.ops.transpose(tensor, tuple(have.index(a) for a in want))
    return tensor, want


@converts(
    "aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten._upsample_nearest_exact2d",
    "aten.upsample_bilinear2d", "aten.upsample_linear1d", "aten.upsample_bicubic2d",
    "aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa", "aten._upsample_nearest_exact1d",
    "aten.upsample_nearest3d", "aten.upsample_trilinear3d", "aten._upsample_nearest_exact3d",
)  # fmt: skip
def upsample(call: Call) -> Value:
    """`interpolate`, of each mode."""
    import keras

    x = call.value("self" if "self" in call.node.arguments else "input")
    count = x.rank - 2
    order = CHANNELS_LAST[x.rank]
    goal, sizes = call.meta.hint[2:], x.shape[2:]
    target = call.node.target
    smooth = "_aa" in target
    x = call.ordered(x, order)
    nearest, corners = "nearest" in target, bool(call.get("align_corners", False))
    whole = all(o % n == 0 for n, o in zip(sizes, goal, strict=True))
    linear = "linear" in target and not corners and not smooth
    scales = _scales(call, sizes, goal, count)
    plain = all(abs(s * n - o) < 1e-6 * o for s, n, o in zip(scales, sizes, goal, strict=True))
    free = list(map(is_free, x.dims[2:]))
    open_ = any(free)
    declared = call.meta.shape[2:]
    if any(f and not isinstance(size, str) for f, size in zip(free, declared, strict=True)):
        call.refuse("an open height or width is resized to a fixed one; export it with fixed sizes")
    # With a factor of a little more than one, cubic is another map of the same size.
    if goal == sizes and not open_ and ("cubic" not in target or corners or plain):
        return x
    # Keras repeats for the nearest, which is five dimensions in the file.
    if whole and plain and count == 2 and (nearest and open_ or linear):
        tensor = call.layer(
            keras.layers.UpSampling2D,
            x.tensor,
            size=tuple(o // n for n, o in zip(sizes, goal, strict=True)),
            interpolation="nearest" if nearest else "bilinear",
            data_format="channels_last",
        )
        return call.result(tensor, order, nonnegative=x.nonnegative)
    if whole and plain and count == 1 and nearest and open_:
        times = goal[0] // sizes[0]
        tensor = call.layer(keras.layers.UpSampling1D, x.tensor, size=times)
        return call.result(tensor, order, nonnegative=x.nonnegative)
    if open_:
        call.refuse(
            "an open height or width is resized, and not a whole number of times; export it with "
            "fixed sizes"
        )
    if plain and count == 2 and (linear or nearest and whole):
        tensor = call.ops.image_resize(
            x.tensor,
            goal,
            interpolation="nearest" if nearest else "bilinear",
            data_format="channels_last",
        )
        return call.result(tensor, order, nonnegative=x.nonnegative)
    tensor, matrices = x.tensor, {}
    for axis, (n, o, s) in enumerate(zip(sizes, goal, scales, strict=True), 1):
        if n == o and s == 1:
            continue
        if nearest:
            at = _nearest(n, o, s, 0.5 if "exact" in target else 0.0)
            tensor = call.ops.take(tensor, at, axis)
        else:
            make = _smooth_matrix if smooth else _matrix
            matrices[axis] = make(n, o, s, corners, "cubic" in target)
    tensor = mapped(call, tensor, matrices)
    return call.result(tensor, order, nonnegative=x.nonnegative and "cubic" not in target)


def _scales(call: Call, sizes: tuple[int, ...], goal: tuple[int, ...], count: int) -> list[float]:
    """How many times as large, as PyTorch computes it: from the factors where they are given."""
    given = call.get("scale_factors")
    if not given:
        names = ("scales_d", "scales_h", "scales_w")[3 - count :] if count > 1 else ("scales",)
        given = [call.get(name) for name in names]
    return [float(f) if f else o / n for f, n, o in zip(given, sizes, goal, strict=True)]


def _nearest(old: int, new: int, scale: float, ahead: float) -> np.ndarray:
    """Which old position each new one is, in single precision, as PyTorch rounds."""
    given = scale != new / old
    step = np.float32(1 / scale) if given else np.float32(old) / np.float32(new)
    more = np.float32(ahead)
    at = np.floor((np.arange(new, dtype="float32") + more) * step - more + more)
    return np.minimum(at.astype("int32"), old - 1)


def _matrix(old: int, new: int, scale: float, corners: bool, cubic: bool) -> np.ndarray:
    """What each new position takes of each old one."""
    if corners:
        at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
    else:
        at = (np.arange(new) + 0.5) / scale - 0.5
        at = at if cubic else np.maximum(at, 0)
    first = np.floor(at).astype(int)
    t = at - first
    steps: tuple[int, ...]
    if cubic:
        weights = [_cubic(t + 1), _cubic(t), _cubic(1 - t), _cubic(2 - t)]
        steps = (-1, 0, 1, 2)
    else:
        weights, steps = [1 - t, t], (0, 1)
    matrix = np.zeros((new, old))
    for step, weight in zip(steps, weights, strict=True):
        np.add.at(matrix, (np.arange(new), np.clip(first + step, 0, old - 1)), weight)
    return matrix.astype("float32")


def _smooth_matrix(old: int, new: int, scale: float, corners: bool, cubic: bool) -> np.ndarray:
    """As `_matrix`, with a kernel as wide as what becomes one position, and a = -0.5."""
    step = ((old - 1) / (new - 1) if new > 1 else 0.0) if corners else 1 / scale
    wide = max(step, 1.0)
    distance = np.abs(np.arange(old) + 0.5 - (np.arange(new)[:, None] + 0.5) * step) / wide
    matrix = np.where(distance < 2, _cubic(distance, -0.5), 0) if cubic else 1 - distance
    matrix = matrix if cubic else np.maximum(matrix, 0)
    return (matrix / matrix.sum(1, keepdims=True)).astype("float32")


def _cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys's kernel."""
    return np.where(x <= 1, near(x, a), far(x, a))


def near(x: Any, a: float = -0.75) -> Any:
    """Keys's kernel up to a distance of one."""
    return (x * (a + 2) - (a + 3)) * x * x + 1


def far(x: Any, a: float = -0.75) -> Any:
    """Keys's kernel from a distance of one to two."""
    return ((x * a - 5 * a) * x + 8 * a) * x - 4 * a


def _regrouped(
    call: Call, x: Value, apart: list[int], order: tuple[int, ...], goal: tuple[int, ...]
) -> Value:
    """A reshape, a permute and a reshape, as modules write them: only how the value is seen."""
    free: list[bool | None] = [None] * len(apart)
    value = reshaped(x, apart, free, call.batch)
    assert value is not None
    value = reshaped(permuted(value, order), goal, [None] * len(goal), call.batch)
    assert value is not None
    return value


@converts("aten.pixel_shuffle")
def pixel_shuffle(call: Call) -> Value:
    """Channels become pixels."""
    x, r = call.value("self"), call.get("upscale_factor")
    *lead, c, h, w = x.shape
    apart = [*lead, c // r**2, r, r, h, w]
    return _regrouped(call, x, apart, _behind(lead, (0, 3, 1, 4, 2)), call.meta.hint)


@converts("aten.pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Value:
    """Pixels become channels."""
    x, r = call.value("self"), call.get("downscale_factor")
    *lead, c, h, w = x.shape
    apart = [*lead, c, h // r, r, w // r, r]
    return _regrouped(call, x, apart, _behind(lead, (0, 2, 4, 1, 3)), call.meta.hint)


def _behind(lead: list[int], order: tuple[int, ...]) -> tuple[int, ...]:
    """An order of dimensions after others that stay."""
    return (*range(len(lead)), *(len(lead) + d for d in order))


@converts("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(call: Call) -> Value:
    """Groups of channels are interleaved."""
    x, groups = call.value("self"), call.get("groups")
    n, c, *rest = x.shape
    apart = [n, groups, c // groups, *rest]
    order = (0, 2, 1, *range(3, len(apart)))
    return _regrouped(call, x, apart, order, call.meta.hint)
