"""A graph of a ``.tflite`` file with who makes and who reads each tensor.

Imports the flatbuffer reader.
"""

import re
from functools import cached_property
from itertools import takewhile

from converters.tflite.flatbuffer import Graph, Operator, Tensor

# Operators that give the memory of their input another shape.
VIEWS = {"RESHAPE", "EXPAND_DIMS", "SQUEEZE"}
# Operators whose results are never below 0, and those that keep it so.
_POSITIVE = {"RELU", "RELU6", "RELU_0_TO_1", "LOGISTIC", "ABS", "SQUARE", "SOFTMAX", "EXP", "SQRT"}
_PASSING = {"MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "DEQUANTIZE", "QUANTIZE", "PAD"}
_NUMBER = re.compile(r"_\d+$")


class View:
    """A graph, with who makes and who reads each tensor.

    In a damaged file an operator may come after what reads its result; it counts as none's maker
    then, so that who follows makers or readers comes to an end.

    Attributes:
        graph: The graph.
        operators: Its operators that have a result.
        producer: The operator that makes a tensor.
        outputs: The tensors that the graph gives back.
        nonnegative: The tensors that are known to hold nothing below 0.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operators = [operator for operator in graph.operators if operator.outputs]
        self.outputs = frozenset((*graph.outputs, *graph.named_outputs.values()))
        self._readers: dict[Tensor, list[Operator]] = {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                if tensor is not None:
                    self._readers.setdefault(tensor, []).append(operator)
        self._misplaced = {
            tensor
            for operator in self.operators
            for tensor in operator.outputs
            if any(reader.index <= operator.index for reader in self.readers(tensor))
        }
        self.producer = {
            tensor: operator
            for operator in self.operators
            for tensor in operator.outputs
            if tensor not in self._misplaced
        }
        # Constants of half precision, by what they are widened to.
        self._widened: dict[Tensor, Tensor] = {}
        for tensor, operator in self.producer.items():
            source = operator.inputs[0] if operator.inputs else None
            if operator.name == "DEQUANTIZE" and source is not None:
                held = source if source.constant else self._widened.get(source)
                if held is not None:
                    self._widened[tensor] = held

    @cached_property
    def nonnegative(self) -> frozenset[Tensor]:
        found: set[Tensor] = set()
        for tensor, maker in self.producer.items():
            passed = maker.name in _PASSING and maker.inputs and maker.inputs[0] in found
            if passed or maker.name in _POSITIVE or maker.activation in ("RELU", "RELU6"):
                found.add(tensor)
        return frozenset(found)

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
        return tensor in self._widened

    def held(self, tensor: Tensor) -> Tensor:
        """What a tensor is the widened form of, or itself."""
        return self._widened.get(tensor, tensor)

    def unread(self, tensor: Tensor) -> bool:
        """Whether nothing reads a tensor, and nobody is given it."""
        return tensor not in self._readers and tensor not in self.outputs

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


def _scopes(name: str) -> list[list[str]]:
    """The scopes of each of the names that the converter joined to one."""
    parts = [part.split("/")[:-1] for part in name.split(";")]
    return [part for part in parts if part]
