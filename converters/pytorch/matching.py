"""Which module of the state dict each layer takes. Imports the standard library."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches

from converters.pytorch.modules import UlsamSite
from converters.pytorch.targets import Leaf

NameMap = Mapping[str, str | None] | Callable[[str], str | None]


def match(
    leaves: Sequence[Leaf],
    modules: Collection[str],
    sites: Mapping[str, UlsamSite],
    told: Mapping[str, str | None],
) -> dict[str, str | None]:
    """Choose a module for every layer.

    A layer takes the module that the name map says, else the one whose path is its name or place,
    else the one whose path is that with underscores for dots.

    Args:
        leaves: The layers.
        modules: Paths of the modules that are not ULSAM.
        sites: The ULSAM modules by path.
        told: What the name map says, from ``read_name_map``.

    Returns:
        The path by the layer's label; None if there is no such module. That of a layer left alone
        is the one it would take.

    Raises:
        ValueError: If several modules suit a layer, or if two layers take one module.
    """
    plain, ulsam = _Paths(modules), _Paths(sites)
    chosen: dict[str, str | None] = {}
    owners: dict[str, str] = {}
    for leaf in leaves:
        paths = ulsam if leaf.table.per_group else plain
        alone = leaf.label in told and told[leaf.label] is None
        path = told.get(leaf.label) if leaf.label in told and not alone else paths.find(leaf)
        path = path if path in paths.exact else None
        chosen[leaf.label] = path
        if alone:
            continue
        if path is not None and owners.setdefault(path, leaf.label) != leaf.label:
            raise ValueError(
                f"Layers {owners[path]!r} and {leaf.label!r} both take module {path!r}; tell them "
                f"apart with `name_map`. Received: {path!r} twice"
            )
    return chosen


def read_name_map(
    name_map: NameMap | None,
    leaves: Sequence[Leaf],
    others: Sequence[tuple[str, str]],
    modules: Collection[str],
    sites: Collection[str],
) -> dict[str, str | None]:
    """Give what the name map says of each layer it speaks of.

    Args:
        name_map: Module paths by layer name or label, or a function of the name; None for a path
            leaves the layer alone, with all that is in it.
        leaves: The layers that take weights.
        others: Label and name of the other layers.
        modules: Paths of the modules that are not ULSAM.
        sites: Paths of the ULSAM modules.

    Returns:
        The path, or None, by label. Of the other layers only those left alone.

    Raises:
        ValueError: If a mapping names no layer, several layers or no module.
    """
    if name_map is None:
        return {}
    if not isinstance(name_map, Mapping):
        told = {leaf.label: name_map(leaf.layer.name) for leaf in leaves}
        return {label: path if path is None else path.strip(".") for label, path in told.items()}
    told = {}
    by_label = {leaf.label: leaf for leaf in leaves}
    names = [(leaf.label, leaf.layer.name) for leaf in leaves]
    for name, path in name_map.items():
        known = names if path is not None else [*names, *others]
        found = [label for label, _ in known if label == name]
        found = found or [label for label, own in known if own == name]
        if len(found) != 1:
            hint = f": {', '.join(map(repr, found))}" if found else did_you_mean(name, by_label)
            raise ValueError(
                "`name_map` must name layers that take weights, one by each name; "
                f"{len(found)} are called so{hint}. Received: {name!r}: {path!r}"
            )
        label = found[0]
        if path is None:
            inside = [other for other, _ in [*names, *others] if other.startswith(f"{label}/")]
            told |= dict.fromkeys([label, *inside])
            continue
        path = told[label] = path.strip(".")
        paths = sites if by_label[label].table.per_group else modules
        if path not in paths:
            kind = "ULSAM module" if paths is sites else "module"
            raise ValueError(
                f"`name_map` must give paths of the checkpoint; it has no {kind} of that path"
                f"{did_you_mean(path, paths)}. Received: {name!r}: {path!r}"
            )
    return told


def did_you_mean(name: str, others: Collection[str]) -> str:
    """Give ``, did you mean 'x'?`` or nothing."""
    close = get_close_matches(name, [other for other in others if other], n=2, cutoff=0.6)
    return f", did you mean {' or '.join(map(repr, close))}?" if close else ""


def common_prefix(leaves: Sequence[Leaf], paths: Collection[str]) -> tuple[str, int]:
    """Find the prefix under which most of the layers would find a module, and how many would."""
    counts: Counter[str] = Counter()
    for leaf in leaves:
        tails = {f"_{_plain(name)}" for name in leaf.names if name}
        for path in paths:
            plain = _plain(path)
            heads = {path[: -len(tail)] for tail in tails if plain.endswith(tail)}
            counts.update(head for head in heads if head)
    return counts.most_common(1)[0] if counts else ("", 0)


class _Paths:
    """Module paths, as they are and with underscores for dots."""

    def __init__(self, paths: Collection[str]) -> None:
        self.exact = dict.fromkeys(paths)
        self.plain: dict[str, list[str]] = {}
        for path in self.exact:
            self.plain.setdefault(_plain(path), []).append(path)

    def find(self, leaf: Leaf) -> str | None:
        for name in leaf.names:
            if name in self.exact:
                return name
        for name in leaf.names:
            found = self.plain.get(_plain(name), [])
            if len(found) > 1:
                raise ValueError(
                    f"Layer {leaf.label!r} can be {' or '.join(map(repr, found))}; say which with "
                    f"`name_map`. Received: {len(found)} such modules"
                )
            if found:
                return found[0]
        return None


def _plain(path: str) -> str:
    return path.replace(".", "_").replace("/", "_")
