"""Sums, means and the like over dimensions.

PyTorch: Keras

- mean, amax, max over height and width of a map: `GlobalAveragePooling2D`, `GlobalMaxPooling2D`
- mean, sum, amax, amin, prod, any, all, logsumexp: `keras.ops` of that name, over axes
- nansum, nanmean: the same of what is a number
- var, std: `keras.ops.var`, with PyTorch's correction
- norm, linalg_vector_norm, normalize, pairwise_distance: sums of powers, of any order
- linalg_matrix_norm of order 1, infinity and "fro": sums of absolute values, and their largest
- max, min with positions; argmax, argmin: `keras.ops.argmax`, `argmin`
- cumsum: constants, and a triangular matrix
- cumprod, cummax, cummin, logcumsumexp: position after position
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import Value, is_free, squeezed, with_axis
from converters.pytorch.graph.registry import converts


def _dims(call: Call, x: Value) -> list[int]:
    listed = call.get("dim", call.get("dims"))
    if listed is None or listed == []:
        return list(range(x.rank))
    return sorted({x.dim(d) for d in (listed if isinstance(listed, list) else [listed])})


def _finished(call: Call, value: Value, dims: Sequence[int]) -> Value:
    return value if call.get("keepdim", False) else squeezed(value, dims)


def _operation(target: str, name: str, keeps_sign: bool = False) -> None:
    @converts(target)
    def convert(call: Call) -> Value:
        x = call.value("self")
        if name in ("any", "all") and x.dtype != "bool":
            x = x.with_tensor(call.ops.not_equal(x.tensor, 0), dtype="bool")
        dims = _dims(call, x)
        if (layer := _global(call, x, dims, name)) is not None:
            return _finished(call, layer, dims)

        def compute(tensor: Any, axes: tuple[int, ...]) -> Any:
            return getattr(call.ops, name)(tensor, axis=axes, keepdims=keep)

        keep = bool(call.get("keepdim", False))
        value = call.reduced(x, dims, compute)
        return _finished(call, replace(value, nonnegative=keeps_sign and x.nonnegative), dims)


def _global(call: Call, x: Value, dims: Sequence[int], name: str) -> Value | None:
    """A global pool, where a map is pooled over height and width."""
    import keras

    kind = {"mean": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}.get(name)
    if kind is None or x.rank != 4 or list(dims) != [2, 3] or x.constant:
        return None
    if x.axes != tuple(x.dims[d] for d in (0, 2, 3, 1)):
        return None
    keep = bool(call.get("keepdim", False)) and not call.flattened
    tensor = call.layer(
        getattr(keras.layers, kind), x.tensor, data_format="channels_last", keepdims=keep
    )
    axes = (x.axes[0], (), (), x.axes[3]) if keep else (x.axes[0], x.axes[3])
    dims_left = (x.dims[0], x.dims[1], (), ())
    return x.with_tensor(tensor, axes=axes, dims=dims_left, nonnegative=x.nonnegative)


for _target, _name, _sign in (
    ("aten.mean", "mean", True),
    ("aten.sum", "sum", True),
    ("aten.amax", "max", True),
    ("aten.amin", "min", True),
    ("aten.any", "any", False),
    ("aten.all", "all", False),
    ("aten.logsumexp", "logsumexp", False),
    ("aten.special_logsumexp", "logsumexp", False),
):
    _operation(_target, _name, _sign)


@converts("aten.nansum", "aten.nanmean")
def nansum(call: Call) -> Value:
    """The sum or mean of what is a number."""
    x, ops = call.value("self"), call.ops
    dims, gone = _dims(call, x), ops.isnan(x.tensor)
    total = call.reduced(x.with_tensor(ops.where(gone, 0.0, x.tensor)), dims, _along(ops.sum))
    if "nanmean" in call.node.target:
        ones = x.with_tensor(ops.where(gone, 0.0, 1.0))
        count = call.reduced(ones, dims, _along(ops.sum))
        total = call.elementwise(ops.divide, total, count)
    return _finished(call, total, dims)


@converts("aten.prod")
def prod(call: Call) -> Value:
    """The product, over all or over one dimension."""
    x = call.value("self")
    dims = _dims(call, x)
    value = call.reduced(x, dims, lambda t, axes: call.ops.prod(t, axis=axes, keepdims=True))
    return _finished(call, value, dims)


def _variance(call: Call, x: Value, dims: Sequence[int]) -> Value:
    count = math.prod(x.shape[d] for d in dims)
    correction = call.get("correction")
    if correction is None:
        correction = 1 if call.get("unbiased", True) else 0
    factor = count / max(count - correction, 0) if count > correction else float("nan")
    ops, open_ = call.ops, any(is_free(x.dims[d]) for d in dims)

    def compute(tensor: Any, axes: tuple[int, ...]) -> Any:
        variance = ops.var(tensor, axis=axes, keepdims=True)
        if factor == 1 or not open_:
            return variance if factor == 1 else variance * factor
        known = ops.sum(ops.ones_like(tensor), axis=axes, keepdims=True)
        return variance * ops.divide(known, ops.subtract(known, float(correction)))

    return replace(call.reduced(x, dims, compute), nonnegative=True)


@converts("aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def var(call: Call) -> list[Value]:
    """The variance or its root, with the mean where that is asked for."""
    x = call.value("self")
    dims = _dims(call, x)
    value = _variance(call, x, dims)
    if "std" in call.node.target:
        value = value.with_tensor(call.ops.sqrt(value.tensor), nonnegative=True)
    results = [_finished(call, value, dims)]
    if "_mean" in call.node.target:
        mean = call.reduced(x, dims, lambda t, axes: call.ops.mean(t, axis=axes, keepdims=True))
        results.append(_finished(call, mean, dims))
    return results


@converts("aten.norm", "aten.linalg_vector_norm", "aten.frobenius_norm", "aten.linalg_norm")
def norm(call: Call) -> Value:
    """`sum(|x| ** p) ** (1 / p)`."""
    x = call.value("self")
    dims = _dims(call, x)
    if "linalg_norm" in call.node.target and len(dims) > 1 and call.get("ord") is not None:
        return matrix_norm(call)
    order = call.get("p", call.get("ord", 2))
    order = 2 if order in (None, "fro") else float(order)
    value = replace(call.reduced(x, dims, length(call, order)), nonnegative=True)
    return _finished(call, value, dims)


def length(call: Call, order: float) -> Callable[[Any, Any], Any]:
    """The function that gives the norm of an order over axes of a tensor."""
    ops = call.ops
    by_order: dict[float, Callable[[Any, Any], Any]] = {
        2: lambda t, axes: ops.sqrt(ops.sum(ops.square(t), axis=axes, keepdims=True)),
        1: lambda t, axes: ops.sum(ops.abs(t), axis=axes, keepdims=True),
        0: lambda t, axes: ops.sum(
            ops.cast(ops.not_equal(t, 0.0), "float32"), axis=axes, keepdims=True
        ),
        math.inf: lambda t, axes: ops.max(ops.abs(t), axis=axes, keepdims=True),
        -math.inf: lambda t, axes: ops.min(ops.abs(t), axis=axes, keepdims=True),
    }

    def any_order(tensor: Any, axes: Any) -> Any:
        total = ops.sum(ops.power(ops.abs(tensor), order), axis=axes, keepdims=True)
        return ops.power(total, 1 / order)

    return by_order.get(order, any_order)


@converts("aten.linalg_matrix_norm")
def matrix_norm(call: Call) -> Value:
    """Of matrices: over all of one, or the largest or least sum of rows or columns."""
    name = "self" if "self" in call.node.arguments else "A"
    x, order, ops = call.value(name), call.get("ord", "fro"), call.ops
    rows, columns = (x.dim(d) for d in call.get("dim") or (-2, -1))
    if order == "fro":
        value = call.reduced(x, [rows, columns], length(call, 2))
    elif order in (1, -1, math.inf, -math.inf):
        summed, other = (rows, columns) if abs(order) == 1 else (columns, rows)
        value = call.reduced(x, [summed], length(call, 1))
        value = call.reduced(value, [other], _along(ops.max if order > 0 else ops.min))
    else:
        call.refuse(f"a norm of order {order!r} needs the singular values of a matrix")
    return _finished(call, replace(value, nonnegative=True), [rows, columns])


@converts("aten.cosine_similarity", "aten.pairwise_distance")
def distance(call: Call) -> Value:
    """How near two vectors are: their angle, or their difference."""
    a, b = call.value("x1"), call.value("x2")
    ops, eps = call.ops, call.get("eps", 1e-8 if "cosine" in call.node.target else 1e-6)

    def total(x: Value, dim: int) -> Value:
        return call.reduced(x, [dim], lambda t, axes: ops.sum(t, axis=axes, keepdims=True))

    def square(x: Value) -> Value:
        return x.with_tensor(ops.square(x.tensor))

    if "pairwise" in call.node.target:
        apart = call.elementwise(lambda s, t: ops.add(ops.subtract(s, t), eps), a, b)
        found = call.reduced(apart, [apart.rank - 1], length(call, float(call.get("p", 2))))
        return _finished(call, found, [apart.rank - 1])
    rank = max(a.rank, b.rank)
    a, b = (replace(v, dims=((),) * (rank - v.rank) + v.dims) for v in (a, b))
    dim = a.dim(call.get("dim", 1))
    product = total(call.elementwise(ops.multiply, a, b), dim)
    lengths = [total(square(x), dim) for x in (a, b)]

    def divided(p: Any, s: Any, t: Any) -> Any:
        least = eps * eps
        scale = ops.multiply(ops.maximum(s, least), ops.maximum(t, least))
        return ops.divide(p, ops.sqrt(scale))

    return squeezed(call.elementwise(divided, product, *lengths), [dim])


@converts("aten.max", "aten.min")
def extreme(call: Call) -> list[Value]:
    """The largest or least: of all, of each pair, or along a dimension with its position."""
    name = "max" if ".max." in call.node.target else "min"
    x = call.value("self")
    if "other" in call.node.arguments:
        function = call.ops.maximum if name == "max" else call.ops.minimum
        return [call.elementwise(function, x, call.value("other"))]
    dims = _dims(call, x)
    value = call.reduced(x, dims, lambda t, a: getattr(call.ops, name)(t, axis=a, keepdims=True))
    results = [_finished(call, replace(value, nonnegative=x.nonnegative), dims)]
    if call.used(1):
        results.append(_position(call, x, dims[0], f"arg{name}"))
    return results


@converts("aten.argmax", "aten.argmin")
def position(call: Call) -> Value:
    """Where the largest or least is."""
    x = call.value("self")
    if call.get("dim") is None:
        call.refuse("the position in the tensor as a whole; give a dim")
    name = "argmax" if "argmax" in call.node.target else "argmin"
    return _position(call, x, x.dim(call.get("dim")), name)


def _position(call: Call, x: Value, dim: int, name: str) -> Value:
    x, axis = call.isolated(x, dim)
    tensor = getattr(call.ops, name)(x.tensor, axis=axis)
    axes = (*x.axes[:axis], *x.axes[axis + 1 :])
    dims = (*x.dims[:dim], (), *x.dims[dim + 1 :])
    value = replace(x, tensor=tensor, axes=axes, dims=dims, dtype="int64")
    return _finished(call, value, [dim])


@converts("aten.cumprod", "aten.cummax", "aten.cummin", "aten.logcumsumexp", "aten._logcumsumexp")
def cumulated(call: Call) -> list[Value]:
    """Running products, sums of exponentials, or the largest or least: position after position."""
    kind = call.node.target.split(".")[1].removeprefix("_")
    function = {
        "cumprod": call.ops.multiply,
        "cummax": call.ops.maximum,
        "cummin": call.ops.minimum,
        "logcumsumexp": call.ops.logaddexp,
    }[kind]
    if call.used(1):
        call.refuse("the positions of the largest so far are asked for")
    x, axis = call.isolated(call.value("self"), call.get("dim"))
    size = x.tensor.shape[axis]
    if size is None:
        call.refuse("it runs over a dimension that is open; export it with a fixed size")
    parts = [x.tensor[(slice(None),) * axis + (slice(n, n + 1),)] for n in range(size)]
    for number in range(1, size):
        parts[number] = function(parts[number - 1], parts[number])
    return [x.with_tensor(call.ops.concatenate(parts, axis=axis) if size > 1 else parts[0])]


@converts("aten.aminmax")
def aminmax(call: Call) -> list[Value]:
    """The least and the largest."""
    x = call.value("self")
    dims = _dims(call, x)
    return [
        _finished(call, call.reduced(x, dims, _along(getattr(call.ops, name))), dims)
        for name in ("min", "max")
    ]


@converts("aten.count_nonzero")
def count_nonzero(call: Call) -> Value:
    """How many are not 0."""
    x = call.value("self")
    dims = _dims(call, x)
    ones = x.with_tensor(call.ops.cast(call.ops.not_equal(x.tensor, 0), "int32"), dtype="int64")
    return squeezed(call.reduced(ones, dims, _along(call.ops.sum)), dims)


def _along(function: Callable[..., Any]) -> Callable[[Any, tuple[int, ...]], Any]:
    return lambda tensor, axes: function(tensor, axis=axes, keepdims=True)


@converts("aten.cumsum")
def cumsum(call: Call) -> Value:
    """A running sum: a product with a triangular matrix."""
    x, axis = call.isolated(call.value("self"), call.get("dim"))
    call.arranger.own_to_a_sample(x.dims[x.dim(call.get("dim"))])
    if x.constant:
        return x.with_tensor(np.cumsum(x.tensor, axis))
    dim = x.dim(call.get("dim"))
    if is_free(x.dims[dim]):
        return x.with_tensor(call.ops.cumsum(x.tensor, axis=axis))
    x = call.last(x, dim)
    size = x.shape[dim]
    matrix = np.triu(np.ones((size, size), "float32"))
    tensor = call.ops.matmul(x.tensor, matrix)
    return with_axis(x, dim, len(x.axes) - 1, tensor, size)
