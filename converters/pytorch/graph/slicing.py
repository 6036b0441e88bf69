"""Parts of values, and values put together.

PyTorch: Keras

- slice, select, narrow, index_select, index by constants: slices; `take` where positions are not
  a range, of several dimensions as one where they are in pairs, or of a mask
- chunk, split, unbind, tensor_split, hsplit: `keras.ops.split`; slices of an axis that holds more
- cat, stack: `Concatenate`
- flip, roll: `flip`; a concatenation of two slices
- constant_pad_nd, pad, reflection_pad, replication_pad: `ZeroPadding2D`, `Cropping2D`, `pad`;
  copies of the border
- unfold, im2col; fold, col2im: shifted slices, joined or summed
- diagonal, diag, diag_embed, trace: a product with the identity, and a sum
- fill_diagonal of a matrix: `where`
- slice_scatter, select_scatter, copy_ to a slice: a concatenation
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.arrange import CHANNELS_LAST, too_many
from converters.pytorch.graph.call import Call, Number
from converters.pytorch.graph.layout import (
    Atom,
    BatchError,
    Group,
    Groups,
    Value,
    constant,
    extent,
    flat,
    is_free,
    permuted,
    reshaped,
    squeezed,
    unsqueezed,
    with_axis,
)
from converters.pytorch.graph.registry import converts


def sliced(
    call: Call, x: Value, dim: int, start: int | None, stop: int | None, step: int = 1
) -> Value:
    """`x[..., start:stop:step, ...]` of a dimension; below 0 they count from its end."""
    group, size = x.dims[dim], x.shape[dim]
    if is_free(group) and size > 1:
        return _sliced_open(call, x, dim, start, stop, step)
    start, stop, step = slice(start, stop, step).indices(size)
    count = max(0, -(-(stop - start) // step))
    if (start, step) == (0, 1) and stop >= size:
        return x
    if not any(a in flat(x.axes) for a in group):
        atom = (Atom(count),) if count != 1 else ()
        return replace(x, dims=(*x.dims[:dim], atom, *x.dims[dim + 1 :]))
    within = _outermost(x, dim)
    if within is not None and step == 1 and not x.constant:
        axis, inner = within
        tensor = _cut(x.tensor, axis, start * inner, stop * inner, 1)
        new = (Atom(count),) if count != 1 else ()
        rest = x.axes[axis][len(group) :]
        axes = (*x.axes[:axis], (*new, *rest), *x.axes[axis + 1 :])
        dims = (*x.dims[:dim], new, *x.dims[dim + 1 :])
        return replace(x, tensor=tensor, axes=axes, dims=dims)
    x, axis = call.isolated(x, dim)
    tensor = _cut(x.tensor, axis, start, stop, step)
    return replace(with_axis(x, dim, axis, tensor, count), nonnegative=x.nonnegative)


def _sliced_open(
    call: Call, x: Value, dim: int, start: int | None, stop: int | None, step: int
) -> Value:
    """A slice of a dimension whose size is open: its ends stay counted as they are."""
    size = x.shape[dim]
    first, last, _ = slice(start, stop, step).indices(size)
    start, stop = start or None, None if stop is not None and stop >= _NO_END else stop
    batch = dim == 0 and call.arranger.batch_in_sizes and last - first == call.batch == size
    if step == 1 and (batch or start is stop is None):
        return x
    if first >= last:
        raise BatchError("it takes a part of a dimension that is open")
    x, axis = call.isolated(x, dim)
    tensor, count = _cut(x.tensor, axis, start, stop, step), -(-(last - first) // step)
    return with_axis(x, dim, axis, tensor, count, tensor.shape[axis] is None)


# PyTorch writes the largest of 64 bits for an end that is not said.
_NO_END = 2**31 - 1


def _cut(tensor: Any, axis: int, start: int | None, stop: int | None, step: int = 1) -> Any:
    return tensor[(slice(None),) * axis + (slice(start, stop, step),)]


def _outermost(x: Value, dim: int) -> tuple[int, int] | None:
    """The axis that a dimension is the outer part of, and the size of the rest."""
    group = x.dims[dim]
    for axis, atoms in enumerate(x.axes):
        if len(atoms) > len(group) > 0 and atoms[: len(group)] == group:
            rest = atoms[len(group) :]
            return (axis, extent(rest)) if not is_free(rest) else None
    return None


def parts(call: Call, x: Value, dim: int, sizes: Sequence[int]) -> list[Value]:
    """A value cut along a dimension."""
    if len(sizes) == 1:
        return [x]
    bounds = np.cumsum([0, *sizes]).tolist()
    group = x.dims[dim]
    if is_free(group):
        raise BatchError("it cuts a dimension that is open")
    if group in x.axes and not x.constant and group:
        axis = x.axes.index(group)
        tensors = call.ops.split(x.tensor, bounds[1:-1], axis=axis)
        return [
            replace(with_axis(x, dim, axis, t, size), nonnegative=x.nonnegative)
            for t, size in zip(tensors, sizes, strict=True)
        ]
    return [
        sliced(call, x, dim, start, stop)
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]


@converts("aten.slice")
def slice_(call: Call) -> Value:
    """`x[start:end:step]` along one dimension."""
    x = call.value("self")
    dim = x.dim(call.get("dim", 0))
    start, stop, step = call.get("start"), call.get("end"), call.get("step", 1)
    first, last, _ = bounds(call, x.shape[dim])
    starts, ends = (isinstance(n := call.named(e), Number) and n.free for e in ("start", "end"))
    whole = step == 1 and (first, last) == (0, x.shape[dim])
    if not (starts or ends):
        return sliced(call, x, dim, start, stop, step)
    if ends and not starts and is_free(x.dims[dim]) and last == x.shape[dim]:
        return sliced(call, x, dim, start, None, step)
    if not starts and not is_free(x.dims[dim]) and step == 1:
        places = call.positions(last - first)
        if places is not None:
            if first:
                places = places.with_tensor(call.ops.add(places.tensor, np.int32(first)))
            return _read(call, x, dim, places)
    if whole:
        return x
    return call.refuse(
        "it cuts at a place that depends on a size that is open; count from the end, as in "
        "x[:, :-1], or export it with a fixed size"
    )


def bounds(call: Call, size: int) -> tuple[int, int, int]:
    """The bounds of a slice, from 0 on."""
    return slice(call.get("start"), call.get("end"), call.get("step", 1)).indices(size)


@converts("aten.narrow")
def narrow(call: Call) -> Value:
    """A range of a dimension."""
    x = call.value("self")
    start = call.fixed("start")
    stop = start + call.fixed("length")
    return sliced(call, x, x.dim(call.get("dim")), start, stop if start >= 0 else stop or None)


@converts("aten.select")
def select(call: Call) -> Value:
    """One position of a dimension, which is dropped."""
    x = call.value("self")
    dim = x.dim(call.get("dim", 0))
    index = call.fixed("index")
    if is_free(x.dims[dim]):
        x, axis = call.isolated(x, dim)
        tensor = x.tensor[(slice(None),) * axis + (index,)]
        part = replace(x, tensor=tensor, axes=(*x.axes[:axis], *x.axes[axis + 1 :]))
    else:
        part = sliced(call, x, dim, index, index + 1 or None)
    return replace(part, dims=(*part.dims[:dim], *part.dims[dim + 1 :]))


@converts("aten.unbind")
def unbind(call: Call) -> list[Value]:
    """Every position of a dimension by itself."""
    x = call.value("self")
    dim = x.dim(call.get("dim", 0))
    if is_free(x.dims[dim]):
        raise BatchError("it takes every sample apart")
    pieces = parts(call, x, dim, [1] * x.shape[dim])
    return [replace(p, dims=(*p.dims[:dim], *p.dims[dim + 1 :])) for p in pieces]


@converts(
    "aten.chunk", "aten.split", "aten.split_with_sizes", "aten.tensor_split",
    "aten.unsafe_chunk", "aten.unsafe_split", "aten.split_copy", "aten.split_with_sizes_copy",
    "aten.unsafe_split_with_sizes", "aten.hsplit", "aten.vsplit", "aten.dsplit",
)  # fmt: skip
def split(call: Call) -> list[Value]:
    """Several ranges of a dimension."""
    x = call.value("self")
    named = {"hsplit": min(1, x.rank - 1), "dsplit": 2}.get(call.node.target.split(".")[1], 0)
    dim = x.dim(call.get("dim", named))
    known = None not in call.node.outputs
    sizes = [m.hint[dim] for m in call.metas] if known else _sizes(call, x.shape[dim])
    return parts(call, x, dim, sizes)


def _sizes(call: Call, size: int) -> list[int]:
    given = call.get("split_sizes", call.get("split_size"))
    if isinstance(given, list):
        return given
    if call.get("chunks") is not None:
        given = -(-size // call.get("chunks"))
    if given is None:
        call.refuse("not all of its parts are used")
    return [min(given, size - start) for start in range(0, size, given)]


@converts("aten.index_select")
def index_select(call: Call) -> Value:
    """Positions of a dimension, given by a constant."""
    x, index = call.value("self"), call.value("index")
    return taken(call, x, x.dim(call.get("dim")), index)


def taken(call: Call, x: Value, dim: int, index: Value) -> Value:
    """Positions of a dimension, given by a list of them."""
    if not index.constant:
        return looked_up(call, x, dim, index)
    at = call.arranger.array(index)
    if at.dtype == bool:
        at = np.flatnonzero(at)
    if at.ndim != 1:
        call.refuse("it takes positions by an index of several dimensions")
    if is_free(x.dims[dim]) and (at < 0).any():
        call.refuse(
            "positions from the end of a dimension that is open; use slices, as in x[:, -2:]"
        )
    at = np.where(at < 0, at + x.shape[dim], at)
    step = int(at[1] - at[0]) if len(at) > 1 else 1
    if step > 0 and (np.diff(at) == step).all() and len(at):
        return sliced(call, x, dim, int(at[0]), int(at[-1]) + 1, step)
    x, axis = call.isolated(x, dim)
    tensor = call.ops.take(x.tensor, at.astype("int32"), axis=axis)
    return with_axis(x, dim, axis, tensor, len(at))


def looked_up(call: Call, x: Value, dim: int, index: Value) -> Value:
    """What stands at positions that are computed: of all samples, of a table, or in all of them."""
    if index.dtype == "bool":
        call.refuse("how much it takes depends on the input")
    rows = is_free(x.dims[dim])
    # Positions in all samples as one are what they say where the batch is no number in them.
    if rows and call.arranger.batch_in_sizes:
        raise BatchError("it takes samples of the batch")
    if not rows and not call.arranger.fixed(x) and not call.arranger.fixed(index):
        call.refuse("all samples take the positions of all; use gather")
    return _read(call, x, dim, index)


def _read(call: Call, x: Value, dim: int, index: Value) -> Value:
    x, axis = call.isolated(x, dim)
    index = call.ordered(index)
    tensor = call.ops.take(x.tensor, index.tensor, axis=axis)
    axes = (*x.axes[:axis], *index.axes, *x.axes[axis + 1 :])
    dims = (*x.dims[:dim], *index.dims, *x.dims[dim + 1 :])
    return Value(tensor, axes, dims, dtype=x.dtype)


@converts("aten.index", "aten._unsafe_index")
def index(call: Call) -> Value:
    """`x[a, :, b]`, of constants."""
    x = call.value("self")
    given = call.node.arguments.get("indices") or ()
    assert isinstance(given, tuple)
    indices = [call.tensor(entry) for entry in given]
    named = [(d, i) for d, i in enumerate(indices) if i is not None]
    if x.constant and all(i.constant for _, i in named):
        key = tuple(slice(None) if i is None else call.arranger.array(i) for i in indices)
        return replace(constant(np.array(call.arranger.array(x)[key])), keys=x.keys)
    if len(named) == 1 and (named[0][1].rank == 1 or not named[0][1].constant):
        return taken(call, x, *named[0])
    if (found := _of_each_sample(call, x, indices)) is not None:
        return found
    first = named[0][0]
    if not all(i.constant for _, i in named) or None in indices[first : named[-1][0] + 1]:
        call.refuse("it takes positions that are not constants of neighbouring dimensions")
    arrays = [call.arranger.array(i) for _, i in named]
    # Rows and columns by themselves: x[:, :, rows[:, None], columns].
    if grid := _grid(arrays):
        for dim, positions in enumerate(grid, first):
            x = taken(call, x, dim, constant(positions))
        return x
    whole, at, stop = as_one(call, x, first, arrays)
    found = taken(call, whole, first, constant(at.ravel()))
    value = reshaped(
        call.arranger.fused(found, first),
        (*x.shape[:first], *at.shape, *x.shape[stop:]),
        call.free,
        call.batch,
    )
    assert value is not None
    return value


def as_one(
    call: Call, x: Value, first: int, arrays: Sequence[np.ndarray]
) -> tuple[Value, np.ndarray, int]:
    """Dimensions as one, positions in that, and the first dimension after them.

    Args:
        call: The call.
        x: What has the dimensions.
        first: The first of them.
        arrays: The positions in each, or masks.
    """
    places = [p for a in arrays for p in (np.nonzero(a) if a.dtype == bool else (a,))]
    stop = first + len(places)
    if is_free(flat(x.dims[first:stop])):
        call.refuse("its positions are of dimensions that are open; export it with fixed sizes")
    sizes = x.shape[first:stop]
    at = np.ravel_multi_index(np.broadcast_arrays(*places), sizes, mode="wrap")
    dims = (*x.dims[:first], tuple(flat(x.dims[first:stop])), *x.dims[stop:])
    return replace(x, dims=dims), at, stop


def _of_each_sample(call: Call, x: Value, indices: Sequence[Value | None]) -> Value | None:
    """`x[samples, at]`: each sample's own positions, the samples being counted."""
    if len(indices) < 2 or indices[0] is None or indices[1] is None or any(indices[2:]):
        return None
    samples, at = indices[0], indices[1]
    if samples.constant:
        batch = np.arange(call.batch)
        counted = x.shape[0] == call.batch and is_free(x.dims[0])
        counted = counted and (call.arranger.array(samples).ravel() == batch).all()
    else:
        counted = call.arranger.counts(samples.tensor)
    if not counted or at.constant or at.rank != samples.rank or samples.shape[0] != x.shape[0]:
        return None
    if is_free(x.dims[1]):
        call.refuse("how many positions a sample has is open; export it with a fixed size")
    # All samples as one, in which each sample's positions begin where it does.
    ops, size = call.ops, x.shape[1]
    samples = call.samples(samples) if samples.constant else samples

    def from_the_start(position: Any, sample: Any) -> Any:
        position = ops.where(ops.less(position, 0), ops.add(position, size), position)
        return ops.add(position, ops.multiply(sample, size))

    at = call.ordered(call.elementwise(from_the_start, at, samples))
    x = call.arranger.arranged(x, ((*x.dims[0], *x.dims[1]), *x.dims[2:]))
    tensor = ops.take(x.tensor, at.tensor, axis=0)
    return Value(tensor, (*at.axes, *x.axes[1:]), (*at.dims, *x.dims[2:]), dtype=x.dtype)


def _grid(indices: list[np.ndarray]) -> list[np.ndarray] | None:
    """The index of each dimension, if together they span a grid."""
    rank = max((i.ndim for i in indices), default=0)
    if rank != len(indices):
        return None
    found = []
    for number, at in enumerate(indices):
        at = at.reshape((1,) * (rank - at.ndim) + at.shape)
        if any(n != 1 for d, n in enumerate(at.shape) if d != number):
            return None
        found.append(at.ravel())
    return found


@converts("aten.cat", "aten.concat", "aten.concatenate")
def cat(call: Call) -> Value:
    """Values one after the other along a dimension."""
    values = [v for v in call.values("tensors") if v.shape != (0,)]
    dim = values[0].dim(call.get("dim", 0))
    return joined(call, values, dim)


@converts("aten.hstack", "aten.vstack", "aten.row_stack", "aten.dstack", "aten.column_stack")
def stack_along(call: Call) -> Value:
    """Along the second, first or third dimension."""
    values = call.values("tensors")
    dim = {"v": 0, "r": 0, "d": 2}.get(call.node.target.split(".")[1][0], 1)
    if values[0].rank <= dim:
        call.refuse("it is of tensors with fewer dimensions")
    return joined(call, values, dim)


@converts("aten.stack")
def stack(call: Call) -> Value:
    """Values along a new dimension."""
    values = call.values("tensors")
    dim = call.get("dim", 0) % (values[0].rank + 1)
    return joined(call, [unsqueezed(v, dim) for v in values], dim)


def joined(call: Call, values: Sequence[Value], dim: int) -> Value:
    """A concatenation along a dimension."""
    import keras

    if len(values) == 1:
        return values[0]
    sizes = [v.shape[dim] for v in values]
    open_ = [is_free(v.dims[dim]) for v in values]
    keys = tuple(dict.fromkeys(k for v in values for k in v.keys))
    nonnegative = all(v.nonnegative for v in values)
    lead = next((n for n, v in enumerate(values) if not call.arranger.fixed(v)), 0)
    rank, count = values[0].rank, len(values)
    # All share the other dimensions; of this one each has its own, put after them.
    apart = []
    for number, v in enumerate(values):
        group = v.dims[dim]
        if len(group) > 1 or (group and group[0] not in flat(v.axes)):
            v = call.arranger.fused(call.arranger.filled(v, dim), dim)
            group = v.dims[dim]
        own: list[Group] = [()] * count
        own[number] = group
        apart.append(replace(v, dims=(*v.dims[:dim], (), *v.dims[dim + 1 :], *own)))
    apart, dims = call.arranger.unified(apart)
    marks = [v.dims[rank + number] for number, v in enumerate(apart)]
    bare = [replace(v, dims=v.dims[:rank]) for v in apart]
    dims = dims[:rank]
    axes = _joint_axes(bare[lead], marks[lead], dims, dim)
    where = next(n for n, g in enumerate(axes) if g == (_JOINT,))
    tensors: list[Any] = []
    for v, group in zip(bare, marks, strict=True):
        tensors.append(_filled(call, v, tuple(group if g == (_JOINT,) else g for g in axes)))
    new: tuple[Atom, ...] = (Atom(sum(sizes), any(open_)),)
    # Samples of a batch are only known from a tensor that has them.
    if all(isinstance(t, np.ndarray) for t in tensors):
        tensor: Any = np.concatenate(tensors, where)
        held = {a for v in bare for a in flat(v.axes)}
        axes = tuple(tuple(a for a in g if a in held or not a.free) for g in axes)
    else:
        tensors = _with_batch(call, tensors, where)
        rank = len(axes)
        axis = -1 if where == rank - 1 else where
        # A layer says that it gives real numbers, whatever they are.
        if any(isinstance(t, np.ndarray) or "float" not in str(t.dtype) for t in tensors):
            tensor = call.ops.concatenate(tensors, axis=axis)
        else:
            tensor = call.layer(keras.layers.Concatenate, tensors, axis=axis)
    final = tuple(new if g == (_JOINT,) else g for g in axes)
    result_dims = (*dims[:dim], new, *dims[dim + 1 :])
    return Value(tensor, final, result_dims, keys, nonnegative, call.meta.dtype)


_JOINT = Atom(0)


def _joint_axes(lead: Value, mark: Group, dims: Groups, dim: int) -> Groups:
    """The axes of a concatenation, `_JOINT` where the dimension is."""
    full = (*dims[:dim], (_JOINT,), *dims[dim + 1 :])
    if mark and mark in lead.axes:
        axes = tuple((_JOINT,) if g == mark else g for g in lead.axes)
        if {a for g in axes for a in g} == {a for g in full for a in g}:
            return axes
    rest = [a for g in full for a in g if a is not _JOINT]
    if not mark and len(rest) > 3 and lead.axes and set(flat(lead.axes)) == set(rest):
        axes = (lead.axes[0], (_JOINT,), *lead.axes[1:])
        while too_many(axes):
            axes = (*axes[:2], axes[2] + axes[3], *axes[4:])
        return axes
    order: Sequence[int] = range(len(full))
    if len(full) == 4 and (dim == 1 or lead.axes and lead.axes[-1] == dims[1]):
        order = CHANNELS_LAST[4]
    return tuple(full[d] for d in order)


def _filled(call: Call, v: Value, axes: Groups) -> Any:
    """A value in these axes; an axis of samples alone that is missing is left to `_with_batch`."""
    held = flat(v.axes)
    missing_batch = [a for g in axes for a in g if a.free and a not in held]
    if all((a,) in axes for a in missing_batch):
        axes = tuple(tuple(a for a in g if a not in missing_batch) for g in axes)
    return call.arranger.arranged(v, axes).tensor


def _with_batch(call: Call, tensors: list[Any], where: int) -> list[Any]:
    """Constants repeated for every sample of the others."""

    def open_axes(tensor: Any) -> set[int]:
        shape = () if isinstance(tensor, np.ndarray) else tuple(tensor.shape)
        return {n for n, size in enumerate(shape) if size is None and n != where}

    lead = max(tensors, key=lambda tensor: len(open_axes(tensor)))
    if not open_axes(lead):
        return tensors

    def batched(tensor: Any) -> bool:
        return open_axes(tensor) == open_axes(lead)

    # Zeros in the shape that is due: they fold away where the batch is known.
    one = (slice(None),) * where + (slice(0, 1),)

    def repeated(t: Any) -> Any:
        return call.ops.add(call.ops.cast(call.ops.zeros_like(lead[one]), str(t.dtype)), t)

    return [t if batched(t) else repeated(t) for t in tensors]


@converts("aten.flip")
def flip(call: Call) -> Value:
    """Dimensions in reverse."""
    x = call.value("self")
    for dim in call.get("dims"):
        x, axis = call.isolated(x, dim)
        x = x.with_tensor(call.ops.flip(x.tensor, axis=axis), nonnegative=x.nonnegative)
    return x


@converts("aten.fliplr", "aten.flipud")
def flip_one(call: Call) -> Value:
    """The second or the first dimension in reverse."""
    x, axis = call.isolated(call.value("self"), "lr" in call.node.target)
    return x.with_tensor(call.ops.flip(x.tensor, axis=axis), nonnegative=x.nonnegative)


@converts("aten.rot90")
def rot90(call: Call) -> Value:
    """Quarter turns."""
    x = call.value("self")
    a, b = (x.dim(d) for d in call.get("dims", [0, 1]))
    for _ in range(call.get("k", 1) % 4):
        order = list(range(x.rank))
        order[a], order[b] = b, a
        x, axis = call.isolated(permuted(x, order), a)
        x = x.with_tensor(call.ops.flip(x.tensor, axis=axis))
    return x


@converts("aten.unfold")
def unfold(call: Call) -> Value:
    """Windows along a dimension, their positions last."""
    x = call.value("self")
    dim, size, step = x.dim(call.get("dimension")), call.get("size"), call.get("step")
    if is_free(x.dims[dim]):
        call.refuse("how many windows there are is open; export it with a fixed size")
    count = (x.shape[dim] - size) // step + 1
    at = (np.arange(count)[:, None] * step + np.arange(size)).ravel()
    x = call.arranger.fused(taken(call, x, dim, constant(at)), dim)
    sizes = (*x.shape[:dim], count, size, *x.shape[dim + 1 :])
    value = reshaped(x, sizes, [None] * len(sizes), call.batch)
    if value is None:
        call.refuse("its windows are not known")
    order = [d for d in range(value.rank) if d != dim + 1]
    return permuted(value, [*order, dim + 1])


@converts("aten.im2col")
def im2col(call: Call) -> Value:
    """Windows of a map, as columns."""
    return windows(call, call.value("self"), call.ints("kernel_size", 2))


def windows(call: Call, x: Value, kernel: Sequence[int]) -> Value:
    """Windows of a map, as columns: a concatenation of shifted slices."""
    x = call.ordered(x, CHANNELS_LAST[4])
    step, hole, more = (
        call.ints(name, 2, default)
        for name, default in (("stride", 1), ("dilation", 1), ("padding", 0))
    )
    tensor = x.tensor
    if any(more):
        tensor = call.ops.pad(tensor, ((0, 0), *((p, p) for p in more), (0, 0)))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, hole, strict=True)]
    counts = [
        (n + 2 * p - span) // s + 1
        for n, p, span, s in zip(x.shape[2:], more, spans, step, strict=True)
    ]
    slices = [
        tensor[
            (
                slice(None),
                *(
                    slice(o * d, o * d - span + 1 or None, s)
                    for o, d, span, s in zip(offset, hole, spans, step, strict=True)
                ),
            )
        ]
        for offset in np.ndindex(*kernel)
    ]
    tensor = call.ops.concatenate(slices, axis=-1)
    rows, columns = (Atom(n, is_free(g)) for n, g in zip(counts, x.dims[2:], strict=True))
    window, channels = Atom(len(slices)), Atom(x.shape[1])
    return Value(
        tensor,
        (x.axes[0], (rows,), (columns,), (window, channels)),
        (x.dims[0], (channels, window), (rows, columns)),
        dtype=x.dtype,
    )


@converts("aten.col2im")
def col2im(call: Call) -> Value:
    """Columns back to windows of a map, summed where they overlap."""
    x = call.value("self")
    size, kernel, step, hole, more = (
        call.ints(name, 2, default)
        for name, default in (
            *(("output_size", 1), ("kernel_size", 1), ("stride", 1)),
            *(("dilation", 1), ("padding", 0)),
        )
    )
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, hole, strict=True)]
    counts = [
        (n + 2 * p - span) // s + 1 for n, p, span, s in zip(size, more, spans, step, strict=True)
    ]
    if is_free(x.dims[2]):
        call.refuse("how many windows there are is open; export it with a fixed size")
    channels = x.shape[1] // (kernel[0] * kernel[1])
    sizes = [x.shape[0], channels, kernel[0] * kernel[1], *counts]
    apart = reshaped(x, sizes, [None, False, False, False, False], call.batch)
    assert apart is not None
    total: Any = None
    for number, offset in enumerate(np.ndindex(*kernel)):
        part = squeezed(sliced(call, apart, 2, number, number + 1), [2])
        tensor = call.ordered(part, CHANNELS_LAST[4]).tensor
        tensor = _spread(call, tensor, counts, step)
        pads = [
            (o * d, n + 2 * p - o * d - c * s)
            for o, d, n, p, c, s in zip(offset, hole, size, more, counts, step, strict=True)
        ]
        tensor = tensor[:, : counts[0] * step[0] + min(pads[0][1], 0)]
        tensor = tensor[:, :, : counts[1] * step[1] + min(pads[1][1], 0)]
        room = ((0, 0), *((b, max(a, 0)) for b, a in pads), (0, 0))
        tensor = call.ops.pad(tensor, room)
        total = tensor if total is None else call.ops.add(total, tensor)
    total = total[:, more[0] : more[0] + size[0], more[1] : more[1] + size[1]]
    return call.result(total, CHANNELS_LAST[4])


def _spread(call: Call, tensor: Any, counts: Sequence[int], step: Sequence[int]) -> Any:
    """Zeros after every position of a map, so that they are a step apart."""
    (rows, columns), channels, ops = counts, tensor.shape[-1], call.ops
    if step[0] > 1:
        tensor = ops.reshape(tensor, (-1, rows, 1, columns * channels))
        tensor = ops.pad(tensor, ((0, 0), (0, 0), (0, step[0] - 1), (0, 0)))
    if step[1] > 1:
        tensor = ops.reshape(tensor, (-1, rows * step[0] * columns, 1, channels))
        tensor = ops.pad(tensor, ((0, 0), (0, 0), (0, step[1] - 1), (0, 0)))
    return ops.reshape(tensor, (-1, rows * step[0], columns * step[1], channels))


@converts("aten.diagonal", "aten.diagonal_copy", "aten.linalg_diagonal", "aten.diag", "aten.trace")
def diagonal(call: Call) -> Value:
    """What stands where two dimensions have the same position; of a vector, the matrix of it."""
    x = call.value("self" if "self" in call.node.arguments else "A")
    offset = call.get("offset", call.get("diagonal", 0))
    if x.rank == 1:
        return _on_diagonal(call, x, offset)
    first = -2 if "linalg" in call.node.target else 0
    a, b = x.dim(call.get("dim1", first)), x.dim(call.get("dim2", first + 1))
    x = permuted(x, [*(d for d in range(x.rank) if d not in (a, b)), a, b])
    rows, columns = x.shape[-2:]
    start = max(-offset, 0)
    count = min(rows - start, columns - max(offset, 0))
    mask = np.eye(rows, columns, offset, dtype=x.dtype if x.constant else "float32")
    product = call.elementwise(call.ops.multiply, x, constant(mask))
    total = sliced(call, call.summed(product, [-1]), x.rank - 2, start, start + count)
    return call.summed(total, [0]) if "trace" in call.node.target else total


@converts("aten.fill_diagonal")
def fill_diagonal(call: Call) -> Value:
    """A matrix with one number where row and column are the same."""
    x, number = call.value("self"), call.get("fill_value")
    if x.rank != 2:
        call.refuse(f"it is of {x.rank} dimensions; torch.where with torch.eye is known")
    eye = constant(np.eye(*x.shape, dtype=bool))
    number = np.asarray(number, str(x.tensor.dtype))
    return call.elementwise(lambda here, t: call.ops.where(here, number, t), eye, x)


@converts("aten.diag_embed")
def diag_embed(call: Call) -> Value:
    """The last dimension on the diagonal of two."""
    x = call.value("self")
    places = sorted(d % (x.rank + 1) for d in (call.get("dim1", -2), call.get("dim2", -1)))
    found = _on_diagonal(call, x, call.get("offset", 0))
    order = list(range(x.rank - 1))
    for place, source in zip(places, (x.rank - 1, x.rank), strict=True):
        order.insert(place, source)
    return permuted(found, order)


def _on_diagonal(call: Call, x: Value, offset: int) -> Value:
    if offset:
        call.refuse("the diagonal is beside the middle")
    mask = constant(np.eye(x.shape[-1], dtype=x.dtype if x.constant else "float32"))
    return call.elementwise(call.ops.multiply, unsqueezed(x, x.rank), mask)


@converts("aten.diff")
def diff(call: Call) -> Value:
    """What neighbours differ by."""
    x = call.value("self")
    dim = x.dim(call.get("dim", -1))
    ends = [call.optional("prepend"), call.optional("append")]
    before, after = ([v] if v is not None else [] for v in ends)
    x = joined(call, [*before, x, *after], dim)
    for _ in range(call.get("n", 1)):
        later, earlier = sliced(call, x, dim, 1, None), sliced(call, x, dim, 0, -1)
        x = call.elementwise(call.ops.subtract, later, earlier)
    return x


@converts("aten.roll")
def roll(call: Call) -> Value:
    """Dimensions turned round: two slices change places."""
    x = call.value("self")
    shifts, dims = call.get("shifts"), call.get("dims")
    shifts = shifts if isinstance(shifts, list) else [shifts]
    if not dims:
        call.refuse("it rolls over all dimensions as one; give dims")
    for shift, d in zip(shifts, dims if isinstance(dims, list) else [dims], strict=True):
        dim = x.dim(d)
        at = -shift if is_free(x.dims[dim]) else -shift % x.shape[dim]
        if abs(at) >= x.shape[dim]:
            call.refuse("it rolls a dimension that is open by more than its size")
        if at:
            x, axis = call.isolated(x, dim)
            before, after = _cut(x.tensor, axis, None, at), _cut(x.tensor, axis, at, None)
            x = x.with_tensor(call.ops.concatenate([after, before], axis=axis))
    return x


_LEAST = float(np.finfo("float32").min)
_MODES = {
    "reflection_pad1d": "reflect",
    "reflection_pad2d": "reflect",
    "reflection_pad3d": "reflect",
    "replication_pad1d": "replicate",
    "replication_pad2d": "replicate",
    "replication_pad3d": "replicate",
    "constant_pad_nd": "constant",
    "_pad_circular": "circular",
}


@converts("aten.pad", *(f"aten.{name}" for name in _MODES))
def pad(call: Call) -> Value:
    """More, or less, at the ends of the last dimensions."""
    x = call.value("self")
    listed = call.fixed("pad") if "pad" in call.node.arguments else call.fixed("padding")
    mode = _MODES.get(call.node.target.split(".")[1], call.get("mode", "constant"))
    pads = [(0, 0)] * x.rank
    for number in range(len(listed) // 2):
        pads[x.rank - 1 - number] = (listed[2 * number], listed[2 * number + 1])
    if mode == "constant":
        return _padded(call, x, pads, call.get("value") or 0.0)
    for dim, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            x = sliced(call, x, dim, max(-before, 0), min(after, 0) or None)
            before, after = max(before, 0), max(after, 0)
        if before or after:
            x = _extended(call, x, dim, before, after, mode)
    return x


def _padded(call: Call, x: Value, pads: Sequence[tuple[int, int]], value: float) -> Value:
    import keras

    order = CHANNELS_LAST[4] if x.rank == 4 and pads[1] == (0, 0) else tuple(range(x.rank))
    if x.rank == 4 and x.axes[-1:] and x.axes[-1] == x.dims[-1] and pads[1] != (0, 0):
        order = tuple(range(4))
    cuts = [(max(-b, 0), max(-a, 0)) for b, a in pads]
    more = [(max(b, 0), max(a, 0)) for b, a in pads]
    x = call.ordered(x, order)
    tensor, real = x.tensor, "float" in str(x.tensor.dtype)
    as_map = real and order == CHANNELS_LAST[4] and pads[0] == pads[1] == (0, 0)
    if any(map(any, cuts)):
        if as_map and not x.constant:
            tensor = call.layer(
                keras.layers.Cropping2D,
                tensor,
                part="crop",
                cropping=tuple(cuts[2:]),
                data_format="channels_last",
            )
        else:
            tensor = tensor[tuple(slice(cuts[d][0], -cuts[d][1] or None) for d in order)]
    if any(map(any, more)):
        if as_map and value == 0.0 and not x.constant:
            tensor = call.layer(
                keras.layers.ZeroPadding2D,
                tensor,
                padding=tuple(more[2:]),
                data_format="channels_last",
            )
        else:
            fill = np.asarray(max(value, _LEAST) if real else value, str(tensor.dtype)).item()
            room = tuple(more[d] for d in order)
            tensor = call.ops.pad(tensor, room, constant_values=fill)
    return call.result(tensor, order, nonnegative=x.nonnegative and value >= 0)


def _extended(call: Call, x: Value, dim: int, before: int, after: int, mode: str) -> Value:
    x, axis = call.isolated(x, dim)
    size, tensor = x.shape[dim], x.tensor
    amount = [(0, 0)] * len(x.axes)
    if mode == "reflect":
        amount[axis] = (before, after)
        tensor = call.ops.pad(tensor, tuple(amount), mode="reflect")
    elif mode == "replicate":
        first, last = _cut(tensor, axis, 0, 1), _cut(tensor, axis, -1, None)
        tensor = call.ops.concatenate([first] * before + [tensor] + [last] * after, axis=axis)
    elif mode == "circular":
        ends = [_cut(tensor, axis, -before, None)] if before else []
        starts = [_cut(tensor, axis, 0, after)] if after else []
        tensor = call.ops.concatenate([*ends, tensor, *starts], axis=axis)
    else:
        call.refuse(f"padding of mode {mode!r} is not known")
    free = is_free(x.dims[dim])
    return with_axis(x, dim, axis, tensor, size + before + after, free)


@converts("aten.slice_scatter", "aten.select_scatter")
def scatter(call: Call) -> Value:
    """A value with a part of it put in the place of another."""
    return scattered(call, call.value("self"), call.value("src"))


def scattered(call: Call, whole: Value, part: Value) -> Value:
    """The value that a slice or select was taken of, with the slice put in place of its own."""
    dim = whole.dim(call.get("dim", 0))
    size = whole.shape[dim]
    if ".select" in call.node.target:
        index = call.get("index") % size
        start, stop, step = index, index + 1, 1
        part = unsqueezed(part, dim)
    else:
        start, stop, step = bounds(call, size)
    if step != 1:
        return placed(call, whole, dim, np.arange(start, stop, step), part)
    if (start, stop) == (0, size):
        return _as_large(call, part, whole)
    if is_free(whole.dims[dim]):
        raise BatchError("it writes to a part of a dimension that is open")
    middle = sliced(call, whole, dim, start, stop)
    pieces = [sliced(call, whole, dim, 0, start)] if start else []
    pieces.append(_as_large(call, part, middle))
    pieces += [sliced(call, whole, dim, stop, size)] if stop < size else []
    result = joined(call, pieces, dim)
    return replace(result, dtype=whole.dtype)


def placed(call: Call, whole: Value, dim: int, at: np.ndarray, part: Value) -> Value:
    """A value with constant positions of a dimension taken from another."""
    size = whole.shape[dim]
    if is_free(whole.dims[dim]):
        raise BatchError("it writes to a part of a dimension that is open")
    mask, source = np.zeros(size, bool), np.zeros(size, int)
    mask[at], source[at] = True, np.arange(len(at))
    part = replace(part, dims=((),) * (whole.rank - part.rank) + part.dims)
    if is_free(part.dims[dim]):
        raise BatchError("what it writes has the batch in that dimension")
    if part.dims[dim]:
        part = taken(call, part, dim, constant(source))
    here = constant(mask)
    here = replace(here, dims=tuple(here.dims[0] if d == dim else () for d in range(whole.rank)))
    part = part.with_tensor(part.tensor.astype(whole.tensor.dtype)) if part.constant else part
    return call.elementwise(call.ops.where, here, part, whole)


def _as_large(call: Call, part: Value, whole: Value) -> Value:
    """What is written, in the shape of what it is written to."""
    missing = set(flat(whole.dims)) - set(flat(part.axes))
    if part.shape == whole.shape and (not part.constant or whole.constant):
        return part
    if whole.constant and part.constant:
        return constant(np.broadcast_to(call.arranger.array(part), whole.shape).copy())
    assert missing
    return call.elementwise(lambda p, w: call.ops.add(call.ops.zeros_like(w), p), part, whole)


@converts("aten.copy", "aten.copy_")
def copy(call: Call) -> Value:
    """One value in the place of another."""
    return _as_large(call, call.value("src"), call.value("self"))
