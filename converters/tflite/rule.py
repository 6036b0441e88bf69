"""What a rule of the static check is, and the places of a graph that rules find.

Imports the flatbuffer reader.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from converters.plain import plain
from converters.tflite.flatbuffer import Operator, Tensor
from converters.tflite.view import View

Severity = Literal["error", "warning"]
# The version of ai-edge-litert that the rules were last seen with.
RUNTIME = "2.3.0"


@dataclass(frozen=True)
class Place:
    """A place of a graph that breaks a rule.

    Attributes:
        what: The operator, or a text that names a tensor.
        tensors: The names of the tensors concerned.
        before: The operator before it, where two together break the rule.
    """

    what: Operator | str
    tensors: tuple[str, ...]
    before: Operator | None = None


def place(operator: Operator, *tensors: Tensor | None, before: Operator | None = None) -> Place:
    """The place of an operator and of tensors."""
    return Place(operator, tuple(t.name for t in tensors if t is not None), before)


Find = Callable[[View], Iterator[Place]]


def operators(*names: str) -> Callable[[Callable[[View, Operator], bool]], Find]:
    """Makes what finds places of a test of operators of some names; its outputs are concerned."""

    def finder(test: Callable[[View, Operator], bool]) -> Find:
        def find(view: View) -> Iterator[Place]:
            for operator in view.operators:
                if operator.name in names and test(view, operator):
                    yield place(operator, *operator.outputs)

        return find

    return finder


@dataclass(frozen=True)
class Rule:
    """One rule: its reason code, the texts of its findings, and how they are found.

    Attributes:
        code: The reason code.
        severity: As in `Finding`.
        symptom: As in `Finding`.
        meaning: As in `Finding`.
        advice: As in `Finding`.
        find: Its places in a graph.
        inside: Whether it holds in the graphs of loops and branches too, which no delegate takes.
        seen: The newest version of ai-edge-litert that it was seen with.
    """

    code: str
    severity: Severity
    symptom: str
    meaning: str
    advice: str
    find: Find
    inside: bool = False
    seen: str = RUNTIME


def described(view: View, found: Place) -> tuple[str, tuple[str, ...]]:
    """Where a place is, in words, and the layers that it is of."""
    if isinstance(found.what, str):
        return found.what, ()
    operators = [found.what] if found.before is None else [found.what, found.before]
    layers = [view.layer(operator) for operator in operators]
    words = []
    for operator, layer in zip(operators, layers, strict=True):
        of = f" of layer {layer!r}" if layer else ""
        words.append(f"operator {operator.index} ({plain(operator.name)}){of}")
    return ", after ".join(words), tuple(dict.fromkeys(layer for layer in layers if layer))


def repeated(tensors: list[Tensor]) -> list[Tensor]:
    """Those of the tensors that come more than once."""
    return [tensor for tensor, times in Counter(tensors).items() if times > 1]
