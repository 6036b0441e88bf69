"""Positions: the order of values, and what is read and written at positions.

PyTorch: Keras

- topk, sort, argsort, msort, kthvalue, median, quantile: `top_k` of the last axis
- gather, take_along_dim, index_select, index, at positions that are computed: `take`,
  `take_along_axis`
- gather at constant positions: `take`
- a step of slices, index_put, index_fill, index_copy, scatter at constant positions: `where` and
  `take`, of several dimensions as one where they are in pairs
- index_put at a mask, of one number: `where`
- scatter, scatter_add, scatter_reduce at positions that are computed: a comparison with every
  position, and a sum, product, mean or the largest
- embedding_bag of equally many each: `take`, and a sum, mean or the largest
- index_add: a product with a matrix of zeros and ones
- bucketize, searchsorted of constant boundaries: comparisons, summed
"""

from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.attention import multiplied
from converters.pytorch.graph.call import Call
from converters.pytorch.graph.elementwise import added
from converters.pytorch.graph.layout import (
    Value,
    constant,
    is_free,
    permuted,
    reshaped,
    squeezed,
    unsqueezed,
    with_axis,
)
from converters.pytorch.graph.registry import converts
from converters.pytorch.graph.slicing import as_one, looked_up, placed, sliced, taken

_LEAST = float(np.finfo(np.float32).min)

# The order of values


@converts("aten.topk", "aten.sort", "aten.msort")
def topk(call: Call) -> list[Value]:
    """The largest of a dimension in order; of all of them, sorted."""
    x = call.value("self")
    dim = 0 if "msort" in call.node.target else x.dim(call.get("dim", -1))
    rises = not (call.get("largest", True) if "topk" in call.node.target else _falls(call))
    count = call.fixed("k") if "k" in call.node.arguments else _all_of(call, x, dim)
    return list(_in_order(call, x, dim, count, rises))


@converts("aten.argsort")
def argsort(call: Call) -> Value:
    """The positions of a dimension in order of their values."""
    x = call.value("self")
    dim = x.dim(call.get("dim", -1))
    return _in_order(call, x, dim, _all_of(call, x, dim), not _falls(call))[1]


@converts("aten.kthvalue", "aten.median")
def kth_value(call: Call) -> list[Value]:
    """The k-th of a dimension from below; the median is the lower one in the middle."""
    x = call.value("self")
    if call.node.target == "aten.median.default":
        call.refuse("of the tensor as a whole; give a dim")
    dim = x.dim(call.get("dim", -1))
    k = call.fixed("k") if "k" in call.node.arguments else (_all_of(call, x, dim) + 1) // 2
    results = []
    for value in _in_order(call, x, dim, k, True):
        one = sliced(call, value, dim, k - 1, k)
        results.append(one if call.get("keepdim", False) else squeezed(one, [dim]))
    return results


@converts("aten.quantile")
def quantile(call: Call) -> Value:
    """Between the two values of a dimension in order that are next to a share of it."""
    if call.get("dim") is None:
        call.refuse("of the tensor as a whole; give a dim")
    x, shares = call.value("self"), call.value("q")
    if not shares.constant or is_free(x.dims[x.dim(call.get("dim"))]):
        call.refuse("the share, or the number of values, is not fixed; export it with fixed ones")
    dim, ops = x.dim(call.get("dim")), call.ops
    size = x.shape[dim]
    at = call.arranger.array(shares).ravel() * (size - 1)
    mode = call.get("interpolation", "linear")
    low, high = np.floor(at), np.ceil(at)
    part = {"linear": at - low, "midpoint": (low != high) * 0.5, "nearest": np.rint(at) - low}
    part |= {"lower": at * 0, "higher": high - low}
    ordered = _in_order(call, x, dim, size, True)[0]
    ends = [taken(call, ordered, dim, constant(n.astype(int))) for n in (low, high)]
    weight = constant(part[mode].astype("float32"))
    weight = replace(weight, dims=tuple(weight.dims[0] if d == dim else () for d in range(x.rank)))
    found = call.elementwise(
        lambda a, b, w: ops.add(a, ops.multiply(ops.subtract(b, a), w)), *ends, weight
    )
    if shares.rank == 0:
        return found if call.get("keepdim", False) else squeezed(found, [dim])
    order = [dim, *(d for d in range(x.rank) if d != dim)]
    moved = permuted(found, order)
    return unsqueezed(moved, dim + 1) if call.get("keepdim", False) else moved


def _all_of(call: Call, x: Value, dim: int) -> int:
    """How many values are sorted."""
    if is_free(x.dims[dim]):
        call.refuse("how many values it sorts is open; export it with a fixed size")
    return x.shape[dim]


def _falls(call: Call) -> bool:
    return bool(call.get("descending", False))


def _in_order(call: Call, x: Value, dim: int, count: int, rises: bool) -> tuple[Value, Value]:
    """The first of a dimension in order, and their positions."""
    call.arranger.own_to_a_sample(x.dims[dim])
    x = call.last(x, dim)
    axis = len(x.axes) - 1
    values, positions = call.ops.top_k(call.ops.negative(x.tensor) if rises else x.tensor, count)
    values = call.ops.negative(values) if rises else values
    found = with_axis(x, dim, axis, values, count)
    return found, replace(found, tensor=positions, dtype="int64")


# Reading


@converts("aten.gather", "aten.take_along_dim")
def gather(call: Call) -> Value:
    """Each position of the result reads its own position of a dimension."""
    x = call.value("self")
    index = call.value("indices" if "indices" in call.node.arguments else "index")
    if call.get("dim") is None:
        call.refuse("it reads the tensor as one dimension; give a dim")
    dim = x.dim(call.get("dim"))
    if x.rank == 1 and index.rank == 1:
        return taken(call, x, 0, index)
    call.arranger.own_to_a_sample(x.dims[dim])
    for d in range(x.rank):
        if "gather" in call.node.target and d != dim and index.shape[d] < x.shape[d]:
            x = sliced(call, x, d, 0, index.shape[d])
    if not index.constant:
        tensor = call.ops.take_along_axis(
            call.ordered(x).tensor, call.ordered(index).tensor, axis=dim
        )
        return call.result(tensor)
    if dim == 0:
        call.refuse("it reads across the samples of the batch")
    if any(map(is_free, x.dims[1:])):
        call.refuse(
            "it reads constant positions of dimensions that are open; export it with fixed sizes"
        )
    at = call.arranger.arranged(index, index.dims[1:]).tensor
    at = np.broadcast_to(at, call.meta.hint[1:])
    places: list[Any] = list(np.indices(at.shape))
    places[dim - 1] = at
    flat = np.ravel_multi_index(places, x.shape[1:], mode="wrap")
    rows = call.ops.reshape(call.ordered(x).tensor, (-1, int(np.prod(x.shape[1:]))))
    tensor = call.ops.take(rows, flat.ravel().astype("int32"), axis=1)
    return call.result(call.ops.reshape(tensor, (-1, *at.shape)))


@converts("aten.bucketize", "aten.searchsorted")
def bucketize(call: Call) -> Value:
    """How many of the boundaries are less than each value; or not greater."""
    sorts = "searchsorted" in call.node.target
    x = call.value("self")
    bounds = call.value("sorted_sequence" if sorts else "boundaries")
    if bounds.rank != 1 or call.optional("sorter") is not None:
        call.refuse("it searches another sequence for each value")
    right = call.get("right", False) or call.get("side") == "right"
    compare = call.ops.less_equal if right else call.ops.less
    hits = call.elementwise(
        lambda t, b: call.ops.cast(compare(b, t), "int32"), unsqueezed(x, x.rank), bounds
    )
    return call.summed(hits, [x.rank])


# Writing


@converts("aten.index_put", "aten._index_put_impl", "aten._unsafe_index_put")
def index_put(call: Call) -> Value:
    """Positions of a value written to: at constants, or one number at a mask."""
    x, values = call.value("self"), call.value("values")
    listed = call.node.arguments.get("indices") or ()
    assert isinstance(listed, tuple)
    indices = [call.tensor(entry) for entry in listed]
    adds = bool(call.get("accumulate", False))
    if x.constant and values.constant and all(i is None or i.constant for i in indices):
        array = call.arranger.array(x).copy()
        key: Any = tuple(slice(None) if i is None else call.arranger.array(i) for i in indices)
        if adds:
            np.add.at(array, key, call.arranger.array(values))
        else:
            array[key] = call.arranger.array(values)
        return constant(array, x.keys)
    named = [(d, i) for d, i in enumerate(indices) if i is not None]
    if len(named) == 1 and not adds:
        dim, at = named[0]
        values = _behind_ones(call, values, x.rank - (at.rank == 0))
        if at.dtype == "bool" and np.prod(values.shape) == 1:
            rest = x.rank - dim - at.rank
            mask = replace(at, dims=(*((),) * dim, *at.dims, *((),) * rest))
            number = replace(values, dims=())
            return call.elementwise(call.ops.where, mask, number, x)
        if at.constant and at.dtype != "bool" and at.rank <= 1:
            where = call.arranger.array(at).reshape(-1) % x.shape[dim]
            if at.rank == 0 and values.rank == x.rank - 1:
                values = unsqueezed(values, dim)
            return placed(call, x, dim, where, values)
    first, last = named[0][0], named[-1][0]
    if not adds and all(i is not None and i.constant for i in indices[first : last + 1]):
        arrays = [call.arranger.array(i) for _, i in named]
        whole, places, _ = as_one(call, x, first, arrays)
        if places.ndim == 1:
            written = _behind_ones(call, values, whole.rank)
            found = placed(call, whole, first, places, written)
            back = reshaped(found, x.shape, [is_free(g) for g in x.dims], call.batch)
            assert back is not None
            return back
    return call.refuse(
        "it writes at positions that are not constants of neighbours, nor one number at a mask; "
        "torch.where is known"
    )


def _behind_ones(call: Call, values: Value, rank: int) -> Value:
    """What is written with the leading dimensions of 1 that PyTorch leaves out."""
    if not 0 < values.rank < rank:
        return values
    sizes = (*(1,) * (rank - values.rank), *values.shape)
    return reshaped(values, sizes, [None] * len(sizes), call.batch) or values


@converts("aten.index_fill", "aten.index_copy")
def index_fill(call: Call) -> Value:
    """Constant positions of a dimension written to."""
    x, index = call.value("self"), call.value("index")
    dim = x.dim(call.get("dim"))
    if not index.constant:
        call.refuse("the positions that it writes to depend on the input")
    values = call.value("value" if "fill" in call.node.target else "source")
    return placed(call, x, dim, call.arranger.array(index).reshape(-1) % x.shape[dim], values)


@converts("aten.index_add")
def index_add(call: Call) -> Value:
    """Values added at positions of a dimension."""
    x, index, source = call.value("self"), call.value("index"), call.value("source")
    dim = x.dim(call.get("dim"))
    if not index.constant:
        call.refuse("the positions that it adds to depend on the input")
    if is_free(x.dims[dim]):
        call.refuse("it adds to a dimension that is open; export it with a fixed size")
    at = call.arranger.array(index).reshape(-1) % x.shape[dim]
    matrix = np.zeros((len(at), x.shape[dim]), "float32")
    matrix[np.arange(len(at)), at] = call.get("alpha", 1)
    order = [d for d in range(x.rank) if d != dim]
    moved = multiplied(call, permuted(source, [*order, dim]), constant(matrix))
    back = [*range(dim), x.rank - 1, *range(dim, x.rank - 1)]
    return added(call, x, permuted(moved, back))


@converts("aten.scatter", "aten.scatter_add", "aten.scatter_reduce")
def scatter(call: Call) -> Value:
    """Each position of the index writes to its own position of a dimension, or adds to it."""
    x, index, ops = call.value("self"), call.value("index"), call.ops
    dim = x.dim(call.get("dim"))
    how = call.get("reduce", "sum" if "scatter_add" in call.node.target else None)
    how = {"add": "sum", "multiply": "prod"}.get(how, how)
    others = [d for d in range(x.rank) if d != dim]
    if is_free(x.dims[dim]):
        call.refuse("it writes to a dimension that is open; export it with a fixed size")
    if any(index.shape[d] != x.shape[d] for d in others):
        call.refuse("its index has other sizes than what it writes to")
    src = call.optional("src")
    if src is not None:
        for d in range(x.rank):
            src = sliced(call, src, d, 0, index.shape[d]) if index.shape[d] < src.shape[d] else src
    # (…, k, n): whether the k-th writes to n.
    places = constant(np.arange(x.shape[dim], dtype="int32"))

    def apart(value: Value) -> Value:
        return unsqueezed(permuted(value, [*others, dim]), x.rank)

    def summed(value: Value) -> Value:
        total = call.summed(value, [x.rank - 1])
        return permuted(total, [*range(dim), x.rank - 1, *range(dim, x.rank - 1)])

    hits = call.elementwise(lambda i, p: ops.cast(ops.equal(i, p), "float32"), apart(index), places)
    written = call.value("value") if src is None else src
    count = summed(hits)
    # What is not written is no more than 1, or the least or the largest.
    extremes = {
        "prod": (1.0, ops.prod, ops.multiply),
        "amax": (_LEAST, ops.max, ops.maximum),
        "amin": (-_LEAST, ops.min, ops.minimum),
    }
    if how in extremes:
        neutral, reduce, join = extremes[how]
        chosen = call.elementwise(
            lambda h, s: ops.where(ops.greater(h, 0.5), s, neutral), hits, apart(written)
        )
        last = x.rank - 1
        found = call.reduced(chosen, [last], lambda t, axes: reduce(t, axis=axes, keepdims=True))
        order = [*range(dim), last, *range(dim, last)]
        written = permuted(squeezed(found, [last]), order)
        if call.get("include_self", True):
            return call.elementwise(join, x, written)
    elif src is not None or how:
        written = summed(call.elementwise(ops.multiply, hits, apart(written)))
        own = 1.0 if call.get("include_self", True) else 0.0
        if how == "mean":
            total = added(call, x, written) if own else written
            written = call.elementwise(
                lambda t, n: ops.divide(t, ops.maximum(ops.add(n, own), 1.0)), total, count
            )
        elif how == "sum" and own:
            return added(call, x, written)
    return call.elementwise(lambda m, w, t: ops.where(ops.greater(m, 0.5), w, t), count, written, x)


@converts("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(call: Call) -> list[Value]:
    """Rows of a table, looked up for each bag and summed, averaged or compared."""
    weight, indices, ops = call.value("weight"), call.value("indices"), call.ops
    bags = call.metas[0].hint[0]
    size = indices.shape[0] // max(bags, 1)
    offsets = call.optional("offsets")
    even = indices.shape[0] == size * bags and not call.get("include_last_offset", False)
    if offsets is not None and offsets.constant:
        even = even and bool((call.arranger.array(offsets) == np.arange(bags) * size).all())
    elif offsets is not None:
        even = even and call.arranger.counts(offsets.tensor, size)
    if not even or call.get("padding_idx", -1) != -1:
        call.refuse("its bags are not all of one size; give the indices as (samples, indices)")
    apart = reshaped(indices, (bags, size), [None, False], call.batch)
    if apart is None:
        call.refuse("its bags are not all of one size; give the indices as (samples, indices)")
    rows = looked_up(call, weight, 0, apart)
    scale = call.optional("per_sample_weights")
    if scale is not None:
        each = reshaped(scale, (bags, size), [None, False], call.batch)
        assert each is not None
        rows = call.elementwise(ops.multiply, rows, unsqueezed(each, 2))
    reduce = {0: ops.sum, 1: ops.mean, 2: ops.max}[call.get("mode", 0)]
    found = call.reduced(rows, [1], lambda t, axes: reduce(t, axis=axes, keepdims=True))
    return [squeezed(found, [1])]
