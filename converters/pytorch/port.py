"""``port_weights``: plan every weight, check the whole plan, then assign.

Imports NumPy; Keras only inside functions, through ``targets``, ``flattening``, ``doubts`` and
``shuffles``.
"""

import fnmatch
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.pytorch import port_report as accounts
from converters.pytorch.doubts import doubts
from converters.pytorch.flattening import Graph, Order, Unknown
from converters.pytorch.matching import NameMap, did_you_mean, match, read_name_map
from converters.pytorch.mismatch import Mismatch, Missing, Wrong, few, wrong_prefix
from converters.pytorch.modules import UlsamSite, find_ulsam, join, module_of
from converters.pytorch.port_report import PortReport, SettingsRecord, SourceRecord, WeightRecord
from converters.pytorch.shuffles import Shuffles
from converters.pytorch.tables import Row
from converters.pytorch.targets import Leaf, Target, describe

_ALONE = "left alone by the name map"


def port_weights(
    state: Mapping[str, np.ndarray],
    target: Any,
    *,
    prefix: str = "",
    strict: bool = True,
    name_map: NameMap | None = None,
    ignore_keys: Sequence[str] = (),
) -> PortReport:
    """Fill a Keras layer or model with the weights of a PyTorch state dict.

    The whole port is planned and checked first: on an error no weight has been touched. What a
    state dict does not hold stays as it is, the epsilon and momentum of normalizations among it.

    A layer takes the PyTorch module whose path is its name (``features.3.conv.0``), the same with
    underscores for dots (``features_3_conv_0``; Keras's PyTorch back end takes no dots in names),
    or its place in nested models and attributes (``self.features[3].conv[0]``). A layer behind a
    flattened map, as a classifier may be, gets its features in Keras's order, (H, W, C), as far as
    the model's graph shows the flattening; where it does not, there is a warning.

    Args:
        state: The state dict, from ``load_checkpoint`` or NumPy arrays of your own. Floating point
            of any precision; it is cast to the dtypes of the Keras weights.
        target: A built ULSAM or SubSpace layer, or a built Keras 3 model: functional, Sequential or
            subclassed, with nested models, of ULSAM, Conv, DepthwiseConv, ConvTranspose, Dense,
            BatchNormalization, LayerNormalization, GroupNormalization, PReLU and Embedding layers
            and any layers without weights.
        prefix: Path of the PyTorch module that the target stands for, ``"d0_ulsam"`` for example;
            a trailing dot makes no difference. Keys elsewhere are listed, and no error. Default:
            the root; for a lone ULSAM layer, the one ULSAM module there is.
        strict: Whether a missing, left-over or wrong-shaped key is an error. If False, what fits by
            name and shape is ported, and the port report lists the rest; that nothing at all fits
            is an error still.
        name_map: Paths of PyTorch modules, after the prefix, by the names of Keras layers (layers
            of one name by their paths in the port report, ``encoder/conv``), or a function from
            name to path. None for a path leaves the layer as it is. Layers that a dict does not
            name go by their names.
        ignore_keys: Shell patterns (``*``, ``?``, ``[0-9]``) of keys that are left out, ``"aux.*"``
            for example, as if the state dict did not have them.

    Returns:
        The port report: what became of every key, and where every weight came from.

    Raises:
        ValueError: If the state dict does not fit (see `strict`), holds NaN or infinite values or a
            negative running variance, or an argument makes no sense. The message is a single line.

    Example:
    >>> inputs = keras.Input((56, 56, 64))
    >>> layer = ULSAM(4)
    >>> model = keras.Model(inputs, layer(inputs))
    >>> print(port_weights(load_checkpoint("net.pth"), layer, prefix="d0_ulsam"))
    """
    everything = _arrays(state)
    ignored = ignored_keys(everything, ignore_keys)
    arrays = {key: array for key, array in everything.items() if key not in ignored}
    goal = describe(target)
    everywhere = find_ulsam(arrays)
    prefix = prefix.strip(".")
    if goal.lone_ulsam and not prefix and name_map is None:
        prefix = _only_site(everywhere, goal)
    source = _Source.under(prefix, arrays)
    if not source.keys:
        raise ValueError(wrong_prefix(prefix, arrays, [site.prefix for site in everywhere]))

    told: dict[str, str | None] = {}
    if goal.lone and name_map is None:
        fits = not goal.lone_ulsam or "" in source.sites
        chosen: dict[str, str | None] = {goal.leaves[0].label: "" if fits else None}
    else:
        others = [(label, layer.name) for label, layer in goal.others]
        told = read_name_map(name_map, goal.leaves, others, source.modules, source.sites)
        chosen = match(goal.leaves, source.modules, source.sites, told)

    alone = {label for label, path in told.items() if path is None}
    plan = _Plan()
    for key, pattern in ignored.items():
        plan.account_key(key, everything[key], accounts.IGNORED, f"as {pattern!r} says")
    graph = Graph(target, [leaf.layer for leaf in goal.leaves])
    orders = _Orders(graph, Shuffles(graph))
    for leaf in goal.leaves:
        path = chosen[leaf.label]
        if leaf.label in alone:
            plan.leave_alone(leaf, source.of_module(path, leaf) if path is not None else [])
        elif path is None:
            plan.miss(leaf, join(prefix, told.get(leaf.label) or leaf.names[0]))
        else:
            _plan_leaf(plan, leaf, path, source, orders)
    _settle_weights(plan, goal, alone)
    _settle_keys(plan, source)
    plan.mismatch.refuse_values()
    if strict or not plan.values:
        unmatched = [leaf for leaf in goal.leaves if chosen[leaf.label] is None]
        unmatched = [leaf for leaf in unmatched if leaf.label not in told]
        paths = [site.prefix for site in everywhere]
        paths += [] if goal.lone else dict.fromkeys(map(module_of, arrays))
        plan.mismatch.refuse(goal, unmatched, paths, list(arrays), prefix)

    ported = [
        leaf for leaf in goal.leaves if chosen[leaf.label] is not None and leaf.label not in alone
    ]
    plan.warnings += _dead_branches(source, [chosen[leaf.label] for leaf in ported])
    plan.warnings += orders.shuffles.warnings
    plan.warnings += doubts(ported, [layer for _, layer in goal.others], graph)
    for weight, value in plan.values:
        weight.assign(value)
    for text in plan.warnings:
        warnings.warn(text, stacklevel=2)
    return PortReport(
        sources=tuple(plan.sources[key] for key in everything),
        weights=tuple(plan.weights[id(weight)] for weight in goal.weights),
        warnings=tuple(plan.warnings),
        settings=tuple(
            SettingsRecord(leaf.label, leaf.settings()) for leaf in ported if leaf.table.settings
        ),
    )


def ignored_keys(keys: Iterable[str], patterns: Sequence[str]) -> dict[str, str]:
    """Find the keys that patterns leave out.

    Args:
        keys: The keys of a state dict.
        patterns: Shell patterns, as `ignore_keys` of ``port_weights``.

    Returns:
        The first pattern that a key matches, by key.

    Raises:
        ValueError: If a pattern matches no key, or if nothing is left.
    """
    keys = list(keys)
    found = {key: p for p in reversed(patterns) for key in fnmatch.filter(keys, p)}
    for pattern in patterns:
        if not fnmatch.filter(keys, pattern):
            raise ValueError(
                "`ignore_keys` must match keys of the checkpoint; this pattern matches none"
                f"{did_you_mean(pattern, keys)}. Received: {pattern!r}"
            )
    if keys and len(found) == len(keys):
        raise ValueError(
            "`ignore_keys` must leave keys to port; these patterns match all. "
            f"Received: {', '.join(map(repr, patterns))}"
        )
    return found


@dataclass(frozen=True)
class _Source:
    """The part of a state dict that is under a prefix.

    Attributes:
        prefix: The prefix, without a trailing dot.
        arrays: The whole state dict.
        keys: Its keys by what follows the prefix.
        sites: ULSAM modules by path after the prefix.
        modules: Paths of the other modules, after the prefix.
    """

    prefix: str
    arrays: Mapping[str, np.ndarray]
    keys: Mapping[str, str]
    sites: Mapping[str, UlsamSite]
    modules: Sequence[str]

    @classmethod
    def under(cls, prefix: str, arrays: Mapping[str, np.ndarray]) -> "_Source":
        head = f"{prefix}." if prefix else ""
        keys = {key[len(head) :]: key for key in arrays if key.startswith(head)}
        sites = find_ulsam({name: arrays[key] for name, key in keys.items()})
        parts = ("conv_dws", "bn_dws", "conv_point", "bn_point")
        inner = {join(base, part) for site in sites for base in site.bases for part in parts}
        modules = [m for m in dict.fromkeys(map(module_of, keys)) if m not in inner]
        return cls(prefix, arrays, keys, {site.prefix: site for site in sites}, modules)

    def of_module(self, path: str, leaf: Leaf) -> list[str]:
        """Give the keys of a layer's module, in the state dict's order; none if it is not there."""
        site = self.sites.get(path) if leaf.table.per_group else None
        parts = [row.key for row in leaf.table.rows] + list(leaf.table.counters)
        names = {join(base, part) for base in (site.bases if site else (path,)) for part in parts}
        return [key for name, key in self.keys.items() if name in names]

    def of_site(self, site: UlsamSite, name: str) -> list[np.ndarray]:
        """Give the arrays of one name in every subspace that has it."""
        keys = (self.keys.get(join(base, name)) for base in site.bases)
        return [self.arrays[key] for key in keys if key is not None]


@dataclass
class _Plan:
    """What is to be assigned, and what has become of every weight and key so far."""

    values: list[tuple[Any, np.ndarray]] = field(default_factory=list)
    weights: dict[int, WeightRecord] = field(default_factory=dict)
    sources: dict[str, SourceRecord] = field(default_factory=dict)
    mismatch: Mismatch = field(default_factory=Mismatch)
    warnings: list[str] = field(default_factory=list)

    def account(
        self, weight: Any, label: str, status: str, detail: str, keys: Sequence[str] = ()
    ) -> None:
        shape, dtype = tuple(weight.shape), str(weight.dtype)
        record = WeightRecord(label, shape, dtype, status, tuple(keys), detail)
        self.weights[id(weight)] = record

    def account_key(
        self, key: str, array: np.ndarray, status: str, detail: str, weight: str | None = None
    ) -> None:
        record = SourceRecord(key, tuple(array.shape), array.dtype.name, status, weight, detail)
        self.sources[key] = record

    def leave(self, leaf: Leaf, why: str) -> None:
        for _, label, weight in leaf.rows():
            self.account(weight, label, accounts.LEFT_OVER, why)

    def miss(self, leaf: Leaf, path: str) -> None:
        self.leave(leaf, f"no module {path!r}")
        base = join(path, "subspaces.0") if leaf.table.per_group else path
        self.mismatch.missing += [
            Missing(join(base, row.key), leaf, label, tuple(weight.shape))
            for row, label, weight in leaf.rows()
        ]

    def leave_alone(self, leaf: Leaf, keys: Sequence[str]) -> None:
        self.leave(leaf, _ALONE)
        self.mismatch.explained |= dict.fromkeys(keys, f"of layer {leaf.label!r}, {_ALONE}")


def _arrays(state: Any) -> dict[str, np.ndarray]:
    """Check that the state dict is one, and give its values as arrays."""
    if not isinstance(state, Mapping) or not state:
        kind = "an empty one" if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(
            "`state` must be a state dict, arrays by key, as load_checkpoint gives it. "
            f"Received: {kind}"
        )
    arrays = {}
    for key, value in state.items():
        array = np.asarray(None if isinstance(value, Mapping) else value)
        if not isinstance(key, str) or array.dtype.kind in "OSU":
            raise ValueError(
                "`state` must be a state dict, arrays by key; load_checkpoint takes it out of a "
                f"training checkpoint. Received: {key!r}: {type(value).__name__}"
            )
        arrays[key] = array
    return arrays


def _only_site(sites: Sequence[UlsamSite], goal: Target) -> str:
    """Give the path of the one ULSAM module, for a lone layer without a prefix."""
    if len(sites) == 1:
        return sites[0].prefix
    if not sites:
        raise ValueError(
            "The checkpoint has no ULSAM module, no keys that end in 'conv_dws.weight' and "
            f"'conv_point.weight'. Received: target={goal.name}, prefix=''"
        )
    raise ValueError(
        f"The checkpoint has {len(sites)} ULSAM modules; choose one with `prefix`: "
        f"{few((repr(site.prefix) for site in sites), 8)}. "
        f"Received: target={goal.name}, prefix=''"
    )


def _plan_leaf(plan: _Plan, leaf: Leaf, path: str, source: _Source, orders: "_Orders") -> None:
    """Plan the weights of a layer whose module is there."""
    bases: Sequence[str] = [path]
    if leaf.table.per_group:
        site = source.sites[path]
        bases = site.bases
        if text := _other_ulsam(leaf, site, source.prefix):
            plan.leave(leaf, text)
            plan.mismatch.wrong.append(Wrong(text, leaf.label))
            plan.mismatch.explained |= dict.fromkeys(source.of_module(path, leaf), text)
            return
    for row, label, weight in leaf.rows():
        names = [join(base, row.key) for base in bases]
        absent = [join(source.prefix, name) for name in names if name not in source.keys]
        keys = [source.keys[name] for name in names if name in source.keys]
        if absent:
            shape = tuple(weight.shape)
            plan.mismatch.missing += [Missing(key, leaf, label, shape) for key in absent]
            plan.mismatch.explained |= dict.fromkeys(keys, f"{few(map(repr, absent))} is missing")
            plan.account(weight, label, accounts.LEFT_OVER, f"no key {few(map(repr, absent))}")
        else:
            _plan_weight(plan, leaf, row, label, weight, keys, source.arrays, orders)
    for name in (join(base, counter) for base in bases for counter in leaf.table.counters):
        if key := source.keys.get(name):
            detail = "training-step counter, no counterpart in Keras"
            plan.account_key(key, source.arrays[key], accounts.COUNTER, detail)


def _other_ulsam(leaf: Leaf, site: UlsamSite, prefix: str) -> str:
    """Say how the checkpoint's ULSAM differs from the layer; empty if it does not."""
    splits, channels = leaf.layer.num_splits, leaf.layer.depthwise_conv.kernel.shape[2]
    if (site.num_splits, site.channels) == (splits, channels):
        return ""
    return (
        f"the checkpoint's ULSAM {join(prefix, site.prefix)!r} has {site.num_splits} subspaces and "
        f"{site.channels} channels, layer {leaf.label!r} has num_splits={splits} and {channels} "
        "channels"
    )


@dataclass(frozen=True)
class _Orders:
    """Where features and channels come in another order than in PyTorch.

    Attributes:
        graph: Where maps are flattened.
        shuffles: Where channels become positions.
    """

    graph: Graph
    shuffles: Shuffles

    def arrange(
        self, leaf: Leaf, row: Row, value: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, list[str], str]:
        """Give a value in Keras's order, what was done to it, and what may be wrong with that."""
        moves = row.features is not None and self.graph.moves_channels(
            leaf.layer, value.shape, shape
        )
        if isinstance(moves, Unknown):
            return value, [], f"Layer {leaf.label!r} was ported as it is, yet {moves.why}"
        if moves:
            return np.moveaxis(value, 0, -1), ["C,... -> ...,C"], ""
        if value.shape != shape:
            return value, [], ""
        done: list[str] = []
        for channels, axis in (
            (self.shuffles.inputs.get(id(leaf.layer)), row.inputs),
            (self.shuffles.outputs.get(id(leaf.layer)), row.outputs),
        ):
            if channels is not None and axis is not None and shape[axis] == len(channels.index):
                value, done = value.take(channels.index, axis), [*done, channels.name]
        if row.features is None:
            return value, done, ""
        order = self.graph.order(leaf.layer, shape[row.features])
        if isinstance(order, Order):
            value, done = value.take(order.index, row.features), [*done, order.name]
        elif isinstance(order, Unknown):
            doubt = (
                f"Layer {leaf.label!r} may read a flattened map, whose features PyTorch orders "
                f"(C, H, W) and Keras (H, W, C): {order.why}. It was ported in PyTorch's order"
            )
            return value, done, doubt
        return value, done, ""


def _plan_weight(
    plan: _Plan,
    leaf: Leaf,
    row: Row,
    label: str,
    weight: Any,
    keys: Sequence[str],
    arrays: Mapping[str, np.ndarray],
    orders: _Orders,
) -> None:
    """Plan one weight from keys that are there."""
    parts, shape = [arrays[key] for key in keys], tuple(weight.shape)
    value, doubt = _transformed(row, parts, shape), ""
    done: list[str] = []
    if value is not None:
        value, done, doubt = orders.arrange(leaf, row, value, shape)
    if value is None or value.shape != shape:
        found = value.shape if value is not None and value.ndim == len(shape) else None
        text = _of_another_shape(keys, parts, label, shape, found)
        plan.account(weight, label, accounts.LEFT_OVER, text)
        plan.mismatch.wrong.append(Wrong(text, leaf.label, row.weight, found, shape))
        plan.mismatch.explained |= dict.fromkeys(keys, text)
        return
    joined = [f"{len(keys)} joined"] if len(keys) > 1 else []
    detail = ", ".join([*joined, row.transform.name, *done])
    if doubt and row is leaf.table.rows[0]:
        plan.warnings.append(f"{doubt}: compare the model's outputs with PyTorch's.")
    infinite = [key for key, part in zip(keys, parts, strict=True) if not _finite(part)]
    dtype = _dtype(weight.dtype)
    with np.errstate(over="ignore"):
        cast = value.astype(dtype, copy=False)
    plan.mismatch.not_finite += infinite
    if not row.negative:
        below = [key for key, part in zip(keys, parts, strict=True) if (part < 0).any()]
        plan.mismatch.negative += below
    if not infinite and dtype.itemsize < value.dtype.itemsize and not _finite(cast):
        plan.mismatch.overflows.append((keys[0], dtype.name))
    plan.values.append((weight, cast))
    plan.account(weight, label, accounts.PORTED, detail, keys)
    for key, part in zip(keys, parts, strict=True):
        plan.account_key(key, part, accounts.PORTED, detail, label)


def _transformed(
    row: Row, parts: Sequence[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray | None:
    """Give the value in Keras's layout; None if there is none."""
    if not all(_is_float(part.dtype) for part in parts):
        return None
    if len(parts) > 1 and (len({part.shape for part in parts}) > 1 or parts[0].ndim == 0):
        return None
    return row.join(parts, shape)


def _of_another_shape(
    keys: Sequence[str],
    parts: Sequence[np.ndarray],
    label: str,
    shape: tuple[int, ...],
    found: tuple[int, ...] | None,
) -> str:
    integers = [part.dtype.name for part in parts if not _is_float(part.dtype)]
    shapes = list(dict.fromkeys(tuple(part.shape) for part in parts))
    text = f"{keys[0]!r} {' and '.join(map(str, shapes))}"
    text += f" of each of {len(keys)} subspaces" if len(keys) > 1 else ""
    text += f" of {integers[0]}, no floating point," if integers else ""
    text += f", {found} in Keras's order," if found and found != shapes[0] else ""
    return f"{text} for {label!r} {shape}"


def _is_float(dtype: np.dtype) -> bool:
    return "float" in dtype.name  # bfloat16 and the float8 types are not of NumPy's kind "f"


def _finite(array: np.ndarray) -> bool:
    plain = array.dtype in (np.float16, np.float32, np.float64)
    return bool(np.isfinite(array if plain else array.astype(np.float32)).all())


def _dtype(name: str) -> np.dtype:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))


def _settle_weights(plan: _Plan, goal: Target, alone: set[str]) -> None:
    """Account for the weights that no table reaches."""
    for weight in goal.weights:
        if found := goal.unreachable.get(id(weight)):
            why = _ALONE if found.owner in alone else found.why
            plan.account(weight, found.label, accounts.LEFT_OVER, why)
            plan.mismatch.unreachable += [] if found.owner in alone else [(found.label, found.why)]


def _settle_keys(plan: _Plan, source: _Source) -> None:
    """Account for the keys that no weight took."""
    known = set(source.keys.values())
    for key, array in source.arrays.items():
        if key in plan.sources:
            continue
        if key not in known:
            plan.account_key(key, array, accounts.OUTSIDE, f"not under {source.prefix!r}")
            continue
        why = plan.mismatch.explained.get(key)
        plan.account_key(key, array, accounts.LEFT_OVER, why or "no weight for it")
        if why is None:
            plan.mismatch.left_over.append((key, tuple(array.shape)))


def _dead_branches(source: _Source, paths: Sequence[str | None]) -> list[str]:
    """Warn of ULSAM modules whose depthwise branch never got a gradient."""
    texts = []
    for path in (path for path in paths if path in source.sites):
        site = source.sites[path or ""]
        gammas, betas = source.of_site(site, "bn_dws.weight"), source.of_site(site, "bn_dws.bias")
        initial = all((a == 1).all() for a in gammas) and all((a == 0).all() for a in betas)
        # Before PyTorch 0.4.1 there was no counter, but training moved the statistics.
        moved = source.of_site(site, "bn_dws.num_batches_tracked")
        moved = moved or source.of_site(site, "bn_dws.running_mean")
        if gammas and betas and initial and any((a != 0).any() for a in moved):
            texts.append(
                f"The ULSAM at {join(source.prefix, site.prefix)!r} has been trained, yet every "
                "bn_dws.weight is exactly 1 and every bn_dws.bias exactly 0: most likely by the "
                "early version of the PyTorch module, whose max-pool read the input in place of "
                "the depthwise branch, so that the branch got no gradient. The Keras layer uses "
                "the branch, so its outputs differ from those of that version."
            )
    return texts
