"""Finds the ULSAM blocks of a ``.tflite`` graph, by what only they have.

Every form of the block spreads the attention over the channels with a 1x1 convolution whose kernel
is the 0/1 membership of channels in groups, and multiplies. Imports the flatbuffer reader and
NumPy; `ulsam_keras` for the names of layers, inside the function.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from converters.tflite.flatbuffer import Graph, Operator, Tensor
from converters.tflite.view import View

# What a softmax is made of, between the scores and the attention.
_SOFTMAX = {
    "DEQUANTIZE", "DIV", "EXP", "LOG_SOFTMAX", "QUANTIZE", "RESHAPE", "SOFTMAX", "SUB", "TRANSPOSE",
}  # fmt: skip
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Site:
    """One ULSAM in a graph.

    Attributes:
        inputs: The block's input, `(N, H, W, C)`.
        scores: What the softmax is taken of; of the shape `(N, H, W, g)`, or a transposed one.
        attention: The attention after the softmax, `(N, H, W, g)`.
        outputs: The block's output, `(N, H, W, C)`.
        scale: What the attention is multiplied by when it is spread. It is 1, but where a bias of 1
            has too many steps for its integers: there the converter makes the steps of the kernel
            coarser, up to the next whole one.
        activation: The activation function fused into the output, `"NONE"` or `"RELU"` and so on.
        operators: The operators from the scores to the attention.
    """

    inputs: Tensor
    scores: Tensor
    attention: Tensor
    outputs: Tensor
    scale: float
    activation: str
    operators: tuple[Operator, ...]

    @property
    def float_operators(self) -> tuple[str, ...]:
        """The names of the operators of the softmax that compute in float."""
        return tuple(
            operator.name
            for operator in self.operators
            if all(t.dtype == "FLOAT32" for t in (operator.inputs[0], operator.outputs[0]) if t)
        )


def find_sites(graph: Graph) -> list[Site]:
    """The ULSAM blocks of a graph, in the order in which they run."""
    return list(_sites(View(graph)))


def site_names(sites: Sequence[Site]) -> list[str]:
    """What the layers of the sites are called, as the names of their tensors tell.

    A tensor's name begins with the scopes of its layer. A model that is traced for export has been
    traced before, so that Keras puts `_1` behind them all. Sites that are not told apart so are
    `site1`, `site2` and so on.
    """
    from ulsam_keras.spatial_softmax import FLOAT_ISLAND

    scopes = []
    for site in sites:
        parts = site.attention.name.split(";")[0].split("/")[:-1]
        scopes.append([part for part in parts if not part.startswith(FLOAT_ISLAND)])
    if all(part.endswith("_1") for parts in scopes for part in parts):
        scopes = [[part.removesuffix("_1") for part in parts] for parts in scopes]
    names = ["/".join(parts) for parts in scopes]
    if "" in names or len(set(names)) < len(names):
        return [f"site{number}" for number in range(1, len(sites) + 1)]
    return names


def float_operators(graph: Graph) -> list[str]:
    """The names of the operators of a graph that compute on float activations, each once."""
    return sorted(
        {
            operator.name
            for operator in graph.operators
            if operator.name not in ("QUANTIZE", "DEQUANTIZE")
            and any(
                tensor is not None and not tensor.constant and tensor.dtype.startswith("FLOAT")
                for tensor in (*operator.inputs, *operator.outputs)
            )
        }
    )


def _sites(view: View) -> Iterator[Site]:
    for operator in view.graph.operators:
        scale = _scale(operator, view) if operator.name == "CONV_2D" else None
        if scale is None:
            continue
        attention, spread = operator.inputs[0], operator.outputs[0]
        product = _reader(view.graph, spread, "MUL")
        if attention is None or product is None:
            continue
        inputs = _other(product, spread)
        last = _reader(view.graph, product.outputs[0], "ADD")
        # x * a + x, where 1 + a was not spread at once.
        if last is None or inputs not in last.inputs:
            last = product
        path = _softmax(attention, view.producer)
        if inputs is None or not path:
            continue
        scores, outputs = path[0].inputs[0] or attention, last.outputs[0]
        if _fit(inputs.shape, scores.shape, attention.shape, outputs.shape):
            yield Site(inputs, scores, attention, outputs, scale, last.activation, path)


def _fit(inputs: Shape, scores: Shape, attention: Shape, outputs: Shape) -> bool:
    """Whether the tensors of a block have the shapes of one."""
    return (
        len(inputs) == len(attention) == 4
        and inputs[:3] == attention[:3]
        and attention[3] > 0
        and inputs[3] % attention[3] == 0
        and outputs == inputs
        and math.prod(scores) == math.prod(attention)
    )


def _scale(operator: Operator, view: View) -> float | None:
    """What the kernel has for the group of each channel, where it has 0 elsewhere; else `None`."""
    kernel = operator.inputs[1]
    values = None if kernel is None else view.held(kernel).values()
    if values is None or values.ndim != 4 or values.shape[1:3] != (1, 1):
        return None
    channels, groups = values.shape[0], values.shape[3]
    if not groups or channels % groups:
        return None
    scale = float(values.max(initial=0))
    wanted = scale * np.repeat(np.eye(groups), channels // groups, axis=0)
    same = np.allclose(values[:, 0, 0, :].astype("float32"), wanted, atol=1e-3)
    return scale if same and 0.5 < scale < 1.5 else None


def _softmax(attention: Tensor, producer: dict[Tensor, Operator]) -> tuple[Operator, ...]:
    """The operators that make the attention of the scores, in their order."""
    path: list[Operator] = []
    tensor: Tensor | None = attention
    while tensor in producer and producer[tensor].name in _SOFTMAX:
        path.append(producer[tensor])
        tensor = producer[tensor].inputs[0]
    return tuple(reversed(path))


def _reader(graph: Graph, tensor: Tensor, name: str) -> Operator | None:
    return next((o for o in graph.operators if o.name == name and tensor in o.inputs), None)


def _other(operator: Operator, tensor: Tensor) -> Tensor | None:
    return next((t for t in operator.inputs if t is not tensor), None)
