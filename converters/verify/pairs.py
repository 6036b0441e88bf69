"""Which inputs and outputs of one model are those of another: by name, by shape, or in order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from converters.data.layout import Shape
from converters.verify.sides import FileSide, Side

AnySide = TypeVar("AnySide", bound=Side)


def paired(a: Side, b: AnySide) -> tuple[AnySide, tuple[str, ...]]:
    """The second of two models with its inputs and outputs in the order of the first's.

    They are known by their names. Names that differ are no matter where the shapes leave one way
    to pair them; else they are taken in order, if the shapes agree so, and if it is an order that
    users know: a file lists its names alphabetically.

    Returns:
        The model, and what is to be known: which were taken for which, where names do not say.

    Raises:
        ValueError: If the models have more or fewer than each other, if there is a doubt, or if
            they take inputs of other shapes.
    """
    ordered = not any(isinstance(side, FileSide) for side in (a, b))
    inputs, of_inputs = _order(a, b, "inputs", ordered)
    outputs, of_outputs = _order(a, b, "outputs", ordered)
    other = replace(
        b,
        inputs={name: b.inputs[name] for name in inputs},
        dtypes={name: b.dtypes[name] for name in inputs},
        outputs={name: b.outputs[name] for name in outputs},
    )
    for one, same in zip(a.inputs.values(), other.inputs.values(), strict=True):
        if not agree(one, same):
            raise ValueError(
                "Both models must take inputs of one shape. "
                f"Received: {a.name!r} with {one} and {b.name!r} with {same}"
            )
    return other, tuple(note for note in (of_inputs, of_outputs) if note)


def agree(one: Shape, other: Shape) -> bool:
    """Whether two shapes can be the same, the batch left out and `None` standing for any size."""
    return len(one) == len(other) and all(
        None in (x, y) or x == y for x, y in zip(one[1:], other[1:], strict=True)
    )


def _order(
    a: Side, b: Side, what: Literal["inputs", "outputs"], ordered: bool
) -> tuple[Sequence[str], str]:
    """The names of the second model in the order of the first's, and a note."""
    ours: Mapping[str, Shape] = getattr(a, what)
    theirs: Mapping[str, Shape] = getattr(b, what)
    if set(ours) == set(theirs):
        return list(ours), ""
    if len(ours) == len(theirs) == 1:
        return list(theirs), ""
    fitting = [[n for n, other in theirs.items() if agree(one, other)] for one in ours.values()]
    both = list(zip(ours, theirs, strict=False))
    kept = all(one == other for one, other in both if one in theirs or other in ours)
    only = [names[0] for names in fitting if len(names) == 1]
    if len(ours) == len(theirs) == len(set(only)):
        found, how = only, "by their shapes"
    elif (
        ordered
        and len(ours) == len(theirs)
        and kept
        and all(other in names for (_, other), names in zip(both, fitting, strict=True))
    ):
        found, how = list(theirs), "in order"
    else:
        raise ValueError(
            f"Both models must have the same {what}, under the same names where shapes and order "
            f"do not tell which is which; rename them. Received: {a.name!r} with {dict(ours)} and "
            f"{b.name!r} with {dict(theirs)}"
        )
    told = ", ".join(f"{other} as {one}" for one, other in zip(ours, found, strict=True))
    return found, f"The {what} of {b.name} have other names and were taken {how}: {told}"
