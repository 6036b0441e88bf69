"""Tensors that are made, and numbers: computed at conversion.

PyTorch: becomes

- zeros, ones, full, arange, linspace, logspace, eye, tril, triu, tril_indices, meshgrid,
  cartesian_prod, hann_window …, new_…, …_like: an array
- arange along a dimension that is open: a running sum of ones
- sizes, and arithmetic with them: numbers; those of open dimensions only where they say how a
  value is seen
- assertions: nothing
"""

import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.call import Call, Number
from converters.pytorch.graph.layout import Value, constant, expanded, is_free
from converters.pytorch.graph.registry import converts


def _dtype(call: Call) -> str:
    wanted = call.meta.dtype
    return "float32" if wanted in ("float16", "bfloat16", "float64") else wanted


def _filled(call: Call, number: Any) -> Value:
    """An array of one number; over an open dimension it is broadcast."""
    free = [f is True for f in call.free]
    hint = call.meta.hint
    sizes = [1 if f else n for n, f in zip(hint, free, strict=True)]
    value = constant(np.full(sizes, number, _dtype(call)))
    return expanded(value, hint, free) if any(free) else value


def _full_of(target: str, number: Any) -> None:
    @converts(target)
    def convert(call: Call) -> Value:
        return _filled(call, number)


for _name, _fill in (("zeros", 0), ("ones", 1), ("empty", 0)):
    for _form in (_name, f"{_name}_like", f"new_{_name}"):
        _full_of(f"aten.{_form}", _fill)
_full_of("aten.zero", 0)
_full_of("aten.empty_permuted", 0)
_full_of("aten.empty_strided", 0)
_full_of("aten.new_empty_strided", 0)


@converts("aten.full", "aten.full_like", "aten.new_full")
def full(call: Call) -> Value:
    """An array of one number."""
    return _filled(call, call.fixed("fill_value"))


@converts("aten.fill")
def fill(call: Call) -> Value:
    """A value all of whose elements are one number."""
    number = call.value("value")
    if not number.constant:
        call.refuse("what it is filled with depends on the input")
    whole = call.value("self")
    if whole.constant:
        return constant(np.full(whole.shape, number.tensor.item(), whole.tensor.dtype))
    return call.elementwise(lambda w: call.ops.zeros_like(w) + number.tensor.item(), whole)


@converts("aten.one_hot")
def one_hot(call: Call) -> Value:
    """Whole numbers as vectors of zeros with a one."""
    x, count = call.value("self"), call.get("num_classes", -1)
    if count < 1:
        call.refuse("the number of classes depends on the input; give num_classes")
    wide = replace(x, dims=(*x.dims, ()))
    classes = constant(np.arange(count, dtype="int32"))
    return call.elementwise(
        lambda t, n: call.ops.cast(call.ops.equal(t, n), "int32"), wide, classes
    )


@converts("aten.scalar_tensor")
def scalar_tensor(call: Call) -> Value:
    """A number as a tensor."""
    return constant(np.asarray(call.fixed("s"), _dtype(call)))


@converts("aten.arange")
def arange(call: Call) -> Value:
    """Numbers in equal steps."""
    if call.free[0] and (places := call.positions(call.meta.hint[0])) is not None:
        start, step = call.fixed("start", 0), call.fixed("step", 1)
        dtype = _dtype(call).replace("64", "32")
        tensor = places.tensor
        if step != 1:
            tensor = call.ops.multiply(tensor, np.asarray(step, tensor.dtype))
        if start != 0:
            tensor = call.ops.add(tensor, np.asarray(start, tensor.dtype))
        tensor = tensor if "int" in dtype else call.ops.cast(tensor, dtype)
        if start == 0 and call.meta.hint[0] == call.batch:
            call.arranger.counting(tensor, step)
        return places.with_tensor(tensor, dtype=call.meta.dtype)
    start, end, step = (
        call.fixed(name, default) for name, default in (("start", 0), ("end", None), ("step", 1))
    )
    return constant(np.arange(start, end, step).astype(_dtype(call)))


@converts("aten.range")
def range_(call: Call) -> Value:
    """Numbers in equal steps, the last among them."""
    start, end, step = (call.fixed(n, d) for n, d in (("start", 0), ("end", None), ("step", 1)))
    return constant((start + step * np.arange(int((end - start) / step) + 1)).astype(_dtype(call)))


@converts("aten.logspace")
def logspace(call: Call) -> Value:
    """A given count of powers of a number."""
    start, end, steps = (call.fixed(name) for name in ("start", "end", "steps"))
    return constant(
        np.logspace(start, end, steps, base=call.get("base", 10.0)).astype(_dtype(call))
    )


@converts(
    "aten.hann_window", "aten.hamming_window", "aten.blackman_window", "aten.bartlett_window",
    "aten.kaiser_window",
)  # fmt: skip
def window(call: Call) -> Value:
    """A window, by default one of a period."""
    length, periodic = call.fixed("window_length"), call.get("periodic", True)
    count = length + 1 if periodic and length > 1 else length
    kind = call.node.target.split(".")[1].removesuffix("_window")
    turn = np.linspace(0, 2 * np.pi, count) if count > 1 else np.zeros(1)
    if kind == "hamming":
        alpha = call.get("alpha", 0.54)
        array = alpha - call.get("beta", 0.46) * np.cos(turn)
    elif kind == "kaiser":
        array = np.kaiser(count, call.get("beta", 12.0))
    else:
        array = getattr(np, "hanning" if kind == "hann" else kind)(count)
    return constant(array[:length].astype(_dtype(call)))


@converts("aten.cartesian_prod", "aten.combinations")
def pairs(call: Call) -> Value:
    """Every choice of one of each of several constants, or of several of one."""
    values = call.values("tensors") or [call.value("self")]
    if not all(v.constant for v in values):
        call.refuse("what it chooses from depends on the input")
    arrays = [call.arranger.array(v) for v in values]
    if "cartesian" in call.node.target:
        chosen = list(itertools.product(*arrays))
    else:
        again = call.get("with_replacement", False)
        choose = itertools.combinations_with_replacement if again else itertools.combinations
        chosen = list(choose(arrays[0], call.get("r", 2)))
    return constant(np.asarray(chosen, arrays[0].dtype).reshape(call.meta.hint))


@converts("aten.linspace")
def linspace(call: Call) -> Value:
    """A given count of numbers in equal steps."""
    start, end, steps = (call.fixed(name) for name in ("start", "end", "steps"))
    return constant(np.linspace(start, end, steps).astype(_dtype(call)))


@converts("aten.eye")
def eye(call: Call) -> Value:
    """The identity."""
    return constant(np.eye(call.meta.hint[0], call.meta.hint[1]).astype(_dtype(call)))


@converts("aten.tril_indices", "aten.triu_indices")
def triangle_positions(call: Call) -> Value:
    """The rows and columns of a triangle."""
    make = np.tril_indices if "tril" in call.node.target else np.triu_indices
    places = make(call.fixed("row"), call.get("offset", 0), call.fixed("col"))
    return constant(np.stack(places).astype(_dtype(call)))


@converts("aten.tril", "aten.triu")
def triangle(call: Call) -> Value:
    """The lower or upper triangle, by a mask of zeros and ones."""
    x = call.value("self")
    make = np.tril if "tril" in call.node.target else np.triu
    k = call.get("diagonal", 0)
    if x.constant:
        return constant(make(call.arranger.array(x), k), x.keys)
    return call.elementwise(
        call.ops.multiply, x, constant(make(np.ones(x.shape[-2:], "float32"), k))
    )


@converts("aten.meshgrid")
def meshgrid(call: Call) -> list[Value]:
    """Grids of coordinates."""
    values = call.values("tensors")
    if not all(v.constant for v in values):
        call.refuse("its coordinates depend on the input")
    indexing = call.get("indexing", "ij")
    arrays = [call.arranger.array(v) for v in values]
    return [constant(a.copy()) for a in np.meshgrid(*arrays, indexing=indexing)]


@converts("aten.bernoulli", "aten.rand", "aten.randn", "aten.rand_like", "aten.randn_like")
def random(call: Call) -> Value:
    """Nothing random."""
    return call.refuse("it is random; call .eval() on the module before the export")


# Sizes


@converts("aten.sym_size", "aten.size")
def size(call: Call) -> Number:
    """The size of a dimension."""
    x = call.value("self")
    dim = x.dim(call.get("dim"))
    return Number(x.shape[dim], is_free(x.dims[dim]))


@converts("aten.sym_numel", "aten.numel")
def numel(call: Call) -> Number:
    """How many elements there are."""
    x = call.value("self")
    return Number(math.prod(x.shape), any(is_free(g) for g in x.dims))


def _arithmetic(target: str, function: Callable[..., Any]) -> None:
    @converts(target)
    def convert(call: Call) -> Number:
        names = list(call.node.arguments)
        arguments = [call.get(name) for name in names]
        free = any(isinstance(found := call.named(name), Number) and found.free for name in names)
        return Number(function(*arguments), free)


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "_operator.add": operator.add,
    "_operator.sub": operator.sub,
    "_operator.mul": operator.mul,
    "_operator.floordiv": operator.floordiv,
    "_operator.truediv": operator.truediv,
    "_operator.mod": operator.mod,
    "_operator.neg": operator.neg,
    "_operator.pow": operator.pow,
    "_operator.eq": operator.eq,
    "_operator.ne": operator.ne,
    "_operator.lt": operator.lt,
    "_operator.le": operator.le,
    "_operator.gt": operator.gt,
    "_operator.ge": operator.ge,
    "_operator.and_": operator.and_,
    "_operator.or_": operator.or_,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "torch.sym_float": float,
    "torch.sym_int": int,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
    "torch._sym_sqrt": math.sqrt,
    "torch.sym_sqrt": math.sqrt,
}
for _name, _function in _ARITHMETIC.items():
    _arithmetic(_name, _function)


@converts("aten.item", "aten._local_scalar_dense")
def item(call: Call) -> Number:
    """The number in a constant."""
    x = call.value("self")
    if not x.constant:
        call.refuse("a number that depends on the input steers the program")
    return Number(x.tensor.item(), False)


@converts(
    "aten._assert_async", "aten._assert_scalar", "aten._assert_tensor_metadata",
    "aten.sym_constrain_range", "aten.sym_constrain_range_for_size", "torch._check",
)  # fmt: skip
def assertion(call: Call) -> list[Value]:
    """What the program takes for granted."""
    return []
