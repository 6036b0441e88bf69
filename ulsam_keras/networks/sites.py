"""Which blocks of a network get a ULSAM: the arguments of the networks, checked once.

Imports `ulsam_keras.splits` only.
"""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ulsam_keras.splits import check_splits, splits_by_site


@dataclass(frozen=True)
class Block:
    """What a site needs to know of a block."""

    channels_in: int
    channels_out: int
    stride: int

    @property
    def keeps_shape(self) -> bool:
        """Whether the output's shape is the input's, so that a ULSAM can take the block's place."""
        return self.stride == 1 and self.channels_in == self.channels_out


@dataclass(frozen=True)
class Sites:
    """The number of splits of each ULSAM, by block number: those after and in place of a block."""

    after: Mapping[int, int]
    instead_of: Mapping[int, int]


def sites(
    blocks: list[Block],
    ulsam_after: Iterable[int],
    ulsam_instead_of: Iterable[int],
    num_splits: int | Mapping[int, int],
) -> Sites:
    """Checks the arguments of a network against its blocks, the first of which is number 1.

    Raises:
        ValueError: If a block number is none of the network's, is given twice, or names a block
            that cannot be replaced, or if `num_splits` does not fit.
    """
    after = _numbers("ulsam_after", ulsam_after, len(blocks))
    instead_of = _numbers("ulsam_instead_of", ulsam_instead_of, len(blocks))
    both = sorted(set(after) & set(instead_of))
    if both:
        raise ValueError(
            f"Block {both[0]} is in `ulsam_after` and in `ulsam_instead_of`; choose one of them. "
            f"Received: ulsam_after={after}, ulsam_instead_of={instead_of}"
        )
    for number in instead_of:
        block = blocks[number - 1]
        if not block.keeps_shape:
            able = [str(i) for i, other in enumerate(blocks, 1) if other.keeps_shape]
            raise ValueError(
                f"A ULSAM keeps its input's shape and cannot take the place of block {number} "
                f"(stride {block.stride}, {block.channels_in} to {block.channels_out} channels). "
                f"Blocks that can be replaced: {', '.join(able) or 'none'}. "
                f"Received: ulsam_instead_of={instead_of}"
            )
    splits = splits_by_site(num_splits, sorted(after + instead_of), "block")
    for number, value in splits.items():
        check_splits(f"block {number}", blocks[number - 1].channels_out, value)
    return Sites(
        {number: splits[number] for number in after},
        {number: splits[number] for number in instead_of},
    )


def _numbers(argument: str, values: Iterable[int], count: int) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(value) for value in values)
    except TypeError:
        numbers = (0,)
    if len(set(numbers)) < len(numbers) or any(not 1 <= number <= count for number in numbers):
        raise ValueError(
            f"`{argument}` must be a tuple of different block numbers from 1 to {count}. "
            f"Received: {argument}={values!r}"
        )
    return numbers
