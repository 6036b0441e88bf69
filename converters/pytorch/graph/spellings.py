"""Other spellings of a step as the one that `ulsam.py` compares with.

Imports NumPy, `converters.program` and this package.

A rule is given a step and says what it is in other words: steps in its place. What was only
computed for the old spelling, a mask or a sum, goes with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from converters.program import Argument, Dimension, Ref
from converters.pytorch.graph.dataflow import Dataflow, Op, axes, axis, order

Rule = Callable[[Dataflow, Op], tuple[Op, ...] | None]

_ABOVE, _BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
_PASSED = ("lift_fresh_copy", "lift_fresh", "detach", "cast")


def respell(flow: Dataflow) -> None:
    """Spell every step as it is compared with, in place."""
    for op in list(flow.ops):
        if op.node.target.startswith("aten."):
            found = next((ops for rule in _RULES if (ops := rule(flow, op))), None)
            if found and op in flow.ops:  # not gone meanwhile
                flow.replace(op, *found)


def _of(op: Op, kind: str, value: Argument, **arguments: Any) -> tuple[Op, ...] | None:
    """A step of another kind on one value."""
    if not isinstance(value, Ref):
        return None
    return (replace(op, kind=kind, arguments=arguments, inputs=(value.name,), reads=(value.name,)),)


def _made(flow: Dataflow, argument: Argument) -> Op | None:
    """The step whose first value an argument is."""
    op = flow.made_by.get(argument.name) if isinstance(argument, Ref) else None
    return op if op and isinstance(argument, Ref) and op.result == argument.name else None


def _equal(flow: Dataflow, a: Argument, b: Argument) -> bool:
    """Whether two arguments are one value, or the same is computed twice."""
    one, two = _made(flow, a), _made(flow, b)
    if a == b or one is None or two is None or one.node.target != two.node.target:
        return a == b
    listed = one.arguments.keys() | two.arguments.keys()
    return all(_equal(flow, one.arguments.get(n), two.arguments.get(n)) for n in listed)


# Constants


def _array(flow: Dataflow, argument: Argument) -> np.ndarray | None:
    """What an argument is, if it is the same for every input."""
    if isinstance(argument, int | float):
        return np.asarray(argument)
    if not isinstance(argument, Ref):
        return None
    weight = flow.program.weights.get(argument.name)
    if weight:
        changes = weight.trains or weight.key in flow.program.mutated
        return None if changes else np.asarray(flow.program.tensors[weight.key])
    op = _made(flow, argument)
    if op is None:
        return None
    given, name = op.arguments, op.node.target.split(".")[1]
    if op.kind in _PASSED:
        return _array(flow, given.get("self"))
    if name == "arange":
        bounds = given.get("start", 0), given.get("end"), given.get("step", 1)
        return np.arange(*bounds) if all(isinstance(n, int) for n in bounds) else None
    filled = {
        "zeros": 0,
        "ones": 1,
        "full": given.get("fill_value"),
        "scalar_tensor": given.get("s"),
    }
    number = filled.get(name.removeprefix("new_").removesuffix("_like"))
    return np.asarray(number) if isinstance(number, int | float) else None


def _number(flow: Dataflow, argument: Argument) -> float | None:
    """The one number that a constant holds."""
    array = _array(flow, argument)
    if array is None or array.size == 0 or (array != array.flat[0]).any():
        return None
    return float(array.flat[0])


# ReLU


def _relu(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """Bounds, thresholds, maxima, and choices by the sign."""
    given = op.arguments
    kept = next((v for v, zero in _kept(flow, op.kind, given) if zero), None)
    if not isinstance(kept, Ref) or flow.shape(kept.name) != flow.shape(op.result):
        return None
    return _of(op, "relu", kept)


def _kept(flow: Dataflow, kind: str, given: Any) -> Iterable[tuple[Argument, bool]]:
    """The value that a step keeps where it is above 0, and whether it gives 0 elsewhere."""
    x, other = given.get("self"), given.get("other")
    if kind in ("clamp", "clamp_min", "clip"):
        yield x, _number(flow, given.get("min")) == 0 and given.get("max") is None
    elif kind == "threshold":
        yield x, given["threshold"] == given["value"] == 0
    elif kind == "leaky_relu":
        yield x, given.get("negative_slope") == 0
    elif kind in ("max", "maximum", "fmax"):
        yield from (
            (a, b is not None and _number(flow, b) == 0) for a, b in ((x, other), (other, x))
        )
    elif kind == "where":
        above = _sign(flow, given.get("condition"))
        yield x, above == (x, True) and _number(flow, other) == 0
        yield other, above == (other, False) and _number(flow, x) == 0
    elif kind == "masked_fill":
        yield x, _sign(flow, given["mask"]) == (x, False) and _number(flow, given["value"]) == 0
    elif kind == "multiply":
        yield from ((a, _sign(flow, b) == (a, True)) for a, b in ((x, other), (other, x)))


def _sign(flow: Dataflow, argument: Argument) -> tuple[Argument, bool] | None:
    """The value that a mask says the sign of, and whether it is of those above 0."""
    op = _made(flow, argument)
    while op and op.kind == "cast":
        op = _made(flow, op.arguments.get("self"))
    if op is None or op.kind not in (*_ABOVE, *_BELOW):
        return None
    zero = _number(flow, op.arguments.get("other")) == 0
    return (op.arguments.get("self"), op.kind in _ABOVE) if zero else None


# Softmax


def _softmax(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """Quotients of exponentials and their sum, and what is subtracted before."""
    inner = _made(flow, op.arguments.get("self"))
    if op.kind == "exp" and inner and inner.kind in ("log_softmax", "_log_softmax"):
        return _of(op, "softmax", inner.arguments["self"], dim=inner.arguments.get("dim"))
    if op.kind == "exp" and inner and inner.kind in ("sub", "subtract"):
        x = inner.arguments["self"]
        dims = _reduced(flow, inner.arguments["other"], x, ("logsumexp",))
        return _of(op, "softmax", x, dim=dims) if dims else None
    for power, total in _quotients(flow, op):
        exponential = _made(flow, power)
        if exponential and exponential.kind == "exp":
            dims = _reduced(flow, total, power, ("sum",))
            x = exponential.arguments["self"]
            before = _made(flow, x)
            if before and dims and set(dims) <= set(_shifted_along(flow, before)):
                x = before.arguments["self"]
            return _of(op, "softmax", x, dim=dims) if dims else None
    return None


def _shift(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """What all that a softmax sums over is less by makes no difference."""
    along, value = _shifted_along(flow, op), op.result
    while along:
        readers = [r for r in flow.readers.get(value, []) if value in r.inputs[:1]]
        if len(readers) != 1 or readers[0].kind not in ("reshape", "softmax", "log_softmax"):
            return None
        value, reader = readers[0].result, readers[0]
        if reader.kind != "reshape":
            shapes = flow.shape(op.result), flow.shape(value)
            each = _rows(shapes[0], along), _rows(shapes[1], axes(reader, len(shapes[1]), -1))
            same = each[0] in (each[1], ()) and each[1] is not None
            return _of(op, "reshape", op.arguments["self"]) if same else None
    return None


def _rows(shape: tuple[Dimension, ...], along: tuple[int, ...]) -> tuple[Dimension, ...] | None:
    """The sizes before the last axes, which it works along; None where others come after."""
    if not along or along != tuple(range(along[0], len(shape))):
        return None
    return tuple(size for size in shape[: along[0]] if size != 1)


def _quotients(flow: Dataflow, op: Op) -> Iterable[tuple[Argument, Argument]]:
    """What is divided by what."""
    a, b = op.arguments.get("self"), op.arguments.get("other")
    if op.kind in ("div", "divide", "true_divide") and not op.arguments.get("rounding_mode"):
        yield a, b
    elif op.kind == "multiply":
        for value, inverse in ((a, b), (b, a)):
            made = _made(flow, inverse)
            if made and made.kind == "reciprocal":
                yield value, made.arguments["self"]


def _shifted_along(flow: Dataflow, op: Op) -> tuple[int, ...]:
    """The dimensions along which one number is subtracted from all."""
    if op.kind not in ("sub", "subtract") or op.arguments.get("alpha", 1) != 1:
        return ()
    x, shift = op.arguments["self"], op.arguments["other"]
    if isinstance(x, Ref) and _number(flow, shift) is not None:
        return tuple(range(len(flow.shape(x.name))))
    return _reduced(flow, shift, x, ("amax", "max", "mean"))


def _reduced(flow: Dataflow, total: Argument, x: Argument, kinds: Iterable[str]) -> tuple[int, ...]:
    """The dimensions of a value that another is a reduction over, broadcast; none if it is not."""
    op = _made(flow, total)
    if op is None or not isinstance(x, Ref) or not isinstance(total, Ref):
        return ()
    name = total.name
    if op.kind == "expand":
        name, op = op.inputs[0], _made(flow, op.arguments["self"])
    shape, given = flow.shape(x.name), flow.shape(name)
    while op and op.kind in ("reshape", "detach"):
        op = _made(flow, op.arguments["self"])
    if op is None or op.kind not in kinds or not _equal(flow, op.arguments.get("self"), x):
        return ()
    listed = op.arguments.get("dim", ())
    everything = tuple(range(len(shape)))
    dims = axes(op, len(shape)) if listed not in ((), None) else everything
    kept = tuple(1 if d in dims else n for d, n in enumerate(shape))
    return dims if given == kept or dims == everything and given == () else ()


# Products, parts and what joins them


def _sum_of_product(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """`addcmul` as a product and a sum."""
    if op.kind != "addcmul":
        return None
    given, name = op.arguments, f"{op.result} product"
    a, b = given["tensor1"], given["tensor2"]
    meta = flow.meta(op.result)
    if meta is None or meta.shape not in (flow.shape(a.name), flow.shape(b.name)):
        return None
    flow.inner[name] = meta
    factors = (a.name, b.name)
    product = replace(
        op,
        kind="multiply",
        node=replace(op.node, outputs=(name,)),
        arguments={"self": a, "other": b},
        inputs=factors,
        reads=factors,
    )
    both = (given["self"].name, name)
    arguments = {"self": given["self"], "other": Ref(name), "alpha": given.get("value", 1)}
    return product, replace(op, kind="add", arguments=arguments, inputs=both, reads=both)


def _one_more(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """1 added."""
    if op.kind != "add" or op.arguments.get("alpha", 1) != 1:
        return None
    a, b = op.arguments.get("self"), op.arguments.get("other")
    for value, other in ((a, b), (b, a)):
        like = isinstance(value, Ref) and flow.shape(value.name) == flow.shape(op.result)
        if like and _number(flow, other) == 1:
            return _of(op, "add_one", value)
    return None


def _part(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """A range of positions as a slice; a part of a permuted value as one of the value."""
    given = op.arguments
    if op.kind == "hsplit":
        return _of(op, "split", given["self"], **{**given, "dim": 1})
    if op.kind in ("index_select", "index"):
        listed = given.get("indices", (None,))
        dim = given["dim"] if op.kind == "index_select" else len(listed) - 1
        lone = all(entry is None for entry in listed[:-1])
        places = _array(flow, given["index"] if op.kind == "index_select" else listed[-1])
        if not lone or places is None or places.ndim != 1 or not places.size or places[0] < 0:
            return None
        row = places.dtype.kind == "i" and (np.diff(places) == 1).all()
        return _of(op, "slice", given["self"], dim=dim, start=int(places[0])) if row else None
    alone = op.kind == "split" or op.node.target.startswith("aten.select.")
    inner = _made(flow, given.get("self")) if alone else None
    if inner is None or op.kind == "split" and not op.node.target.startswith("aten.unbind."):
        return None
    moved = order(inner, len(flow.shape(inner.result)))
    at = axis(op, len(moved))
    if at is None or not _ascends(moved, at):
        return None
    return _of(op, op.kind, inner.arguments["self"], **{**given, "dim": moved[at]})


def _joint(flow: Dataflow, op: Op) -> tuple[Op, ...] | None:
    """A stack that is permuted as a stack along another dimension; `hstack`."""
    if op.kind == "hstack":
        return (replace(op, kind="join", arguments={"dim": 1}),)
    moved = order(op, len(flow.shape(op.result)))
    inner = _made(flow, op.arguments.get("self")) if moved else None
    if inner is None or not inner.node.target.startswith("aten.stack."):
        return None
    at = axis(inner, len(moved))
    place = moved.index(at) if at is not None else 0
    if at is None or not _ascends(moved, place):
        return None
    return (replace(inner, node=op.node, arguments={"dim": place}),)


def _ascends(moved: tuple[int, ...], at: int) -> bool:
    """Whether a permutation moves one dimension only."""
    rest = [d for place, d in enumerate(moved) if place != at]
    return rest == sorted(rest)


_RULES: tuple[Rule, ...] = (_relu, _softmax, _shift, _sum_of_product, _one_more, _part, _joint)
