"""Pools.

PyTorch: Keras

- max_pool: `MaxPooling`; padding by "same" where that is equal, by zeros after a ReLU, else by
  the least number
- max_pool with an odd window, half of it as padding, a stride: where no zeros may be added:
  stride 1 and "same", then every n-th
- avg_pool: `AveragePooling`; where windows at the border count less, times a constant map
- adaptive_avg_pool, adaptive_max_pool to 1: `GlobalAveragePooling`, `GlobalMaxPooling`; avg_pool
  of the whole map, where it is flattened
- … to a size that divides: `AveragePooling`, `MaxPooling`
- … to any other: a matrix along each axis; the largest of slices
- max_pool3d, avg_pool3d: a pool of two dimensions over height and width, one over depth
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.pytorch.graph.arrange import CHANNELS_LAST
from converters.pytorch.graph.call import Call
from converters.pytorch.graph.convolution import is_same
from converters.pytorch.graph.layout import Value, is_free
from converters.pytorch.graph.registry import converts
from converters.pytorch.graph.resizing import mapped

_LEAST = float(np.finfo(np.float32).min)


class _Window:
    """What a pool's arguments say of its windows, along each spatial dimension."""

    def __init__(self, call: Call, x: Value, count: int, kind: str) -> None:
        self.kernel = call.ints("kernel_size", count)
        self.stride = call.ints("stride", count) if call.get("stride") else self.kernel
        self.padding = call.ints("padding", count, 0)
        self.dilation = call.ints("dilation", count, 1)
        self.sizes = x.shape[2:]
        self.open = [is_free(group) for group in x.dims[2:]]
        self.outputs = call.meta.hint[2:]
        self.spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        self.pads = [(p, p) for p in self.padding]
        # Of windows of 2 side by side "same" adds the half that ceil_mode lacks.
        self.pairs = {*self.spans, *self.stride} == {2} and not any(self.padding)
        if call.get("ceil_mode", False):
            self.pads = [self._past_the_end(call, kind, n) for n in range(count)]

    def _past_the_end(self, call: Call, kind: str, dim: int) -> tuple[int, int]:
        """The padding of a dimension for ceil_mode, which reads past the end."""
        padding, stride, span = self.padding[dim], self.stride[dim], self.spans[dim]
        if not self.open[dim] or stride == 1:
            reach = (self.outputs[dim] - 1) * stride + span
            return padding, max(padding, reach - self.sizes[dim] - padding)
        # With so much more of it the sizes that come are rounded up; what of it no window reads
        # does not matter to the largest. No window may begin past the end.
        if not self.pairs and (kind != "Max" or padding + stride - 1 >= span):
            call.refuse("ceil_mode with an open height or width; export it with fixed sizes")
        return padding, padding + stride - 1

    def same(self) -> bool:
        """Whether "same" pads so."""
        if self.pairs:
            return True
        sizes = [None if o else n for n, o in zip(self.sizes, self.open, strict=True)]
        pads = [(b, a if s == 1 else b) for (b, a), s in zip(self.pads, self.stride, strict=True)]
        if any(o is None and s > 1 for o, s in zip(sizes, self.stride, strict=True)):
            return False
        if all(map(is_same, sizes, self.pads, self.spans, self.stride)):
            return True
        # What "same" pads after may be less than what is asked for, where no window reads it.
        return all(
            is_same(n, p, k, s) and self._count(n, k, s) == o
            for n, p, k, s, o in zip(
                sizes, pads, self.spans, self.stride, self.outputs, strict=True
            )
        )

    @staticmethod
    def _count(size: int | None, span: int, stride: int) -> int:
        return -(-(size or 0) // stride)


def _spatial(call: Call) -> int:
    return int(call.node.target.split("pool")[1][0])


def _kinds(name: str, count: int) -> Any:
    import keras

    return getattr(keras.layers, f"{name}{count}D")


def pooled(
    call: Call,
    kind: str,
    tensor: Any,
    size: Sequence[int],
    strides: Sequence[int],
    mode: str,
    part: str = "",
) -> Any:
    """A pool of one or two dimensions; of three, two of two, as LiteRT has no other.

    Args:
        call: The call.
        kind: "Max" or "Average".
        tensor: The tensor, channels last.
        size: The window.
        strides: Its strides.
        mode: "valid" or "same".
        part: What it is for, beside the module's own pool.
    """

    def layer(given: Any, window: Sequence[int], steps: Sequence[int], part: str) -> Any:
        return call.layer(
            _kinds(f"{kind}Pooling", len(window)),
            given,
            part=part,
            pool_size=tuple(window),
            strides=tuple(steps),
            padding=mode,
            data_format="channels_last",
        )

    if len(size) < 3:
        return layer(tensor, size, strides, part)
    depth, *_, channels = tensor.shape[1:]
    flat = call.ops.reshape(tensor, (-1, *tensor.shape[2:]))
    flat = layer(flat, size[1:], strides[1:], part)
    rows, columns = flat.shape[1:3]
    flat = call.ops.reshape(flat, (-1, depth, rows * columns, channels))
    flat = layer(flat, (size[0], 1), (strides[0], 1), f"{part}.depth".strip("."))
    return call.ops.reshape(flat, (-1, flat.shape[1], rows, columns, channels))


@converts(
    "aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "aten.max_pool2d_with_indices",
    "aten.max_pool1d_with_indices", "aten.max_pool3d_with_indices",
)  # fmt: skip
def max_pool(call: Call) -> list[Value]:
    """The largest of each window."""
    count = _spatial(call)
    x = call.value("self")
    if call.used(1):
        call.refuse("the positions of the largest are asked for")
    window = _Window(call, x, count, "Max")
    order = CHANNELS_LAST[count + 2]
    x = call.ordered(x, order)
    if any(d > 1 for d in window.dilation):
        return [_max_of_slices(call, x, window, order)]
    tensor, strides, mode = x.tensor, window.stride, "valid"
    thin = False
    if any(p for pair in window.pads for p in pair):
        odd = all(
            k % 2 == 1 and p == k // 2 for k, p in zip(window.kernel, window.padding, strict=True)
        )
        if window.same():
            mode = "same"
        elif x.nonnegative:
            tensor = _zeros(call, tensor, window.pads)
        elif odd and all(p == (q, q) for p, q in zip(window.pads, window.padding, strict=True)):
            mode, thin = "same", True
        else:
            tensor = call.ops.pad(tensor, ((0, 0), *window.pads, (0, 0)), constant_values=_LEAST)
    tensor = pooled(call, "Max", tensor, window.kernel, (1,) * count if thin else strides, mode)
    if thin:
        tensor = pooled(call, "Max", tensor, (1,) * count, strides, "valid", "stride")
    return [call.result(tensor, order, nonnegative=x.nonnegative)]


def _zeros(call: Call, tensor: Any, pads: Sequence[tuple[int, int]]) -> Any:
    amount: Any = tuple(pads) if len(pads) > 1 else pads[0]
    where: dict[str, Any] = {"data_format": "channels_last"} if len(pads) > 1 else {}
    return call.layer(_kinds("ZeroPadding", len(pads)), tensor, part="pad", padding=amount, **where)


def _max_of_slices(call: Call, x: Value, window: _Window, order: Sequence[int]) -> Value:
    """A dilated window: the largest of shifted slices."""
    tensor = call.ops.pad(x.tensor, ((0, 0), *window.pads, (0, 0)), constant_values=_LEAST)
    result = None
    for offset in np.ndindex(*window.kernel):
        starts = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        slices = (
            slice(start, start + 1 - span or None, stride)
            for start, span, stride in zip(starts, window.spans, window.stride, strict=True)
        )
        part = tensor[(slice(None), *slices)]
        result = part if result is None else call.ops.maximum(result, part)
    return call.result(result, order, nonnegative=x.nonnegative)


@converts("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def avg_pool(call: Call) -> Value:
    """The mean of each window."""
    count = _spatial(call)
    x = call.value("self")
    window = _Window(call, x, count, "Average")
    divisor = call.get("divisor_override")
    whole = window.kernel == window.sizes and not any(map(any, window.pads))
    if whole and divisor is None and not any(window.open) and call.flattened:
        return _global(call, x, "Average")
    order = CHANNELS_LAST[count + 2]
    x = call.ordered(x, order)
    tensor, mode = x.tensor, "valid"
    counts = _divisors(window, call.get("count_include_pad", True), divisor)
    size = float(np.prod(window.kernel))
    if any(p for pair in window.pads for p in pair):
        # "same" leaves the padding out of the mean, as count_include_pad=False does.
        if window.same() and divisor is None and np.array_equal(counts, _divisors(window, False)):
            mode, counts = "same", np.full((1,), size)
        else:
            tensor = _zeros(call, tensor, window.pads)
    tensor = pooled(call, "Average", tensor, window.kernel, window.stride, mode)
    if (counts == counts.flat[0]).all():
        if counts.flat[0] != size:
            tensor = tensor * float(size / counts.flat[0])
    else:
        if any(window.open):
            call.refuse(
                "its windows count differently at an open border; export it with fixed sizes"
            )
        tensor = tensor * (size / counts)[None, ..., None].astype("float32")
    return call.result(tensor, order, nonnegative=x.nonnegative)


def _divisors(window: _Window, include_pad: bool, divisor: int | None = None) -> np.ndarray:
    """How many values each window's sum is divided by."""
    if divisor:
        return np.full((1,) * len(window.kernel), float(divisor))
    counts = np.ones((), float)
    for n, k, s, p, o in zip(
        window.sizes, window.kernel, window.stride, window.padding, window.outputs, strict=True
    ):
        start = np.arange(o) * s - p
        stop = np.minimum(start + k, n + p)
        if not include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, n)
        counts = counts[..., None] * (stop - start)
    return counts


def _global(call: Call, x: Value, kind: str) -> Value:
    """A pool of the whole map, which gives (N, C) where no more is read of it."""
    count = _spatial(call)
    order = CHANNELS_LAST[count + 2]
    x, flat = call.ordered(x, order), call.flattened
    tensor = call.layer(
        _kinds(f"Global{kind}Pooling", count),
        x.tensor,
        data_format="channels_last",
        keepdims=not flat,
    )
    if not flat:
        return call.result(tensor, order, nonnegative=x.nonnegative)
    axes = (x.axes[0], x.axes[-1])
    dims = (*x.dims[:2], *((),) * count)
    return x.with_tensor(tensor, axes=axes, dims=dims, nonnegative=x.nonnegative)


@converts(
    "aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d",
    "aten.adaptive_avg_pool3d", "aten._adaptive_avg_pool3d", "aten.adaptive_max_pool1d",
    "aten.adaptive_max_pool2d", "aten.adaptive_max_pool3d",
)  # fmt: skip
def adaptive_pool(call: Call) -> list[Value]:
    """To a given size, whatever the input's."""
    count = _spatial(call)
    largest = "max" in call.node.target
    kind = "Max" if largest else "Average"
    x = call.value("self")
    if call.used(1):
        call.refuse("the positions of the largest are asked for")
    order = CHANNELS_LAST[count + 2]
    goal = call.meta.hint[2:]
    sizes = x.shape[2:]
    if goal == (1,) * count:
        return [_global(call, x, kind)]
    if any(map(is_free, x.dims[2:])):
        call.refuse("an open height or width is pooled to a fixed size; export it with fixed sizes")
    x = call.ordered(x, order)
    if all(n % o == 0 for n, o in zip(sizes, goal, strict=True)):
        window = tuple(n // o for n, o in zip(sizes, goal, strict=True))
        tensor = x.tensor
        if window != (1,) * count:
            tensor = pooled(call, kind, tensor, window, window, "valid")
        return [call.result(tensor, order, nonnegative=x.nonnegative)]
    tensor, matrices = x.tensor, {}
    for axis, (n, o) in enumerate(zip(sizes, goal, strict=True), 1):
        bounds = [(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]
        if not largest:
            matrix = matrices[axis] = np.zeros((o, n), "float32")
            for row, (start, stop) in enumerate(bounds):
                matrix[row, start:stop] = 1 / (stop - start)
        else:
            parts = [
                call.ops.max(tensor[(slice(None),) * axis + (slice(*b),)], axis=axis, keepdims=True)
                for b in bounds
            ]
            tensor = call.ops.concatenate(parts, axis=axis)
    tensor = mapped(call, tensor, matrices)
    return [call.result(tensor, order, nonnegative=x.nonnegative)]
