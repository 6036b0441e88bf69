"""The attention itself over a few samples, to be looked at: of everything that was run.

Imports NumPy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converters.verify.sides import ReferenceSide

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


def recorded_maps(
    reference: ReferenceSide, known: Sequence[SiteMaps], modules: Mapping[str, str] | None = None
) -> tuple[SiteMaps, ...]:
    """The attention that PyTorch had, where the reference holds what its modules answered.

    A softmax that is a module of its own is told by what it answers: as many numbers as the map has
    positions, which add up to 1, one such answer for each group.

    Args:
        reference: The reference.
        known: The attention of the sites as something else computed it.
        modules: PyTorch's path of each layer by its name, where it is known; by its name else.
    """
    found = []
    for maps in {each.site: each for each in known}.values():
        path = (modules or {}).get(maps.site, maps.site)
        count, *size, groups = maps.attention.shape
        answers = [
            value[:count].reshape(count, -1)
            for key, value in reference.reference.layers.items()
            if key.startswith(f"{path}.") and value[0].size == size[0] * size[1]
        ]
        shares = [each for each in answers if np.allclose(each.sum(axis=1), 1, atol=_SUM)]
        if len(shares) == groups:
            attention = np.stack(shares, axis=-1).reshape(maps.attention.shape)
            found.append(SiteMaps(maps.site, "pytorch", "", attention))
    return tuple(found)
