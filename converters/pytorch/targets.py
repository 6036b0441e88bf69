"""The layers of a target that want weights, found through Keras's public API.

Imports Keras only inside functions.

A functional or Sequential model tells its layers. Any other model or layer is searched by
attribute, lists and dicts included, as PyTorch names its modules: ``self.blocks[3].conv`` is
``blocks.3.conv``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from converters.pytorch.modules import join
from converters.pytorch.tables import Row, Table, table_of, why_without_table


@dataclass(frozen=True)
class Leaf:
    """A layer with a table.

    Attributes:
        layer: The layer.
        label: Its name, or its path of names and attributes inside a nested target, with slashes.
            No two leaves of a target share one.
        names: Module paths that the layer's place suggests, the most specific first.
        table: Its table.
    """

    layer: Any
    label: str
    names: tuple[str, ...]
    table: Table

    def rows(self) -> list[tuple[Row, str, Any]]:
        """Give the table's rows for the weights that the layer has, each with label and weight."""
        rows = []
        for row in self.table.rows:
            weight = self.layer
            for attribute in row.weight.split("."):
                weight = getattr(weight, attribute, None)
            if weight is not None:
                rows.append((row, f"{self.label}/{row.weight.replace('.', '/')}", weight))
        return rows

    def settings(self) -> dict[str, Any]:
        """Give what the layer has of what no key tells, by PyTorch's words."""
        found = {}
        for attribute, word in self.table.settings:
            value = getattr(self.layer, attribute)
            # One number where all axes have the same.
            values = list(value) if isinstance(value, (list, tuple)) else [value]
            found[word] = values[0] if len({*values}) == 1 else values
        return found


@dataclass(frozen=True)
class Target:
    """What a port is to fill.

    Attributes:
        name: The target's name and class, for messages.
        leaves: The layers with a table, in the target's order.
        lone: Whether the target itself is the one leaf.
        weights: Every weight of the target.
        others: Label and layer of each without a table, nested models included.
        unreachable: By ``id``, the weights that no leaf has.
    """

    name: str
    leaves: tuple[Leaf, ...]
    lone: bool
    weights: tuple[Any, ...]
    others: tuple[tuple[str, Any], ...]
    unreachable: "dict[int, Unreachable]"

    @property
    def lone_ulsam(self) -> bool:
        """Whether the target is one ULSAM layer."""
        return self.lone and self.leaves[0].table.per_group


@dataclass(frozen=True)
class Unreachable:
    """A weight that no table reaches.

    Attributes:
        label: What the port report calls it.
        owner: Label of the innermost layer that has it; empty if that is the target itself.
        why: The reason.
    """

    label: str
    owner: str
    why: str


def describe(target: Any) -> Target:
    """Find what a layer or model wants filled.

    Args:
        target: A built Keras layer or model.

    Raises:
        ValueError: If it is no Keras 3 layer or model, or it or a layer in it is not built.
    """
    import keras

    if not isinstance(target, keras.layers.Layer):
        raise ValueError(
            "`target` must be a ULSAM layer or a Keras 3 model. "
            f"Received: {type(target).__module__}.{type(target).__name__}"
        )
    name = f"{type(target).__name__} {target.name!r}"
    table = table_of(target)
    if table:
        leaves = [Leaf(target, target.name, ("",), table)]
        others: list[tuple[str, Any]] = []
    else:
        leaves, others = [], []
        for layer, label, names in _descendants(target):
            if found := table_of(layer):
                leaves.append(Leaf(layer, label, names, found))
            else:
                others.append((label, layer))
    unbuilt = [leaf.label for leaf in leaves if not leaf.layer.built]
    if unbuilt or not target.built:
        which = f"; not built: {', '.join(map(repr, unbuilt[:3]))}" if unbuilt else ""
        raise ValueError(
            "`target` must be built: call it once, or give its layers an Input, so that it has "
            f"weights to fill. Received: {name}{which}"
        )
    reached = {id(weight) for leaf in leaves for _, _, weight in leaf.rows()}
    return Target(
        name=name,
        leaves=tuple(leaves),
        lone=table is not None,
        weights=tuple(target.weights),
        others=tuple(others),
        unreachable={
            id(weight): _unreachable(weight, leaves, others)
            for weight in target.weights
            if id(weight) not in reached
        },
    )


def _unreachable(weight: Any, leaves: list[Leaf], others: list[tuple[str, Any]]) -> Unreachable:
    for leaf in leaves:
        if any(weight is other for other in leaf.layer.weights):
            why = f"layer {leaf.label!r} has it beside the weights of its class"
            return Unreachable(weight.path, leaf.label, why)
    # Reversed: a layer comes after those that contain it.
    for label, layer in reversed(others):
        if any(weight is other for other in layer.weights):
            why = f"layer {label!r} cannot be ported: {why_without_table(layer)}"
            return Unreachable(weight.path, label, why)
    return Unreachable(weight.path, "", "it is in no layer that can be reached by attribute")


def _descendants(target: Any) -> Iterator[tuple[Any, str, tuple[str, ...]]]:
    """Yield every layer inside, once, with its label and the module paths its place suggests."""
    seen = {id(target)}

    def visit(parent: Any, path: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Any]:
        for attribute, layer in _children(parent):
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            inner_path, inner_names = (*path, attribute), (*names, layer.name)
            yield layer, "/".join(inner_path), _suggestions(inner_path, inner_names)
            if not table_of(layer):
                yield from visit(layer, inner_path, inner_names)

    yield from visit(target, (), ())


def _suggestions(*chains: tuple[str, ...]) -> tuple[str, ...]:
    """Give every tail of the chains as a dotted path, the longest first, each once."""
    longest = max(map(len, chains))
    tails = [join(*chain[i:]) for i in range(longest) for chain in chains]
    return tuple(dict.fromkeys(tails))


def _children(parent: Any) -> list[tuple[str, Any]]:
    """Give the layers directly inside, each with its name or attribute path."""
    import keras

    if isinstance(parent, (keras.Function, keras.Sequential)):
        return [(layer.name, layer) for layer in parent.layers]
    own = [(name, v) for name, v in vars(parent).items() if name not in _of_every_layer()]
    if callable(getattr(parent, "named_children", None)):
        own += parent.named_children()  # Keras on PyTorch: layers are modules, kept apart
    found = [(name.lstrip("_"), layer) for name, value in own for name, layer in _in(name, value)]
    seen = {id(layer) for _, layer in found}
    tracked = parent.layers if isinstance(parent, keras.Model) else []
    return found + [(layer.name, layer) for layer in tracked if id(layer) not in seen]


@cache
def _of_every_layer() -> frozenset[str]:
    """The attributes that Keras and its back end give every model, which hold layers once more."""
    import keras

    probe, own = keras.Model(), {"own_layer", "own_list", "own_dict"}
    probe.own_layer = keras.layers.Layer()
    probe.own_list, probe.own_dict = [keras.layers.Layer()], {"0": keras.layers.Layer()}
    return frozenset(set(vars(probe)) - own)


def _in(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers of an attribute: itself, or those in its lists and dicts."""
    import keras

    if isinstance(value, keras.layers.Layer):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _in(f"{path}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _in(f"{path}.{index}", item)
