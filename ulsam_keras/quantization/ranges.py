"""Which tensors have one range between them, as the int8 operators that join them demand.

Imports the plan only. CONCATENATION, MAXIMUM or AVERAGE_POOL_2D have one scale for all inputs and
the output. What is concatenated is therefore rounded over the range of all of it, also where it is
read by others; and what is averaged is rounded twice, over the range of the input both times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ulsam_keras.quantization.plan import Decision, Range, as_list


@dataclass(eq=False)
class Group:
    """Tensors with one range.

    Attributes:
        name: A name for the range.
        size: How many tensors set the range; the others are made of these.
    """

    name: str
    size: int = 0


@dataclass(frozen=True)
class Place:
    """The range of one tensor.

    Attributes:
        output: The range in the layer's own QuantizeConfig, `None` for none.
        group: The group that the tensor is rounded with.
        sets: Whether it is one of those that set the range of the group.
        averaged: Whether it holds averages of values that are rounded already.
    """

    output: Range | None = None
    group: Group | None = None
    sets: bool = False
    averaged: bool = False


def places(
    inputs: Sequence[Any], steps: Sequence[Any], decisions: Sequence[Decision]
) -> tuple[list[Place], list[Place]]:
    """The ranges at each input of the model, and at the output of each call of a layer.

    Args:
        inputs: The input tensors.
        steps: The calls, in order; each with `layer`, `recipe`, `inputs` and `output`.
        decisions: What `decide` says of each.
    """
    union = _Union()
    # Of each tensor: the key of a range that moves, a fixed range, or None where nothing is rounded
    # that could be shared.
    kinds: dict[int, _Key | Range | None] = {
        id(x): union.key(id(x)) if x.dtype.is_floating else None for x in inputs
    }
    joins: list[tuple[_Key, str]] = []
    # Outputs of joins that have inputs of another range: the joined values set the range too.
    mixed: set[int] = set()
    for step, decision in zip(steps, decisions, strict=True):
        recipe = step.recipe
        read = [kinds[id(x)] for x in as_list(step.inputs)]
        kind: _Key | Range | None = None
        if decision.quantize and recipe.joins:
            kind = read[0]
            if isinstance(kind, _Key) or len(read) > 1 and (kind is None or len({*read}) > 1):
                kind = union.key(id(step.output))
                for other in read:
                    if isinstance(other, _Key):
                        union.join(kind, other)
                    else:
                        mixed.add(id(step.output))
                if len(read) > 1 or recipe.computes:
                    joins.append((kind, step.layer.name))
        elif decision.quantize and not decision.fused:
            # By layer: its calls have one range.
            kind = union.key(id(step.layer)) if recipe.output == "moving" else recipe.output
        kinds[id(step.output)] = kind

    groups: dict[_Key, Group] = {}
    for key, name in joins:
        taken = {group.name for group in groups.values()}
        while f"{name}_range" in taken:
            name += "_"
        groups.setdefault(union.root(key), Group(f"{name}_range"))

    def place(
        tensor: Any, output: Range | None, sets: bool = True, averaged: bool = False
    ) -> Place:
        kind = kinds[id(tensor)]
        group = groups.get(union.root(kind)) if isinstance(kind, _Key) else None
        if group is None:
            return Place(output)
        group.size += sets
        return Place(None, group, sets, averaged)

    at_inputs = [place(x, "moving" if x.dtype.is_floating else None) for x in inputs]
    at_steps = []
    for step, decision in zip(steps, decisions, strict=True):
        recipe, kind = step.recipe, kinds[id(step.output)]
        if not decision.quantize:
            at_steps.append(Place())
        elif not recipe.joins:
            at_steps.append(place(step.output, None if decision.fused else recipe.output))
        elif recipe.computes and not isinstance(kind, _Key):
            at_steps.append(Place(kind))
        elif recipe.computes or id(step.output) in mixed:
            sets, averaged = id(step.output) in mixed, recipe.computes == "averages"
            at_steps.append(place(step.output, None, sets, averaged))
        else:
            at_steps.append(Place())
    return at_inputs, at_steps


class _Key:
    """A range that moves."""


class _Union:
    """Which of the keys are one range."""

    def __init__(self) -> None:
        self._keys: dict[int, _Key] = {}
        self._parents: dict[_Key, _Key] = {}

    def key(self, number: int) -> _Key:
        return self._keys.setdefault(number, _Key())

    def root(self, key: _Key) -> _Key:
        while key in self._parents:
            key = self._parents[key]
        return key

    def join(self, one: _Key, other: _Key) -> None:
        one, other = self.root(one), self.root(other)
        if one is not other:
            self._parents[one] = other
