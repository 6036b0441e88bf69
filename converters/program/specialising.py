"""A program as if it had been exported with sizes that are fixed. Imports this package only."""

import re
from collections.abc import Mapping
from dataclasses import replace

from converters.program.program import Dimension, Program

_NAME = re.compile(r"[A-Za-z_]\w*")


def at_example_sizes(program: Program) -> tuple[Program, dict[str, tuple[Dimension, ...]]]:
    """The program with the sizes of its example inputs, but for the batch.

    Args:
        program: A program, some of whose sizes may be open.

    Returns:
        The program, and the shapes of those inputs of which a size was fixed, by name; none where
        only the batch is open, or no size is known.
    """
    shapes = {
        end.name: program.values[end.value]
        for end in program.inputs
        if isinstance(end.value, str) and end.value in program.values
    }
    batch = {name for m in shapes.values() for name in _names(m.shape[:1])}

    def fixed(shape: tuple[Dimension, ...], hint: tuple[int, ...]) -> tuple[Dimension, ...]:
        return tuple(
            known if isinstance(size, str) and known >= 0 and not batch & _names((size,)) else size
            for size, known in zip(shape, hint, strict=True)
        )

    values = {n: replace(m, shape=fixed(m.shape, m.hint)) for n, m in program.values.items()}
    changed = {n: fixed(m.shape, m.hint) for n, m in shapes.items()}
    changed = {n: shape for n, shape in changed.items() if shape != shapes[n].shape}
    dynamic: Mapping[str, tuple[int, int | None]] = {
        name: limits for name, limits in program.dynamic.items() if name in batch
    }
    return replace(program, values=values, dynamic=dynamic), changed


def _names(sizes: tuple[Dimension, ...]) -> set[str]:
    return {name for size in sizes if isinstance(size, str) for name in _NAME.findall(size)}
