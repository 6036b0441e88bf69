"""What a rule of the static check is, and the places of a graph that rules find.

Imports the flatbuffer reader.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Literal

from converters.tflite.flatbuffer import Graph, Operator, Tensor

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
        seen: The newest version of ai-edge-litert that it was seen with.
    """

    code: str
    severity: Severity
    symptom: str
    meaning: str
    advice: str
    find: Callable[["View"], Iterator[Place]]
    seen: str = RUNTIME


class View:
    """A graph, with who makes and who reads each tensor.

    In a damaged file an operator may come after what reads its result; it counts as none's maker
    then, so that who follows makers or readers comes to an end.

    Attributes:
        graph: The graph.
        operators: Its operators that have a result.
        producer: The operator that makes a tensor.
        outputs: The tensors that the graph gives back.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operators = [operator for operator in graph.operators if operator.outputs]
        self.outputs = frozenset(graph.outputs)
        self._readers: dict[Tensor, list[Operator]] = {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                if tensor is not None:
                    self._readers.setdefault(tensor, []).append(operator)
        self.producer = {
            tensor: operator
            for operator in self.operators
            for tensor in operator.outputs
            if all(reader.index > operator.index for reader in self.readers(tensor))
        }
        made = {tensor for operator in self.operators for tensor in operator.outputs}
        self._misplaced = made - self.producer.keys()

    def readers(self, tensor: Tensor) -> list[Operator]:
        """The operators that read a tensor, one as often as it does."""
        return self._readers.get(tensor, [])

    def reader(self, tensor: Tensor) -> Operator | None:
        """The one operator that reads a tensor, once; `None` if there are more, or none."""
        readers = self.readers(tensor)
        if len(readers) != 1 or not readers[0].outputs or tensor in self._misplaced:
            return None
        return readers[0]

    def constant(self, tensor: Tensor | None) -> bool:
        """Whether a tensor is one, of half precision too, which an operator widens."""
        if tensor is None or tensor.constant:
            return tensor is not None
        maker = self.producer.get(tensor)
        if maker is None or maker.name != "DEQUANTIZE" or not maker.inputs:
            return False
        return self.constant(maker.inputs[0])

    def computed(self, operator: Operator) -> list[Tensor]:
        """The inputs of an operator that are not constants, one as often as it is read."""
        return [t for t in operator.inputs if t is not None and not self.constant(t)]

    @cached_property
    def _numbered(self) -> bool:
        """Whether Keras put `_1` or so behind its layers, as where a model was traced before."""
        first = [scopes[0] for t in self.graph.tensors for scopes in _scopes(t.name)]
        return sum(bool(_NUMBER.search(scope)) for scope in first) > 0.8 * len(first)

    def layer(self, operator: Operator) -> str:
        """The Keras layer that an operator is of, as the names of its tensors tell; or empty."""
        constants = [t for t in operator.inputs if self.constant(t)]
        for tensor in (*constants, *operator.outputs):
            # Of what was fused the last is what was there first: a convolution, not its activation.
            for scopes in reversed(_scopes("" if tensor is None else tensor.name)):
                if self._numbered:  # the scopes inside a layer have no number
                    layers = takewhile(_NUMBER.search, scopes)
                    return "/".join(_NUMBER.sub("", layer) for layer in layers)
                return "/".join(scopes)
        return ""


_NUMBER = re.compile(r"_\d+$")


def _scopes(name: str) -> list[list[str]]:
    """The scopes of each of the names that the converter joined to one."""
    parts = [part.split("/")[:-1] for part in name.split(";")]
    return [part for part in parts if part]


def described(view: View, found: Place) -> tuple[str, tuple[str, ...]]:
    """Where a place is, in words, and the layers that it is of."""
    if isinstance(found.what, str):
        return found.what, ()
    operators = [found.what] if found.before is None else [found.what, found.before]
    layers = [view.layer(operator) for operator in operators]
    words = []
    for operator, layer in zip(operators, layers, strict=True):
        of = f" of layer {layer!r}" if layer else ""
        words.append(f"operator {operator.index} ({operator.name}){of}")
    return ", after ".join(words), tuple(dict.fromkeys(layer for layer in layers if layer))


def repeated(tensors: list[Tensor]) -> list[Tensor]:
    """Those of the tensors that come more than once."""
    return [tensor for tensor, times in Counter(tensors).items() if times > 1]
