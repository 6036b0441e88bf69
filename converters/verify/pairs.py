"""Which inputs and outputs of one model are those of another: by name, by shape, or in order."""

from dataclasses import replace
from typing import Literal, TypeVar

from converters.data.layout import Shape
from converters.verify.sides import Model

AnyModel = TypeVar("AnyModel", bound=Model)


def paired(a: Model, b: AnyModel) -> tuple[AnyModel, tuple[str, ...]]:
    """The second of two models with its inputs and outputs in the order of the first's.

    They are known by their names. Names that differ are no matter where the shapes leave one way
    to pair them; else they are taken in order, if the shapes agree so, and if it is an order that
    users know.

    Returns:
        The model, and what is to be known: which were taken for which, where names do not say.

    Raises:
        ValueError: If the models have more or fewer than each other, if there is a doubt, or if
            they take inputs of other shapes.
    """
    (inputs, of_inputs), (outputs, of_outputs) = _order(a, b, "inputs"), _order(a, b, "outputs")
    for one, same in zip(a.inputs.values(), (b.inputs[name] for name in inputs), strict=True):
        if not _agree(one, same):
            raise ValueError(
                "Both models must take inputs of one shape. "
                f"Received: {a.name!r} with {one} and {b.name!r} with {same}"
            )
    other = replace(
        b,
        inputs={name: b.inputs[name] for name in inputs},
        dtypes={name: b.dtypes[name] for name in inputs},
        outputs={name: b.outputs[name] for name in outputs},
    )
    return other, tuple(note for note in (of_inputs, of_outputs) if note)


def _agree(one: Shape, other: Shape) -> bool:
    """Whether two shapes can be the same, the batch left out and `None` standing for any size."""
    return len(one) == len(other) and all(
        None in (x, y) or x == y for x, y in zip(one[1:], other[1:], strict=True)
    )


def _order(a: Model, b: Model, what: Literal["inputs", "outputs"]) -> tuple[list[str], str]:
    """The names of the second model in the order of the first's, and a note."""
    ours, theirs = getattr(a, what), getattr(b, what)
    if set(ours) == set(theirs):
        return list(ours), ""
    as_many = len(ours) == len(theirs)
    if as_many and len(ours) == 1:
        return list(theirs), ""
    pairs = list(zip(ours, theirs, strict=False))
    fitting = [[n for n, other in theirs.items() if _agree(one, other)] for one in ours.values()]
    only = [names[0] for names in fitting if len(names) == 1]
    if as_many and len(set(only)) == len(ours):
        found, how = only, "by their shapes"
    elif (
        as_many
        and (a.ordered and b.ordered)
        and all(one == other for one, other in pairs if one in theirs or other in ours)
        and all(_agree(ours[one], theirs[other]) for one, other in pairs)
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
