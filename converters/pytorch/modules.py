"""Which modules a state dict holds, read off its key names and shapes.

Imports the standard library.

A module is named as PyTorch names it, by its dotted path: ``features.3.conv.0`` owns
``features.3.conv.0.weight``. The root module's path is the empty string.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PART = re.compile(r"(?:(?P<base>.*)\.)?(?P<part>(?:conv_dws|bn_dws|conv_point|bn_point)\.\w+)")
_BASE = re.compile(r"(?:(?P<prefix>.*)\.)?subspaces\.(?P<index>[0-9]{1,4})")


@dataclass(frozen=True)
class UlsamSite:
    """A ULSAM module of a checkpoint.

    Attributes:
        prefix: Path of the module, without a trailing dot; empty if it is the root.
        channels: Number of channels C that it works on.
        num_splits: Number of subspaces g.
        bases: Path of each subspace, in order; a lone SubSpace is its own. Where the indices have
            gaps the path is given all the same, so that a missing subspace can be named.
    """

    prefix: str
    channels: int
    num_splits: int
    bases: tuple[str, ...]


def join(*parts: str) -> str:
    """Join paths with dots, leaving out empty ones."""
    return ".".join(part for part in parts if part)


def module_of(key: str) -> str:
    """Give the path of the module that owns a key."""
    return key.rpartition(".")[0]


def under(path: str, prefix: str) -> bool:
    """Tell whether a path lies under a prefix, or is it."""
    return not prefix or path == prefix or path.startswith(f"{prefix}.")


def find_ulsam(state: Mapping[str, Any] | Iterable[Any]) -> list[UlsamSite]:
    """Find the ULSAM modules of a checkpoint from the names and shapes of its tensors.

    Args:
        state: A state dict, or any objects with ``name`` and ``shape`` as ``list_tensors`` gives.

    Returns:
        One ``UlsamSite`` per ULSAM or lone SubSpace, in the order of the keys. The number of
        channels is that of the first subspace times the number of subspaces.
    """
    if isinstance(state, Mapping):
        shapes = {name: tuple(array.shape) for name, array in state.items()}
    else:
        infos: Iterable[Any] = state
        shapes = {info.name: tuple(info.shape) for info in infos}
    found: dict[tuple[str, bool], dict[int, dict[str, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        if part := _PART.fullmatch(name):
            path = part["base"] or ""
            base = _BASE.fullmatch(path)
            prefix, index = (base["prefix"] or "", int(base["index"])) if base else (path, 0)
            group = found.setdefault((prefix, base is None), {})
            group.setdefault(index, {})[part["part"]] = shape
    sites = []
    for (prefix, lone), groups in found.items():
        kernels = [parts.get("conv_dws.weight", ()) for _, parts in sorted(groups.items())]
        kernels = [shape for shape in kernels if len(shape) == 4]
        modules = {module_of(part) for parts in groups.values() for part in parts}
        if not kernels or len(modules) < 2:
            continue  # another module that happens to use one of the names
        count = max(groups) + 1
        sites.append(
            UlsamSite(
                prefix=prefix,
                channels=kernels[0][0] * count,
                num_splits=count,
                bases=(prefix,)
                if lone
                else tuple(join(prefix, "subspaces", str(k)) for k in range(count)),
            )
        )
    return sites
