"""A recognised network: its configuration, and which layer takes which module.

Imports the standard library; ulsam_keras only where the network is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.pytorch.layouts.entries import Entries
from converters.pytorch.layouts.layout import MOBILENET_V1, Layout
from converters.pytorch.layouts.reading import Reading

if TYPE_CHECKING:
    import keras

DEFAULT_INPUT_SIZE = 224


@dataclass(frozen=True)
class Recognised:
    """A network that keys and shapes have told.

    Attributes:
        layout: Whose layout the keys are in; `layout.family` is the network.
        entries: The modules as the checkpoint has them.
        reading: Which blocks they are.
        classifier: Path of the classifier; None if there is none.
        classes: Number of classes; None without a classifier.
        prefix: Path of the network in the checkpoint; empty if it is all of it.
    """

    layout: Layout
    entries: Entries
    reading: Reading
    classifier: str | None
    classes: int | None
    prefix: str

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of the stem, of every block and, if there is one, of the head."""
        widths = [self.entries.stem.channels_out]
        for number in range(1, self.layout.family.blocks + 1):
            block = self.reading.blocks.get(number)
            widths.append(block.channels_out if block else widths[-1])
        return (*widths, *([self.entries.head.channels_out] if self.entries.head else []))

    @property
    def hidden_widths(self) -> tuple[int | None, ...]:
        """Channels inside every block; None for one that does not expand or is replaced."""
        blocks = self.reading.blocks
        numbers = range(1, self.layout.family.blocks + 1)
        return tuple(blocks[n].hidden if n in blocks else None for n in numbers)

    @property
    def ulsam_after(self) -> dict[int, int]:
        """The number of splits of each ULSAM after a block, by block number."""
        return {number: site.num_splits for number, site in self.reading.after.items()}

    @property
    def ulsam_instead_of(self) -> dict[int, int]:
        """The number of splits of each ULSAM in place of a block, by block number."""
        return {number: site.num_splits for number, site in self.reading.instead_of.items()}

    @property
    def alpha(self) -> float:
        """The width multiplier, from the last block, where rounding matters least."""
        family = self.layout.family
        return self.widths[family.blocks] / family.stages[-1][0]

    @property
    def name_map(self) -> Mapping[str, str]:
        """The path of the module, after the prefix, of each Keras layer of `build`."""
        names = dict(self.entries.stem.layers)
        for number in range(1, self.layout.family.blocks + 1):
            if block := self.reading.blocks.get(number):
                names |= {f"block_{number}_{role}": path for role, path in block.layers.items()}
            site = self.reading.instead_of.get(number) or self.reading.after.get(number)
            if site:
                names[f"block_{number}_ulsam"] = site.path
        if self.entries.head:
            names |= self.entries.head.layers
        if self.classifier is not None:
            names["classifier"] = self.classifier
        return names

    @property
    def description(self) -> str:
        """What it is, in words."""
        parts = [self.layout.title, f"alpha≈{round(self.alpha, 2)}"]
        parts.append("no classifier" if self.classes is None else f"{self.classes} classes")
        if self.ulsam_after or self.ulsam_instead_of:
            parts.append(self._sites_in_words())
        return ", ".join(parts)

    def _sites_in_words(self) -> str:
        splits = {*self.ulsam_after.values(), *self.ulsam_instead_of.values()}
        one = len(splits) == 1
        places = []
        for where, sites in (("after", self.ulsam_after), ("instead of", self.ulsam_instead_of)):
            if sites:
                names = [str(n) if one else f"{n} (g={g})" for n, g in sites.items()]
                places.append(f"{where} block{'s' if len(names) > 1 else ''} {', '.join(names)}")
        return f"ULSAM{f' (g={splits.pop()})' if one else ''} {' and '.join(places)}"

    def build(self, input_size: tuple[int, int] | None = None) -> "keras.Model":
        """Build the Keras network, which gives logits as PyTorch's does.

        Args:
            input_size: Height and width, at least 32. Default: 224 by 224.

        Returns:
            A `MobileNetV1` or `MobileNetV2` of `ulsam_keras.networks`, without an activation after
            its classifier.

        Raises:
            ValueError: If the input size is too small.
        """
        from ulsam_keras.networks import MobileNetV1, MobileNetV2

        height, width = input_size or (DEFAULT_INPUT_SIZE, DEFAULT_INPUT_SIZE)
        splits = self.ulsam_after | self.ulsam_instead_of
        common = {
            "input_shape": (height, width, self.entries.stem.channels_in),
            "include_top": self.classes is not None,
            "classes": self.classes or 1,
            "classifier_activation": None,
            "ulsam_after": tuple(self.ulsam_after),
            "ulsam_instead_of": tuple(self.ulsam_instead_of),
            # With no site there is nothing to split.
            "num_splits": splits or 1,
            "widths": self.widths,
        }
        if self.layout.family is MOBILENET_V1:
            return MobileNetV1(**common)  # type: ignore[arg-type]
        return MobileNetV2(hidden_widths=self.hidden_widths, **common)  # type: ignore[arg-type]
