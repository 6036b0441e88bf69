"""Which block of the network each numbered module is, where ULSAM has shifted the numbers.

A ULSAM after a block is a module more, one in place of a block is not: with b blocks in the
checkpoint and n in the network, n - b of the ULSAM are in place of blocks. If that is none or all
of them, the modules are told; if some, the `sites` option has to say which.

Imports the standard library.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from converters.pytorch.layouts.entries import Attention, Part, Refuse
from converters.pytorch.layouts.layout import Family
from converters.pytorch.mismatch import few

Body = Sequence[Part | Attention]


@dataclass(frozen=True)
class Reading:
    """The modules as blocks of the network, by block number.

    Attributes:
        blocks: The blocks.
        after: The ULSAM modules after blocks.
        instead_of: The ULSAM modules in place of blocks.
    """

    blocks: Mapping[int, Part]
    after: Mapping[int, Attention]
    instead_of: Mapping[int, Attention]

    @property
    def sites(self) -> str:
        """The sites as the `sites` option takes them, ``after:14,instead:12`` for example."""
        places = [f"after:{number}" for number in self.after]
        return ",".join(places + [f"instead:{number}" for number in self.instead_of])


def read(
    body: Body, family: Family, sites: str | None, shown: Callable[[str], str], refuse: Refuse
) -> Reading:
    """Read the modules as the network's blocks.

    Args:
        body: The blocks and ULSAM modules, each of as many channels as the one before gives.
        family: The network.
        sites: Where the ULSAM are, ``after:3,instead:12``; None where their number tells it.
        shown: Gives a path as messages show it.
        refuse: Raises a ValueError for what is odd and what was received.

    Raises:
        ValueError: If nothing tells where the ULSAM are, if `sites` is not where the modules
            stand, or if a module does not fit the network's table.
    """
    ulsam = [shown(entry.path) for entry in body if isinstance(entry, Attention)]
    blocks, n = len(body) - len(ulsam), family.blocks
    received = f"{blocks} blocks of {n} and {len(ulsam)} ULSAM"
    received += f" at {few(ulsam, 8)}" if ulsam else ""
    received += f", sites={sites!r}" if sites is not None else ""

    def odd(what: str) -> NoReturn:
        refuse(what, received)

    if sites is None:
        if n - len(ulsam) < blocks < n:
            odd(
                f"keys do not say which of its ULSAM are in place of blocks, {n - blocks} of "
                f"{len(ulsam)}, and which after blocks: export the network with "
                "`converters.export_program` and convert the .pt2, or say it, in the order of the "
                "modules, as in `sites='after:3,instead:12'`"
            )
        return _walk(body, ["after" if blocks >= n else "instead"] * len(ulsam), family, shown, odd)
    places = _places(sites, odd)
    if len(places) != len(ulsam):
        odd("`sites` is not one place for each ULSAM")
    reading = _walk(body, [where for _, where in places], family, shown, odd)
    if _places(reading.sites, odd) != places:
        odd(f"`sites` does not number its modules, which stand, in this order, {reading.sites}")
    return reading


def _places(sites: str, refuse: Callable[[str], NoReturn]) -> list[tuple[int, str]]:
    """Read ``after:3,instead:12``, in the order of the blocks."""
    places = []
    for place in sites.replace(" ", "").split(",") if sites else []:
        match = re.fullmatch(r"(after|instead):([0-9]{1,4})", place)
        if not match:
            refuse("`sites` is no list like after:3,instead:12, of block numbers")
        places.append((int(match[2]), match[1]))
    return sorted(places)


def _walk(
    body: Body,
    wheres: Sequence[str],
    family: Family,
    shown: Callable[[str], str],
    refuse: Callable[[str], NoReturn],
) -> Reading:
    """Number the modules, each ULSAM where it is said to be, and hold them to the table."""
    stages = [stage for stage, (_, count, _) in enumerate(family.stages) for _ in range(count)]
    blocks: dict[int, Part] = {}
    after: dict[int, Attention] = {}
    instead_of: dict[int, Attention] = {}
    widths: dict[int, int] = {}
    number, to_come = 0, iter(wheres)
    for entry in body:
        odd = f"has at {shown(entry.path)}"
        instead = isinstance(entry, Attention) and next(to_come) == "instead"
        if isinstance(entry, Attention) and not instead:
            if number not in blocks or number in after:
                refuse(f"{odd} a ULSAM after {'another' if number else 'the stem'}, not a block")
            after[number] = entry
            continue
        number += 1
        if number > family.blocks:
            refuse(f"{odd} a block too many")
        width = widths.setdefault(stages[number - 1], entry.channels_out)
        if entry.channels_out != width:
            refuse(
                f"{odd} {entry.channels_out} channels where block {number}, as all of its stage, "
                f"has {width}: a block is missing or too many before it"
            )
        if isinstance(entry, Part):
            if entry.hidden is None and number > 1 and family.expands:
                refuse(f"{odd} a block without an expansion, which the first alone may lack")
            blocks[number] = entry
        else:
            stride = family.strides[number - 1]
            if stride != 1:
                refuse(f"{odd} a ULSAM in place of block {number}, which has stride {stride}")
            instead_of[number] = entry
    if number < family.blocks:
        last = f" after {shown(body[-1].path)}" if body else ""
        refuse(f"has no block {number + 1}{last}: a block is missing")
    return Reading(blocks, after, instead_of)
