"""The attention itself over a few samples, to be looked at: of everything that was run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converters.verify.samples import Samples, Side
from converters.verify.sides import Block, KerasSide, LeftOutError, NotRunError
from converters.verify.targets import Target

# Of the samples that are compared, the first.
FEW = 3
# How far sums of recorded float32 shares are from 1.
_SUM = 1e-3


@dataclass(frozen=True)
class SiteMaps:
    """The attention of one site.

    Attributes:
        site: Name of the ULSAM layer.
        subject: What was run, `"keras"`, `"float32"` and so on, or a file's name; or a reference's.
        runtime: What ran it; empty for a reference.
        attention: The first `FEW` samples, `(n, H, W, g)`.
    """

    site: str
    subject: str
    runtime: str
    attention: np.ndarray

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others."""
        return self.site, self.subject, self.runtime


def attention_of(side: Side, samples: Samples, targets: Sequence[Target]) -> tuple[SiteMaps, ...]:
    """The attention of one side over a few samples on each target, where it shows it."""
    maps: list[SiteMaps] = []
    for target in targets:
        try:
            count = min(FEW, side.samples(target, samples.count))
            blocks = side.blocks(samples.first(count), target)
        except (LeftOutError, NotRunError):
            continue
        maps += [maps_of(side, target, b.name or f"site {n}", b) for n, b in enumerate(blocks, 1)]
    return tuple(maps)


def maps_of(side: Side, target: Target, site: str, block: Block) -> SiteMaps:
    """The attention of a block of a side."""
    runtime = "TensorFlow" if isinstance(side, KerasSide) else target.name
    return SiteMaps(site, side.name, runtime, block.attention[:FEW])


def recorded_maps(
    layers: Mapping[str, np.ndarray],
    known: Sequence[SiteMaps],
    modules: Mapping[str, str] | None = None,
) -> tuple[SiteMaps, ...]:
    """The attention that PyTorch had, where a reference holds what its modules answered.

    A softmax that is a module of its own is told by what it answers: as many numbers as the map has
    positions, which add up to 1, one such answer for each group.

    Args:
        layers: What modules answered, by the path of each.
        known: The attention of the sites as something else computed it.
        modules: PyTorch's path of each layer by its name, where it is known; by its name else. A
            site of neither, as in a file, is the module whose attention is nearest.
    """
    found = []
    taken: set[str] = set()
    for maps in {each.site: each for each in known}.values():
        shares, inside = _shares(layers, maps.attention.shape)
        attention = {
            path: np.stack([shares[key] for key in keys], axis=-1).reshape(maps.attention.shape)
            for path, keys in inside.items()
            if len(keys) == maps.attention.shape[3]
        }
        path = (modules or {}).get(maps.site, maps.site)
        if not any(key.startswith(f"{path}.") for key in layers):
            free = [each for each in attention if taken.isdisjoint(inside[each])]
            apart = {each: np.square(attention[each] - maps.attention).sum() for each in free}
            path = min(apart, key=apart.__getitem__, default=path)
        if path in attention:
            taken.update(inside[path])
            found.append(SiteMaps(maps.site, "pytorch", "", attention[path]))
    return tuple(found)


def _shares(
    layers: Mapping[str, np.ndarray], shape: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Answers that are shares of a map's positions, and by the path of a module those in it."""
    shares: dict[str, np.ndarray] = {}
    inside: dict[str, list[str]] = {}
    for key, value in layers.items():
        rows = value[: shape[0]].reshape(min(shape[0], len(value)), -1)
        if rows.shape == (shape[0], shape[1] * shape[2]) and np.allclose(rows.sum(1), 1, atol=_SUM):
            shares[key] = rows
            parts = key.split(".")
            for end in range(1, len(parts)):
                inside.setdefault(".".join(parts[:end]), []).append(key)
    return shares, inside
