"""Where in a state dict a network of a known layout is. Imports the standard library."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from converters.pytorch.layouts.layout import Form, Layout
from converters.pytorch.modules import UlsamSite, find_ulsam, join, module_of

Shape = tuple[int, ...]

_INDEX = r"[0-9]{1,4}"


@dataclass(frozen=True)
class NetworkKeys:
    """The numbered modules of a network's body.

    Attributes:
        shapes: Shapes of the tensors of the network, by key after `prefix`.
        prefix: Path of the network.
        body: Path of the body after `prefix`; empty if the network is its body alone.
        modules: Paths of the modules inside each numbered module, by its number.
        sites: The ULSAM modules by path after `prefix`.
        votes: Number of blocks of each layout.
        others: Keys of the checkpoint outside `prefix`.
    """

    shapes: Mapping[str, Shape]
    prefix: str
    body: str
    modules: Mapping[int, frozenset[str]]
    sites: Mapping[str, UlsamSite]
    votes: Mapping[str, Sequence[int]]
    others: Sequence[str]

    def path(self, index: int, inner: str = "") -> str:
        """Give the path, after `prefix`, of a numbered module or of one inside it."""
        return join(self.body, str(index), inner)

    def shown(self, path: str) -> str:
        """Give a path or key as the checkpoint has it, in quotes."""
        return repr(join(self.prefix, path))


def find_networks(
    shapes: Mapping[str, Shape], prefix: str, layouts: Sequence[Layout]
) -> list[NetworkKeys]:
    """Find every place at which most of the numbered modules are blocks of a known layout.

    Args:
        shapes: Shapes of the checkpoint's tensors, by key.
        prefix: Path to look under.
        layouts: The layouts.
    """
    head = f"{prefix}." if prefix else ""
    below = {key[len(head) :]: shape for key, shape in shapes.items() if key.startswith(head)}
    found: list[NetworkKeys] = []
    for body in dict.fromkeys(layout.body for layout in layouts):
        pattern = re.compile(rf"(?:(?P<head>.*?)\.)?{body}\.{_INDEX}\.(?P<rest>.+)")
        heads: dict[str, None] = {}
        for key in below:
            if match := pattern.fullmatch(key):
                heads[match["head"] or ""] = None
        for inner in heads:
            start = f"{inner}." if inner else ""
            network = {k[len(start) :]: s for k, s in below.items() if k.startswith(start)}
            others = [join(prefix, key) for key in below if not key.startswith(start)]
            own = [layout for layout in layouts if layout.body == body]
            found.append(_keys(network, join(prefix, inner), body, own, others))
    if below and all(re.match(rf"{_INDEX}\.", key) for key in below):
        found.append(_keys(below, prefix, "", layouts, []))
    return [keys for keys in found if _is_claimed(keys)]


def _keys(
    shapes: Mapping[str, Shape],
    prefix: str,
    body: str,
    layouts: Iterable[Layout],
    others: Sequence[str],
) -> NetworkKeys:
    start = f"{body}." if body else ""
    modules: dict[int, set[str]] = {}
    for key in shapes:
        index, _, rest = key[len(start) :].partition(".")
        if key.startswith(start) and re.fullmatch(_INDEX, index) and rest:
            modules.setdefault(int(index), set()).add(module_of(rest))
    votes = {
        layout.title: [
            index
            for index, paths in modules.items()
            if any(_is_block(shapes, join(body, str(index)), paths, form) for form in layout.blocks)
        ]
        for layout in layouts
    }
    infos = [_Named(key, shape) for key, shape in shapes.items()]
    sites = {site.prefix: site for site in find_ulsam(infos)}
    frozen = {index: frozenset(paths) for index, paths in sorted(modules.items())}
    return NetworkKeys(shapes, prefix, body, frozen, sites, votes, others)


@dataclass(frozen=True)
class _Named:
    name: str
    shape: Shape


def _is_block(shapes: Mapping[str, Shape], path: str, paths: set[str], form: Form) -> bool:
    kernel = shapes.get(join(path, form["depthwise"], "weight"), ())
    return paths == set(form.values()) and kernel[1:] == (1, 3, 3)


def _is_claimed(keys: NetworkKeys) -> bool:
    """Tell whether at least half of the modules that are no ULSAM are blocks."""
    candidates = [index for index in keys.modules if keys.path(index) not in keys.sites]
    return 0 < len(candidates) <= 2 * sum(map(len, keys.votes.values()))
