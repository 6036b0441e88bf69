"""What only changes how a value is seen.

PyTorch: Keras

- permute, transpose, t, movedim, unsqueeze, squeeze, expand, repeat, broadcast_tensors: nothing,
  until an operator needs other axes
- view, reshape, flatten, unflatten, view_as: likewise, where dimensions are split and joined;
  else a reshape
- contiguous, clone, detach, alias, to another device: nothing
- to another dtype: a cast, between whole and real numbers
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import (
    Atom,
    BatchError,
    Value,
    constant,
    expanded,
    flat,
    is_free,
    permuted,
    repeated,
    reshaped,
    squeezed,
    unsqueezed,
)
from converters.pytorch.graph.registry import converts
from converters.pytorch.graph.slicing import taken

_REAL = ("float16", "bfloat16", "float32", "float64")


@converts(
    "aten.view", "aten.reshape", "aten._unsafe_view", "aten.flatten", "aten.unflatten",
    "aten.view_as", "aten.reshape_as", "aten.view_copy", "aten._reshape_alias", "aten.ravel",
    "aten._reshape_copy", "aten.atleast_1d", "aten.atleast_2d", "aten.atleast_3d",
)  # fmt: skip
def reshape(call: Call) -> Value:
    """To the sizes that the program gives for the result."""
    if "dtype" in call.node.target:
        call.refuse("it looks at the bits of numbers as another dtype")
    return seen_as(call, call.value("self"), call.meta.hint, call.free)


def seen_as(call: Call, x: Value, sizes: Sequence[int], free: Sequence[bool | None]) -> Value:
    """A value in other sizes."""
    # Of one sample, (1, samples * channels) as (samples, channels) says nothing else.
    regroups = sizes[:1] == (1,) and free[0] is None and not x.dims[0] and is_free(flat(x.dims))
    if x.shape == tuple(sizes) and _alike(x, free) and not regroups:
        return x
    value = reshaped(x, sizes, free, call.batch)
    if value is not None:
        return value
    # Sizes that share no factors: the numbers have to lie as PyTorch sees them.
    x = call.ordered(x)
    open_ = [bool(f) for f in free]
    if is_free([a for g in x.dims for a in g]) and not any(open_):
        first = sizes[0] % call.batch == 0 and x.dims[0] and is_free(x.dims[0])
        if not first or math.prod(x.shape[1:]) * x.shape[0] // call.batch % math.prod(sizes[1:]):
            raise BatchError("it is not clear which of the sizes holds the batch")
        open_[0] = True
    groups = tuple(
        call.open_group(size, declared) if f else ((Atom(size),) if size != 1 else ())
        for size, f, declared in zip(sizes, open_, call.meta.shape, strict=True)
    )
    if x.constant:
        return replace(x, tensor=x.tensor.reshape(sizes), axes=groups, dims=groups)
    if sum(open_) > 1:
        call.refuse("more than one of its sizes is open; export it with fixed height and width")
    shape = tuple(-1 if f else size for size, f in zip(sizes, open_, strict=True))
    return replace(x, tensor=call.ops.reshape(x.tensor, shape), axes=groups, dims=groups)


def _alike(x: Value, free: Sequence[bool | None]) -> bool:
    return all(f is None or f == is_free(g) for g, f in zip(x.dims, free, strict=True))


@converts("aten.permute", "aten.permute_copy")
def permute(call: Call) -> Value:
    """Dimensions in another order."""
    return permuted(call.value("self"), call.get("dims"))


@converts("aten.transpose", "aten.swapaxes", "aten.swapdims", "aten.transpose_copy")
def transpose(call: Call) -> Value:
    """Two dimensions change places."""
    x = call.value("self")
    names = ("axis0", "axis1") if "axis0" in call.node.arguments else ("dim0", "dim1")
    a, b = (x.dim(call.get(name)) for name in names)
    order = list(range(x.rank))
    order[a], order[b] = b, a
    return permuted(x, order)


@converts(
    "aten.t", "aten.numpy_T", "aten.mT", "aten.adjoint", "aten.t_copy", "aten.mH", "aten.matrix_H"
)
def t(call: Call) -> Value:
    """A matrix turned over."""
    x = call.value("self")
    order = list(range(x.rank))
    last = order[::-1] if "numpy_T" in call.node.target else [*order[:-2], *order[-2:][::-1]]
    return permuted(x, last)


@converts("aten.movedim", "aten.moveaxis")
def movedim(call: Call) -> Value:
    """Dimensions moved to other places."""
    x = call.value("self")
    source, to = call.get("source"), call.get("destination")
    sources = [x.dim(d) for d in (source if isinstance(source, list) else [source])]
    places = [x.dim(d) for d in (to if isinstance(to, list) else [to])]
    return permuted(x, _moved(x.rank, sources, places))


def _moved(rank: int, sources: Sequence[int], places: Sequence[int]) -> list[int]:
    order = [d for d in range(rank) if d not in sources]
    for place, source in sorted(zip(places, sources, strict=True)):
        order.insert(place, source)
    return order


@converts("aten.unsqueeze", "aten.unsqueeze_copy")
def unsqueeze(call: Call) -> Value:
    """A dimension of one more."""
    return unsqueezed(call.value("self"), call.get("dim"))


@converts("aten.squeeze", "aten.squeeze_copy")
def squeeze(call: Call) -> Value:
    """Dimensions of one fewer."""
    x = call.value("self")
    dim = call.get("dim")
    return squeezed(x, dim if isinstance(dim, list) or dim is None else [dim])


@converts("aten.expand", "aten.expand_as", "aten.broadcast_to", "aten.expand_copy")
def expand(call: Call) -> Value:
    """Dimensions of one seen as many."""
    free = [bool(f) for f in call.free]
    x = call.value("self")
    return expanded(x, call.meta.hint, free)


@converts("aten.broadcast_tensors")
def broadcast_tensors(call: Call) -> list[Value]:
    """Values seen in the sizes of all of them."""
    values = zip(call.values("tensors"), call.metas, strict=True)
    return [expanded(v, m.hint, [isinstance(n, str) for n in m.shape]) for v, m in values]


@converts("aten.repeat", "aten.tile")
def repeat(call: Call) -> Value:
    """A value several times over, along each dimension."""
    x = call.value("self")
    times = call.get("repeats", call.get("dims"))
    dims = ((),) * (len(times) - x.rank) + x.dims
    times = [1] * (len(dims) - len(times)) + times
    free = call.free
    return replace(
        x,
        dims=tuple(
            (((Atom(n, f is True and not is_free(group)),) if n != 1 else ()) + group)
            for n, group, f in zip(times, dims, free, strict=True)
        ),
    )


@converts("aten.repeat_interleave")
def repeat_interleave(call: Call) -> Value:
    """Every position several times, or each as often as a constant says."""
    x, times = call.value("self"), call.value("repeats")
    if call.get("dim") is None or not times.constant:
        call.refuse("only constant numbers of times along one dimension are known")
    dim, counts = x.dim(call.get("dim")), call.arranger.array(times)
    if counts.ndim == 0:
        return repeated(x, dim, counts.item())
    return taken(call, x, dim, constant(np.repeat(np.arange(x.shape[dim]), counts)))


@converts(
    "aten.contiguous", "aten.clone", "aten.detach", "aten.alias", "aten.lift_fresh_copy",
    "aten.lift_fresh", "aten.detach_copy", "aten.alias_copy", "aten.positive", "aten.real",
    "aten.requires_grad_", "aten.resolve_conj", "aten.resolve_neg", "aten.lift", "aten.pin_memory",
    "aten._lazy_clone",
)  # fmt: skip
def same(call: Call) -> Value:
    """The same value; a constant is copied, as it may be written to."""
    x = call.value("self")
    if x.constant and ("clone" in call.node.target or "copy" in call.node.target):
        return x.with_tensor(x.tensor.copy())
    return x


@converts("aten.to", "aten._to_copy", "aten.type_as", "aten.float", "aten.bool", "aten.int")
def to(call: Call) -> Value:
    """Another dtype or device."""
    x = call.value("self")
    wanted = call.meta.dtype
    if x.dtype == wanted:
        return x
    if x.dtype in _REAL and wanted in _REAL:
        return replace(x, dtype=wanted)
    target = "float32" if wanted in _REAL else wanted
    if x.constant:
        return x.with_tensor(x.tensor.astype(target), dtype=wanted, nonnegative=x.nonnegative)
    target = "int32" if target == "int64" else target
    return x.with_tensor(call.ops.cast(x.tensor, target), dtype=wanted)
