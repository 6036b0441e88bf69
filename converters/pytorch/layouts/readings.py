"""Which blocks of the network the numbered modules are, where ULSAM has shifted the numbers.

A ULSAM after a block is a module more, one in place of a block is not: with b blocks in the
checkpoint and n in the network, n - b of the ULSAM modules are in place of blocks. Which of them
these are, is told by the stages: all blocks of one have the same width, a block that changes the
width or has a stride cannot have been replaced.

Imports the standard library.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby, pairwise

from converters.pytorch.layouts.entries import Attention, Part
from converters.pytorch.layouts.layout import Family


@dataclass(frozen=True)
class Reading:
    """One way in which the modules are the blocks of the network, by block number.

    Attributes:
        blocks: The blocks.
        after: The ULSAM modules after blocks.
        instead_of: The ULSAM modules in place of blocks.
    """

    blocks: Mapping[int, Part] = field(default_factory=dict)
    after: Mapping[int, Attention] = field(default_factory=dict)
    instead_of: Mapping[int, Attention] = field(default_factory=dict)

    @property
    def sites(self) -> str:
        """The sites as the `sites` option takes them, ``after:14,instead:12`` for example."""
        places = [f"after:{number}" for number in self.after]
        return ",".join(places + [f"instead:{number}" for number in self.instead_of])

    def network(self, family: Family) -> tuple[int, ...]:
        """Give the stride of each block that is there.

        Readings with the same strides compute the same: the modules and their order are given.
        """
        return tuple(family.strides[number - 1] for number in self.blocks)


def readings(entries: Sequence[Part | Attention], width: int, family: Family) -> Iterator[Reading]:
    """Yield every reading that agrees with the family's table.

    Args:
        entries: The blocks and ULSAM modules, each of as many channels as the one before gives.
        width: Output channels of the stem.
        family: The network.
    """
    stage_of = [stage for stage, (_, count, _) in enumerate(family.stages) for _ in range(count)]

    def walk(
        rest: Sequence[Part | Attention], width: int, widths: Mapping[int, int], reading: Reading
    ) -> Iterator[Reading]:
        number = len(reading.blocks) + len(reading.instead_of)
        to_come = sum(isinstance(entry, Part) for entry in rest)
        if number + to_come > family.blocks or number + len(rest) < family.blocks:
            return  # the numbers cannot come out
        if not rest:
            yield reading
            return
        entry, rest = rest[0], rest[1:]
        blocks, after, instead_of = reading.blocks, reading.after, reading.instead_of
        if number < family.blocks:
            stage, stride = stage_of[number], family.strides[number]
            following, out = number + 1, entry.channels_out if isinstance(entry, Part) else width
            if widths.get(stage, out) == out:
                known = {**widths, stage: out}
                if isinstance(entry, Part):
                    if following == 1 or entry.hidden is not None or not family.expands:
                        longer = Reading({**blocks, following: entry}, after, instead_of)
                        yield from walk(rest, out, known, longer)
                elif stride == 1:
                    longer = Reading(blocks, after, {**instead_of, following: entry})
                    yield from walk(rest, out, known, longer)
        if isinstance(entry, Attention) and number in blocks and number not in after:
            longer = Reading(blocks, {**after, number: entry}, instead_of)
            yield from walk(rest, width, widths, longer)

    yield from walk(entries, width, {}, Reading())


def why_none(
    entries: Sequence[Part | Attention], family: Family, shown: Callable[[str], str]
) -> str:
    """Say, in a clause, why modules cannot be read as the network.

    Args:
        entries: The modules.
        family: The network.
        shown: Gives a path as messages show it.
    """
    parts = [entry for entry in entries if isinstance(entry, Part)]
    ulsam = len(entries) - len(parts)
    if ulsam:
        clause = f"has {_count(parts)} and {ulsam} ULSAM that do not make {family.blocks} blocks"
    else:
        clause = f"has {_count(parts)} where the network has {family.blocks}"
    unexpanded = [part for part in parts if family.expands and part.hidden is None]
    if unexpanded[1:]:
        where = shown(unexpanded[1].path)
        return f"has at {where} a block without an expansion, which the first alone may lack"
    first = entries[0] if entries else None
    if isinstance(first, Attention) and (unexpanded or len(parts) >= family.blocks):
        return f"{clause}: {shown(first.path)} is a ULSAM after the stem, which is no block"
    if odd := _odd_stage(entries, family, shown):
        return f"{clause}: {odd}"
    if len(parts) > family.blocks:
        return f"{clause}: a block too many"
    if len(entries) < family.blocks:
        return f"{clause}: a block is missing"
    return (
        f"{clause}: a block is of another width than its stage, or a ULSAM is neither after nor in "
        "place of a block"
    )


def _odd_stage(
    entries: Sequence[Part | Attention], family: Family, shown: Callable[[str], str]
) -> str:
    """Name the first run of equal widths that has too few or too many blocks for its stages."""
    # A ULSAM has the width of what comes before.
    widths = [e.channels_out if isinstance(e, Part) else e.channels for e in entries]
    runs = [
        [entries[position] for position in positions]
        for _, positions in groupby(range(len(entries)), key=widths.__getitem__)
    ]
    for run, numbers in _aligned(runs, family):
        blocks = [member for member in run if isinstance(member, Part)]
        if not (off := _off(run, numbers)):
            continue
        cause = "a block too many" if off > 0 else "a block is missing"
        width = run[0].channels_out if isinstance(run[0], Part) else run[0].channels
        span = shown(run[0].path) + (f" to {shown(run[-1].path)}" if len(run) > 1 else "")
        ulsam = f" and {len(run) - len(blocks)} ULSAM" if len(run) > len(blocks) else ""
        wanted = f"blocks {numbers[0]} to {numbers[-1]}"
        wanted = wanted if len(numbers) > 1 else f"block {numbers[0]}"
        return (
            f"{cause} in the stage of {width} channels, {span}: {_count(blocks)}{ulsam} for "
            f"{wanted} of the network"
        )
    return ""


def _off(run: Sequence[Part | Attention], numbers: range) -> int:
    """Give how many blocks a run has too many (above 0) or too few (below 0) for its stages."""
    blocks = sum(isinstance(member, Part) for member in run)
    return max(0, blocks - len(numbers)) + min(0, len(run) - len(numbers))


def _aligned(
    runs: Sequence[Sequence[Part | Attention]], family: Family
) -> list[tuple[Sequence[Part | Attention], range]]:
    """Pair each run of modules of one width with the numbers of the blocks it stands for.

    Rounding makes neighbouring stages of narrow networks equally wide. Of all ways to join them
    the one is taken that leaves least blocks over or missing; there is none for too many runs.
    """
    ways = (
        [
            (run, range(family.numbers[first].start, family.numbers[end - 1].stop))
            for run, (first, end) in zip(
                runs, pairwise((0, *ends, len(family.stages))), strict=True
            )
        ]
        for ends in combinations(range(1, len(family.stages)), len(runs) - 1)
    )
    return min(ways, key=lambda way: sum(abs(_off(*pair)) for pair in way), default=[])


def _count(blocks: Sequence[Part]) -> str:
    return f"{len(blocks)} block{'' if len(blocks) == 1 else 's'}"
