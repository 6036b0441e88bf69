"""What a layout is: the families' block tables and the paths of a layout's modules.

Imports the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Form = Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """A network as its paper's table gives it.

    Attributes:
        name: Its name.
        stages: Output channels at a width multiplier of 1, number of blocks, and stride of the
            first block of each stage; the other blocks have stride 1.
        expands: Whether every block but the first must expand its input.
    """

    name: str
    stages: tuple[tuple[int, int, int], ...]
    expands: bool

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return sum(count for _, count, _ in self.stages)

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each block."""
        return tuple(s if i == 0 else 1 for _, count, s in self.stages for i in range(count))


@dataclass(frozen=True)
class Layout:
    """Where a family of checkpoints has its modules.

    Forms go from Keras layer names, for blocks without the ``block_3_`` in front, to the paths of
    modules inside the numbered module of ``body``. The roles are in the order of the data.

    Attributes:
        name: Whose layout it is.
        family: The network.
        body: Path of the nn.Sequential whose modules are the stem, the blocks and the head.
        stem: Form of module 0.
        blocks: Forms of the blocks.
        head: Form of the last module; None if the blocks are the last.
        classifiers: Paths that the classifier may have.
    """

    name: str
    family: Family
    body: str
    stem: Form
    blocks: tuple[Form, ...]
    head: Form | None
    classifiers: tuple[str, ...]

    @property
    def title(self) -> str:
        """Its name and the network's."""
        return f"{self.name} {self.family.name}"


# Sandler et al., "MobileNetV2", table 2.
MOBILENET_V2 = Family(
    name="MobileNetV2",
    stages=(
        (16, 1, 1),
        (24, 2, 2),
        (32, 3, 2),
        (64, 4, 2),
        (96, 3, 1),
        (160, 3, 2),
        (320, 1, 1),
    ),
    expands=True,
)
# Howard et al., "MobileNets", table 1.
MOBILENET_V1 = Family(
    name="MobileNetV1",
    stages=(
        (64, 1, 1),
        (128, 2, 2),
        (256, 2, 2),
        (512, 6, 2),
        (1024, 2, 2),
    ),
    expands=False,
)
