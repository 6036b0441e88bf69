"""ULSAM in a program, found by what is computed, whatever its classes and keys are called.

Imports NumPy, `converters.program` and this package; Keras and ulsam_keras only through what it is
given.

Paper: Saini, Jha, Das, Mittal, Mohan, "ULSAM: Ultra-Lightweight Subspace Attention Module for
Compact Convolutional Neural Networks", WACV 2020, https://arxiv.org/abs/2006.15102.

Every product of a tensor with something computed from it is followed back to that tensor. The steps
on the way are compared with `CHAIN`; what differs is put into words.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from math import prod
from typing import Any

import numpy as np

from converters.program import Dimension, Node, Program
from converters.pytorch.graph.dataflow import WIDTHS, Dataflow, Op, axes, axis, dataflow
from converters.pytorch.graph.spellings import respell
from converters.pytorch.tables import TABLES
from converters.pytorch.targets import Leaf


@dataclass(frozen=True)
class Step:
    """A step of one group's attention.

    Attributes:
        kind: What is computed.
        name: What the report calls it.
        module: Its name in the table of ULSAM's keys; empty if it has no weights.
        wants: Its arguments; `"C"` is the number of channels, `"g"` that of maps computed at once.
    """

    kind: str
    name: str
    module: str = ""
    wants: Mapping[str, Any] = field(default_factory=dict)


_ONE_BY_ONE = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "transposed": False}
_POOL = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
_EVAL = {"training": False}
CHAIN = (
    Step("convolution", "depthwise convolution", "conv_dws",
         {**_ONE_BY_ONE, "outputs": "C", "groups": "C"}),
    Step("batch_norm", "depthwise batch norm", "bn_dws", _EVAL),
    Step("relu", "ReLU before the pool"),
    Step("max_pool", "max-pool", "", _POOL),
    Step("convolution", "pointwise convolution", "conv_point",
         {**_ONE_BY_ONE, "outputs": "g", "groups": "g"}),
    Step("batch_norm", "pointwise batch norm", "bn_point", _EVAL),
    Step("relu", "ReLU before the softmax"),
    Step("softmax", "softmax"),
)  # fmt: skip
_WITHOUT_BRANCH = (0, 3)
# So many steps in common are like ULSAM: those of its early version, whose pool reads the input.
_LIKE = 5
_LONGEST = 24
_WEIGHTS = {
    "convolution": ("weight", "bias"),
    "batch_norm": ("weight", "bias", "running_mean", "running_var"),
}
_SHAPING = ("reshape", "expand", "repeat_interleave")
_NO_SUM = "the input is not added to the product"

# The keys of one group by those of the table of ULSAM, "bn_dws.weight": None for no bias.
Keys = Mapping[str, str | None]


@dataclass(frozen=True)
class UlsamCall:
    """A ULSAM in a program: one call of a `ulsam_keras.ULSAM`.

    Calls with the same `weights`, `momentum` and `epsilon` are calls of one layer; other calls
    share no weight with it, and nothing else in the program reads one of its weights.

    Attributes:
        nodes: Names of the nodes that it covers. No value of them is used elsewhere but `result`.
        source: The value that it reads, (N, C, H, W).
        result: The value that it gives.
        num_splits: The number of groups.
        channels: The number of channels C.
        module: Path of the innermost module that all of it is called in.
        weights: The keys of the program by those of the table of ULSAM, per group; one for all
            where they are computed at once and their weights are joined.
        momentum: Of both batch norms, as Keras means it.
        epsilon: Of both batch norms.
        dropouts: Names of covered nodes that drop in training, which the layer cannot.
    """

    nodes: frozenset[str]
    source: str
    result: str
    num_splits: int
    channels: int
    module: str
    weights: tuple[Keys, ...]
    momentum: float
    epsilon: float
    dropouts: tuple[str, ...] = ()

    def values(self, layer: Any, tensors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Give what the layer's `set_weights` takes.

        Args:
            layer: A built `ulsam_keras.ULSAM` of `num_splits` and `channels`.
            tensors: The program's tensors by key.

        Returns:
            The arrays in the order of `layer.weights`. A bias that the program does without is 0.
        """
        made = {}
        for row, _, weight in Leaf(layer, layer.name, ("",), TABLES["ULSAM"]).rows():
            keys = [group[row.key] for group in self.weights]
            size = weight.shape[-1] // len(keys)  # of a bias
            parts = [np.zeros(size) if key is None else np.asarray(tensors[key]) for key in keys]
            made[id(weight)] = row.join(parts, tuple(weight.shape)).astype(weight.dtype)
        return [made[id(weight)] for weight in layer.weights]


@dataclass(frozen=True)
class NearMiss:
    """What has the steps of ULSAM but computes something else, or cannot be one layer.

    Attributes:
        nodes: Names of its nodes.
        source: The value that it reads.
        module: Path of the innermost module that all of it is called in.
        difference: What differs: `"the pool reads the input"`.
    """

    nodes: frozenset[str]
    source: str
    module: str
    difference: str

    def __str__(self) -> str:
        return f"like ULSAM, but {self.difference}"


def find_ulsam_calls(program: Program) -> tuple[list[UlsamCall], list[NearMiss]]:
    """Find the ULSAM in a program, and what is like it.

    A call computes exactly what the layer computes, trained further included. The attention of a
    ULSAM that is used elsewhere too makes it a near miss, as does a weight that something else
    uses.

    Args:
        program: The program.

    Returns:
        The calls, and the near misses, each in the program's order. No node is in two of them.
    """
    flow = dataflow(program)
    respell(flow)
    groups = [group for op in flow.ops if op.kind == "multiply" for group in _groups(flow, op)]
    groups = [group for group in groups if group.result in flow.readers.keys() | flow.ends]
    sites = _sites(flow, groups)
    sites += [
        site for op in flow.ops if op.kind == "multiply" for site in _weighed_at_once(flow, op)
    ]
    sites = _tied(flow, [_escaping(flow, site) for site in sites])
    order = {op: place for place, op in enumerate(flow.ops)}
    sites.sort(key=lambda site: min(order[op] for op in site.ops))
    calls = [_call(flow, site) for site in sites if not site.differences]
    return calls, [_near_miss(flow, site) for site in sites if site.differences]


@dataclass(frozen=True)
class _Group:
    """One group's attention, or what is like it."""

    ops: tuple[Op, ...]
    source: str
    result: str
    maps: int
    keys: dict[str, str | None]
    norms: frozenset[tuple[Any, Any]]  # momentum and eps
    differences: tuple[str, ...]


@dataclass(frozen=True)
class _Site:
    """The groups of a module, and what joins them."""

    groups: tuple[_Group, ...]
    joining: tuple[Op, ...]
    source: str
    result: str
    differences: tuple[str, ...]

    @property
    def ops(self) -> set[Op]:
        return {op for group in self.groups for op in group.ops} | set(self.joining)

    @property
    def layer(self) -> tuple[Any, ...]:
        """What calls of one layer have in common."""
        return tuple((tuple(group.keys.items()), group.norms) for group in self.groups)


# One group, or several computed at once


def _groups(flow: Dataflow, product: Op) -> Iterator[_Group]:
    """Give the group that ends in a product of its input with its attention."""
    if len(product.inputs) == 2:
        for factor, attention in (product.inputs, product.inputs[::-1]):
            if group := _group(flow, product, factor, attention):
                yield group
                return


def _group(flow: Dataflow, product: Op, factor: str, attention: str) -> _Group | None:
    source = _unshaped(flow, factor)
    shape, way = flow.shape(source), _way(flow, source, attention)
    kinds = [op.kind for op in way]
    if len(shape) != 4 or not isinstance(shape[1], int) or "convolution" not in kinds:
        return None
    reached = way[0].inputs == (source,)
    if not reached and kinds.count("convolution") > 1:  # leave out what comes before
        first = [i for i, kind in enumerate(kinds) if kind == "convolution"][-2]
        way, kinds = way[first:], kinds[first:]
    # The scores may have any shape from the last convolution on, and 1 may be added to them.
    last = len(kinds) - 1 - kinds[::-1].index("convolution")
    aside = {i for i, kind in enumerate(kinds) if i > last and kind in _SHAPING}
    aside |= {i for i, op in enumerate(way) if op.kind == "cast" and _alike(flow, op, source)}
    plus = [i for i, kind in enumerate(kinds) if kind == "add_one" and "softmax" in kinds[:i]][-1:]
    matched, differences = _compare([op for i, op in enumerate(way) if i not in {*aside, *plus}])
    if len(matched) < _LIKE:
        return None
    if not reached:
        differences.append("it weighs another value than it reads")
    scores = next((op for step, op in matched if step.module == "conv_point"), None)
    maps = _maps(flow, scores, shape[1])
    keys: dict[str, str | None] = {}
    for step, op in matched:
        differences += _wrong_arguments(flow, step, op, {"C": shape[1], "g": maps})
        if step.module:
            differences += _read_keys(flow, step, op, keys)
    if scores and any(step.kind == "softmax" for step, _ in matched):
        tail = way[way.index(scores) + 1 :]
        differences += _wrong_positions(flow, tail, flow.shape(scores.result), product, factor)
    differences += _narrower(flow, [*way, product], source)
    end, added = _ending(flow, product, factor, source, bool(plus))
    if not added:
        differences.append(_NO_SUM)
    if flow.shape(end[-1].result) != shape:
        differences.append(f"its result has shape {_text(flow.shape(end[-1].result))}")
    norms = frozenset(
        (op.arguments.get("momentum"), op.arguments.get("eps"))
        for step, op in matched
        if step.kind == "batch_norm"
    )
    ops = (*way, *end)
    return _Group(ops, source, end[-1].result, maps, keys, norms, tuple(differences))


def _unshaped(flow: Dataflow, value: str) -> str:
    """The map that a value is another shape of."""
    while len(flow.shape(value)) != 4 and (op := flow.made_by.get(value)) and op.kind == "reshape":
        value = op.inputs[0]
    return value


def _reshaped(flow: Dataflow, value: str, shape: tuple[Dimension, ...]) -> list[Op]:
    """The step that gives a value a shape, where one is needed and there."""
    if flow.shape(value) == shape:
        return []
    readers = [op for op in flow.readers.get(value, []) if op.kind == "reshape"]
    return [op for op in readers if flow.shape(op.result) == shape][:1]


def _alike(flow: Dataflow, op: Op, source: str) -> bool:
    meta, own = flow.meta(op.result), flow.meta(source)
    return bool(meta and own and meta.dtype == own.dtype)


def _maps(flow: Dataflow, scores: Op | None, channels: int) -> int:
    """How many groups are computed at once: the groups of the pointwise convolution."""
    groups = _ARGUMENTS["convolution"](flow, scores)["groups"] if scores else 1
    return groups if groups and channels % groups == 0 else 1


def _ending(
    flow: Dataflow, product: Op, factor: str, source: str, added: bool
) -> tuple[list[Op], bool]:
    """The steps from the product on, and whether the input is added to it."""
    end = [product]
    for addend in (factor, source):
        if not added and (total := _sum(flow, end[-1].result, addend)):
            end.append(total)
            added = True
        end += _reshaped(flow, end[-1].result, flow.shape(source))
    return end, added


def _way(flow: Dataflow, source: str, value: str) -> list[Op]:
    """The steps from a value to another, as far back as each reads one tensor."""
    way: list[Op] = []
    while value != source and len(way) < _LONGEST:
        op = flow.made_by.get(value)
        if op is None or len(op.inputs) != 1 or op.result != value:
            break
        way.insert(0, op)
        value = op.inputs[0]
    return way


def _compare(steps: list[Op]) -> tuple[list[tuple[Step, Op]], list[str]]:
    """Give the steps that are there, each with its operator, and what differs in the others."""
    wanted, kinds = [step.kind for step in CHAIN], [op.kind for op in steps]
    matched: list[tuple[Step, Op]] = []
    differences: list[str] = []
    for what, i, i2, j, j2 in SequenceMatcher(None, wanted, kinds, False).get_opcodes():
        missing = " and ".join(f"the {step.name}" for step in CHAIN[i:i2])
        others = ", ".join(kinds[j:j2])
        if what == "equal":
            matched += zip(CHAIN[i:i2], steps[j:j2], strict=True)
        elif what == "replace":
            differences.append(f"{missing} is replaced by {others}")
        elif what == "insert":
            where = f"before the {CHAIN[i].name}" if i < len(CHAIN) else "after the softmax"
            differences.append(f"there is {others} {where}")
        elif (i, i2) == _WITHOUT_BRANCH:
            differences.append("the pool reads the input")
        else:
            differences.append(f"{missing} is missing")
    return matched, differences


def _wrong_arguments(flow: Dataflow, step: Step, op: Op, sizes: Mapping[str, int]) -> Iterator[str]:
    if step.kind not in _ARGUMENTS:
        return
    given = _ARGUMENTS[step.kind](flow, op)
    for name, wanted in step.wants.items():
        wanted = sizes[wanted] if isinstance(wanted, str) else wanted
        if given[name] != wanted:
            yield f"the {step.name} has {name} {given[name]}, not {wanted}"


def _convolution(flow: Dataflow, op: Op) -> dict[str, Any]:
    weight = getattr(op.arguments["weight"], "name", "")
    padding = op.arguments.get("padding", 0)
    return {
        "kernel": flow.shape(weight)[2:],
        "outputs": (flow.shape(weight) or (0,))[0],
        "groups": op.arguments.get("groups", 1),
        "stride": _pair(op.arguments.get("stride", 1)),
        "padding": (0, 0) if padding in ("valid", "same") else _pair(padding),
        "transposed": op.arguments.get("transposed", False),
    }


def _max_pool(flow: Dataflow, op: Op) -> dict[str, Any]:
    # With a stride of 1 there is nothing to round: ceil_mode has no effect.
    kernel = _pair(op.arguments["kernel_size"])
    return {
        "kernel": kernel,
        "stride": _pair(op.arguments.get("stride") or kernel),
        "padding": _pair(op.arguments.get("padding", 0)),
        "dilation": _pair(op.arguments.get("dilation", 1)),
    }


_ARGUMENTS: dict[str, Callable[[Dataflow, Op], dict[str, Any]]] = {
    "convolution": _convolution,
    "max_pool": _max_pool,
    "batch_norm": lambda flow, op: {"training": op.arguments.get("training", False)},
}


def _pair(value: Any) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, tuple) else (value,)
    return values * 2 if len(values) == 1 else values


def _read_keys(flow: Dataflow, step: Step, op: Op, keys: dict[str, str | None]) -> Iterator[str]:
    """Note the keys of a step's weights."""
    for part in _WEIGHTS[step.kind]:
        argument = op.arguments.get(part)
        key = keys[f"{step.module}.{part}"] = flow.key(argument)
        optional = (step.kind, part) == ("convolution", "bias")
        if argument is None and not optional:
            yield f"the {step.name} has no {part}"
        elif argument is not None and key is None:
            yield f"the {part} of the {step.name} is computed"


def _wrong_positions(
    flow: Dataflow, tail: list[Op], shape: tuple[Dimension, ...], product: Op, factor: str
) -> Iterator[str]:
    """Check that the positions of each map are weighed together, and come out where they were.

    A reshape keeps the order of the elements: it is enough to know which axes precede the
    positions, where the softmax runs and where a map is spread over the channels of its group.
    """
    before, per_map = _size(shape[:2]), _spread(flow.shape(_unshaped(flow, factor)), shape)
    for op in [*tail, product]:
        given, made = flow.shape(op.inputs[0]), flow.shape(op.result)
        if op.kind == "softmax":
            along = axes(op, len(given), -1)
            row = along and along == tuple(range(along[0], along[-1] + 1))
            if not row or (_size(given[: along[0]]), _size(given[along[-1] + 1 :])) != (before, ()):
                where = f"axis {along[0]}" if len(along) == 1 else f"axes {_text(along)}"
                yield f"the softmax runs over {where} of {_text(given)}"
            continue
        if op is product:
            given = flow.shape(tail[-1].result)
        elif op.kind == "repeat_interleave":
            at, count = axis(op, len(given), -1), op.arguments.get("repeats", 0)
            at = len(given) if at is None else at + 1
            given, made = (*given[:at], 1, *given[at:]), (*given[:at], count, *given[at:])
        elif op.kind != "expand":
            continue
        given = (1,) * (len(made) - len(given)) + given
        grown = [i for i, size in enumerate(made) if size != given[i]]
        if not grown:
            continue
        fits = all(given[i] == 1 for i in grown) and _size(given[: grown[-1]]) == before
        if not fits or _size(made[i] for i in grown) != _size((per_map,)):
            yield f"the attention is spread from {_text(given)} to {_text(made)}"
            return
        before, per_map = _size((*before, per_map)), 1
    made = flow.shape(product.result)
    if per_map != 1 or made != flow.shape(factor):
        yield f"the product has shape {_text(made)} for an input of {_text(flow.shape(factor))}"


def _spread(shape: tuple[Dimension, ...], maps: tuple[Dimension, ...]) -> int:
    """How many channels share a map."""
    both = (shape[1], maps[1]) if maps else (1, 1)
    return both[0] // both[1] if isinstance(both[0], int) and isinstance(both[1], int) else 0


def _size(shape: Iterable[Dimension]) -> tuple[Dimension, ...]:
    """The axes of more than one element; those of known size in one."""
    known = prod(size for size in shape if isinstance(size, int))
    unknown = sorted(size for size in shape if isinstance(size, str))
    return (*([known] if known != 1 else []), *unknown)


def _text(shape: Iterable[Dimension]) -> str:
    return f"({', '.join(map(str, shape))})"


def _narrower(flow: Dataflow, ops: list[Op], source: str) -> Iterator[str]:
    """Check that nothing inside has less digits than the input."""
    dtypes = [meta.dtype for op in ops if (meta := flow.meta(op.result))]
    own = flow.meta(source)
    for dtype in dict.fromkeys(dtypes):
        if own and dtype != own.dtype and WIDTHS.get(dtype, 0) <= WIDTHS.get(own.dtype, 9):
            yield f"part of it is computed in {dtype}"


def _sum(flow: Dataflow, product: str, source: str) -> Op | None:
    """The step that adds the input to a product."""
    for op in flow.readers.get(product, []):
        both = op.kind == "add" and Counter(op.inputs) == Counter((product, source))
        if both and op.arguments.get("alpha", 1) == 1:
            return op
    return None


# The groups of a site


def _sites(flow: Dataflow, groups: list[_Group]) -> list[_Site]:
    """Put the groups of a module together."""
    by_result = {group.result: group for group in groups}
    sites, rest = [], list(groups)
    for join in flow.ops:
        if join.kind == "join" and join.inputs and by_result.keys() >= set(join.inputs):
            members = tuple(by_result[value] for value in join.inputs)
            if site := _joined(flow, join, members):
                sites.append(site)
                rest = [group for group in rest if group not in members]
    by_source: dict[tuple[str, ...], list[_Group]] = {}
    for group in rest:
        source = _origins(flow, group.source)[-1][0]
        module = _stack([op.node for op in group.ops])[:-1][-1:]
        by_source.setdefault((source, *module), []).append(group)
    for (source, *_), found in by_source.items():
        parts = [group for group in found if group.source != source]
        for group in found:
            if group not in parts or len(parts) == 1:
                sites.append(_Site((group,), (), group.source, group.result, group.differences))
        if len(parts) > 1:
            texts = _once(text for group in parts for text in group.differences)
            texts = texts or ("its groups are not joined again",)
            sites.append(_Site(tuple(parts), (), source, "", texts))
    return sites


def _joined(flow: Dataflow, join: Op, groups: tuple[_Group, ...]) -> _Site | None:
    """The site whose groups a step joins, if they are parts of one value."""
    origins = [dict(_origins(flow, group.source)) for group in groups]
    common = [value for value in origins[0] if all(value in others for others in origins)]
    common = [value for value in common if value != groups[0].source]
    if not common or axis(join, len(flow.shape(join.result))) != 1:
        return None
    source = common[0]
    shape, joining = flow.shape(source), [join]
    sizes = [_channels(flow, group.source) for group in groups]
    starts = [places[source] for places in origins]
    differences = list(_once(text for group in groups for text in group.differences))
    if sorted(starts) == [k * sizes[0] for k in range(len(groups))] and starts != sorted(starts):
        order = ", ".join(str(start // sizes[0]) for start in starts)
        differences.append(f"its groups are joined in the order {order}")
    elif starts != [k * sizes[0] for k in range(len(groups))] or len(set(sizes)) > 1:
        differences.append(f"its groups of {_text(sizes)} channels start at {_text(starts)}")
    elif sizes[0] * len(groups) != shape[1]:
        differences.append(f"its groups cover {sizes[0] * len(groups)} of {shape[1]} channels")
    if len({group.maps for group in groups}) > 1:
        differences.append("its groups have different numbers of maps")
    joining += _reshaped(flow, join.result, shape)  # of a stack
    if all(_NO_SUM in group.differences for group in groups) and (
        total := _sum(flow, joining[-1].result, source)
    ):
        differences.remove(_NO_SUM)
        joining.append(total)
    result = joining[-1].result
    if flow.shape(result) != shape and not differences:
        differences.append(f"its result has shape {_text(flow.shape(result))}")
    norms = frozenset().union(*(group.norms for group in groups))
    if len(norms) > 1 and not differences:
        differences.append(_different_norms(norms))
    used = Counter(key for group in groups for key in set(group.keys.values()) if key)
    if any(count > 1 for count in used.values()):
        differences.append("one set of weights serves several groups")
    return _Site(groups, tuple(joining), source, result, tuple(differences))


def _weighed_at_once(flow: Dataflow, product: Op) -> Iterator[_Site]:
    """Give the site whose groups' attention is joined before one product with the input of all."""
    for factor, value in (product.inputs, product.inputs[::-1]) if len(product.inputs) == 2 else ():
        after: list[Op] = []
        while (op := flow.made_by.get(value)) and op.kind in ("add_one", "repeat_interleave"):
            after.insert(0, op)
            value = op.inputs[0]
        if op is None or op.kind != "join" or len(flow.shape(factor)) != 4:
            continue
        found = [_part(flow, product, factor, attention) for attention in op.inputs]
        groups = tuple(group for group in found if group)
        each = {(1, _channels(flow, group.source)) for group in groups}
        spread = [o for o in after if o.kind == "repeat_interleave"]
        alone = {(axis(o, 4, -1), o.arguments.get("repeats")) for o in spread} == each
        if len(groups) < len(op.inputs) or spread and not alone:
            continue
        if len(spread) < len(after):  # 1 is added
            kept = [tuple(t for t in group.differences if t != _NO_SUM) for group in groups]
            groups = tuple(map(lambda g, k: replace(g, differences=k), groups, kept))
        if (
            site := _joined(flow, replace(op, node=product.node), groups)
        ) and site.source == factor:
            yield replace(site, joining=(op, *after, product, *site.joining[1:]))
            return


def _part(flow: Dataflow, product: Op, factor: str, attention: str) -> _Group | None:
    """Give the group of one attention, as if a product with its own part of the input followed."""
    branch = [op for op in _way(flow, factor, attention) if op.kind == "convolution"][-2:]
    if len(branch) < 2:
        return None
    part = branch[0].inputs[0]
    node = replace(product.node, outputs=(part,))
    own = replace(product, node=node, inputs=(part, attention))
    group = _group(flow, own, part, attention)
    return group and replace(group, ops=tuple(op for op in group.ops if op is not own))


def _origins(flow: Dataflow, value: str) -> list[tuple[str, int]]:
    """The maps that a value is a range of channels of, with its first channel; itself first."""
    samples, *_, height, width = flow.shape(value)
    origins, start = [(value, 0)], 0
    while (op := flow.made_by.get(value)) and op.kind in ("reshape", "split", "slice"):
        inner = op.inputs[0]
        if len(flow.shape(inner)) < 4:
            break
        first, *between, high, wide = flow.shape(inner)
        if (first, high, wide) != (samples, height, width) or len(between) < 1:
            break
        if any(not isinstance(size, int) for size in between):
            break
        if op.kind != "reshape":
            at = _start(flow, op, value) if axis(op, len(between) + 3) == 1 else None
            if at is None:
                break
            start += at * prod(size for size in between[1:] if isinstance(size, int))
        value = inner
        if len(between) == 1:
            origins.append((value, start))
    return origins


def _channels(flow: Dataflow, value: str) -> int:
    """The size of axis 1, which is found known before."""
    size = flow.shape(value)[1]
    assert isinstance(size, int)
    return size


def _start(flow: Dataflow, op: Op, value: str) -> int | None:
    """Where a part begins on the axis along which it was cut."""
    size = _channels(flow, op.inputs[0])
    name = op.node.target.split(".")[1].removeprefix("unsafe_")
    if op.kind == "split":
        place, given = op.node.outputs.index(value), op.arguments
        sizes = given.get("split_sizes", given.get("split_size"))
        if isinstance(sizes, tuple):
            return sum(sizes[:place])
        if name in ("tensor_split", "hsplit"):
            return _bounds(given.get("sections", given.get("indices")), size)[place]
        each = {"unbind": 1, "split": sizes, "chunk": -(-size // given.get("chunks", 1))}
        return place * each[name]
    start = op.arguments.get("start" if name != "select" else "index") or 0
    if not isinstance(start, int) or op.arguments.get("step", 1) != 1:
        return None
    return start % size


def _bounds(given: Any, size: int) -> tuple[int, ...]:
    """Where the parts begin: so many that are as alike as can be, or at given places."""
    if isinstance(given, tuple):
        return (0, *given)
    return tuple(part * (size // given) + min(part, size % given) for part in range(given))


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _different_norms(norms: Iterable[tuple[Any, Any]]) -> str:
    both = " and ".join(f"{m} and {e}" for m, e in sorted(norms))
    return f"its batch norms differ in momentum and eps, {both}"


# What a site must not share


def _escaping(flow: Dataflow, site: _Site) -> _Site:
    """Find values inside that are used outside."""
    if site.differences:
        return site
    norms = frozenset().union(*(group.norms for group in site.groups))
    if len(norms) > 1:
        return replace(site, differences=(_different_norms(norms),))
    ops = site.ops
    for group in site.groups:
        weighed = False
        for op in group.ops:
            weighed = weighed or op.kind == "softmax"
            outputs = [output for output in op.node.outputs if output and output != site.result]
            if any(_leaves(flow, output, ops) for output in outputs):
                what = "attention" if weighed else f"value {op.result!r}"
                return replace(site, differences=(f"its {what} is used elsewhere too",))
    if any(_leaves(flow, op.result, ops) for op in site.joining if op.result != site.result):
        return replace(site, differences=("its sum is used elsewhere too",))
    return site


def _leaves(flow: Dataflow, value: str, ops: set[Op]) -> bool:
    readers = [op for op in flow.readers.get(value, []) if op not in ops]
    return value in flow.ends or any(not _asks(flow, op, ops) for op in readers)


def _asks(flow: Dataflow, op: Op, ops: set[Op]) -> bool:
    """Whether a step only asks for a size that is needed inside, or asserts something."""
    return all(
        value is None
        or not (flow.meta(value) or value in flow.ends)
        and all(reader in ops or _asks(flow, reader, ops) for reader in flow.readers.get(value, []))
        for value in op.node.outputs
    )


def _tied(flow: Dataflow, sites: list[_Site]) -> list[_Site]:
    """Find weights that something else uses too."""
    users: dict[str, set[Op]] = {}
    for op in flow.ops:
        for value in op.reads:
            if value in flow.program.weights:
                weight = flow.program.weights[value].key
                users.setdefault(flow.program.aliases.get(weight, weight), set()).add(op)
    own: dict[Any, set[Op]] = {}
    for site in sites:
        if not site.differences:
            own.setdefault(site.layer, set()).update(site.ops)
    tied = []
    for site in sites:
        keys = [key for group in site.groups for key in group.keys.values() if key]
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if not site.differences:
            shared = twice or [key for key in keys if users[key] - own[site.layer]]
            if shared:
                site = replace(site, differences=(f"{shared[0]!r} is used elsewhere too",))
        tied.append(site)
    return tied


# What is told of a site


def _covered(flow: Dataflow, site: _Site) -> frozenset[str]:
    """The names of all nodes that nothing else needs."""
    ops = site.ops
    way = [value for op in ops for value in op.inputs]  # back to what the groups are cut from
    for value in way:
        op = flow.made_by.get(value)
        if value == site.source or op is None or op in ops:
            continue
        outputs = [output for output in op.node.outputs if output]
        if any(_leaves(flow, output, ops) for output in outputs):
            continue
        ops.add(op)
        way.append(op.inputs[0])
    values = {output for op in ops for output in op.node.outputs if output} - {site.result}
    nodes = [op.node for op in ops] + [n for value in values for n in flow.passing.get(value, [])]
    asked = list(values)
    for value in asked:
        asking = [op for op in flow.readers.get(value, []) if op not in ops]
        nodes += [op.node for op in asking if _asks(flow, op, ops)]
        asked += [v for op in asking if _asks(flow, op, ops) for v in op.node.outputs if v]
    return frozenset(node.name for node in nodes)


def _stack(nodes: Iterable[Node]) -> list[str]:
    """The paths of the modules that all nodes are called in, the innermost last."""
    paths = [tuple(module.path for module in node.modules) for node in nodes]
    return [level[0] for level in zip(*paths, strict=False) if len(set(level)) == 1]


def _module(flow: Dataflow, names: frozenset[str]) -> str:
    return (_stack(n for n in flow.program.nodes if n.name in names) or [""])[-1]


def _call(flow: Dataflow, site: _Site) -> UlsamCall:
    nodes = _covered(flow, site)
    ((momentum, epsilon),) = site.groups[0].norms
    dropping = ("dropout", "feature_dropout", "native_dropout")
    return UlsamCall(
        nodes=nodes,
        source=site.source,
        result=site.result,
        num_splits=sum(group.maps for group in site.groups),
        channels=_channels(flow, site.source),
        module=_module(flow, nodes),
        weights=tuple(group.keys for group in site.groups),
        momentum=round(1 - momentum, 12),
        epsilon=epsilon,
        dropouts=tuple(
            node.name
            for node in flow.program.nodes
            if node.name in nodes and node.target.split(".")[1].rstrip("_") in dropping
            if node.arguments.get("p")
        ),
    )


def _near_miss(flow: Dataflow, site: _Site) -> NearMiss:
    nodes = _covered(flow, replace(site, result=site.result or site.groups[-1].result))
    return NearMiss(nodes, site.source, _module(flow, nodes), "; ".join(site.differences))
