"""Parameters and multiply-adds of a model, layer by layer.

Imports Keras (public names only), `ulsam_keras.cost`, `ulsam_keras.layer` and `ulsam_keras.graph`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from ulsam_keras import cost
from ulsam_keras.graph import Call, is_graph, trace
from ulsam_keras.layer import ULSAM

if TYPE_CHECKING:
    from ulsam_keras.networks.paper import PaperConfiguration

_CONVENTIONS = ("exact", "paper")


@dataclass(frozen=True)
class LayerCount:
    """One layer of a model.

    Attributes:
        name: The layer's name; inside a nested model, `"model/layer"`.
        kind: The name of its class.
        output_shape: Shape of its first output, without the batch axis.
        parameters: Its learned numbers.
        statistics: Its other numbers, such as running means and variances.
        multiply_adds: Its multiply-adds for one input. A shared layer has those of all its calls.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    statistics: int
    multiply_adds: int


@dataclass(frozen=True)
class Count:
    """The layers of a model and their sums; `str` gives a table.

    Attributes:
        layers: One row for each layer that has numbers or multiply-adds, in the model's order.
    """

    layers: tuple[LayerCount, ...]

    @property
    def parameters(self) -> int:
        """The learned numbers of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def statistics(self) -> int:
        """The running statistics and other numbers that are not learned, of all layers."""
        return sum(layer.statistics for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of all layers for one input."""
        return sum(layer.multiply_adds for layer in self.layers)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("layer", "kind", "output", "parameters", "statistics", "multiply-adds")
        ]
        rows += [
            (
                row.name,
                row.kind,
                " x ".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.statistics:,}",
                f"{row.multiply_adds:,}",
            )
            for row in self.layers
        ]
        totals = (self.parameters, self.statistics, self.multiply_adds)
        rows.append(("total", "", "", *(f"{total:,}" for total in totals)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def count(
    model: "keras.Model | PaperConfiguration",
    convention: str = "exact",
    input_shape: Sequence[int] | None = None,
) -> Count:
    """Counts the parameters and multiply-adds of every layer.

    A convolution or dense layer counts one multiply-add for every product of a weight and an input,
    those with the padding's zeros included; adding its bias counts nothing. In both conventions
    batch normalization (foldable into the convolution before it), activations, pooling, additions
    and multiplications of two tensors, and softmax count no multiply-adds.

    * `"exact"`: parameters are all learned numbers. A ULSAM has `5 * C + 3 * g` and does
      `3 * C * H * W` multiply-adds: the depthwise convolution, the scores, and `x * a + x`. This is
      what the operation needs; the layer computes the scores and the spreading of `a` as
      convolutions over all groups, whose products with zeros are not counted.
    * `"paper"`: the ULSAM paper's convention. Parameters are the kernels and biases of convolutions
      and classifier, without batch normalization. A ULSAM has `2 * C` and does `2 * C * H * W`
      multiply-adds.

    Args:
        model: A functional or built Sequential Keras model, or an entry of `PAPER`, which is built.
        convention: `"exact"` or `"paper"`. Defaults to `"exact"`.
        input_shape: `(H, W, C)` to count a model of one input at, where its own has unknown sizes.

    Returns:
        A `Count`: rows and totals.

    Raises:
        ValueError: If the convention is unknown, the model has no graph, a layer's multiply-adds
            are unknown (the message names it) or a size is.

    Example:
    >>> counted = count(MobileNetV2(ulsam_instead_of=(15, 16)))
    >>> counted.parameters, counted.multiply_adds
    (2866496, 269868992)
    >>> print(counted)  # a table of all layers
    """
    if convention not in _CONVENTIONS:
        raise ValueError(
            f"`convention` must be one of {_CONVENTIONS}. Received: convention={convention!r}"
        )
    if not isinstance(model, keras.Model) and hasattr(model, "build"):
        model = model.build()
    if not is_graph(model):
        raise ValueError(
            "`model` must be a functional or built Sequential model. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )
    shapes = None if input_shape is None else [(1, *input_shape)]
    rows: dict[int, LayerCount] = {}
    for name, call in _flat_calls(model, shapes, ""):
        parameters, statistics = _numbers(call.operation, convention)
        multiply_adds = _multiply_adds(name, call, convention)
        if not (parameters or statistics or multiply_adds):
            continue
        earlier = rows.get(id(call.operation))
        rows[id(call.operation)] = LayerCount(
            name=earlier.name if earlier else name,
            kind=type(call.operation).__name__,
            output_shape=tuple(call.outputs[0].shape[1:]),
            parameters=parameters,
            statistics=statistics,
            multiply_adds=multiply_adds + (earlier.multiply_adds if earlier else 0),
        )
    return Count(tuple(rows.values()))


def _flat_calls(
    model: keras.Model, shapes: Sequence[Sequence[int | None]] | None, prefix: str
) -> Iterator[tuple[str, Call]]:
    """The calls of a model and of those nested in it, each with its name."""
    for call in trace(model, shapes).calls:
        name = prefix + call.operation.name
        if is_graph(call.operation):
            inner = [tensor.shape for tensor in call.inputs]
            yield from _flat_calls(call.operation, inner, f"{name}/")
        else:
            yield name, call


def _numbers(operation: Any, convention: str) -> tuple[int, int]:
    """The learned numbers of a layer and its others."""
    if not isinstance(operation, layers.Layer):
        return 0, 0
    if convention == "paper":
        if isinstance(operation, ULSAM):
            return 2 * _channels(operation), 0
        if not isinstance(operation, tuple(_KERNELS)):
            return 0, 0
    # Not by `trainable`, which a frozen layer's weights are not.
    statistics = sum(_size(weight) for weight in operation.weights if weight.name in _STATISTICS)
    return sum(_size(weight) for weight in operation.weights) - statistics, statistics


def _multiply_adds(name: str, call: Call, convention: str) -> int:
    operation = call.operation
    if isinstance(operation, ULSAM):
        sizes = _sizes(name, call.inputs[0].shape[1:])
        return cost.multiply_adds(*sizes) if convention == "exact" else 2 * math.prod(sizes)
    for kind, kernels in _KERNELS.items():
        if isinstance(operation, kind):
            places = call.inputs[0] if isinstance(operation, _PER_INPUT) else call.outputs[0]
            return math.prod(_sizes(name, _positions(operation, places.shape))) * kernels(operation)
    has_weights = bool(getattr(operation, "weights", ()))
    if has_weights and not isinstance(operation, _FREE) or type(operation).__name__ in _PRODUCTS:
        raise ValueError(
            "The multiply-adds of this layer are not known; count a model without it. "
            f"Received: layer {name!r} of type {type(operation).__name__}"
        )
    return 0


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _channels(ulsam: ULSAM) -> int:
    return ulsam.depthwise_norm.gamma.shape[0]


def _positions(operation: Any, shape: Sequence[int | None]) -> Sequence[int | None]:
    """The axes of a shape over which a kernel is applied: no batch, no channels."""
    if getattr(operation, "data_format", None) == "channels_first":
        return shape[2:]
    return shape[1:-1]


def _sizes(name: str, shape: Sequence[int | None]) -> list[int]:
    sizes = [size for size in shape if size is not None]
    if len(sizes) < len(shape):
        raise ValueError(
            f"Layer {name!r} works on a shape with unknown sizes; give `input_shape`. "
            f"Received: shape={tuple(shape)}"
        )
    return sizes


# The kernel weights of each kind of layer whose kernels are applied at every position. The order
# matters: a subclass comes before its base.
_KERNELS: dict[type, Callable[[Any], int]] = {
    layers.SeparableConv1D: lambda it: _size(it.depthwise_kernel) + _size(it.pointwise_kernel),
    layers.SeparableConv2D: lambda it: _size(it.depthwise_kernel) + _size(it.pointwise_kernel),
    **dict.fromkeys(
        (
            layers.DepthwiseConv1D,
            layers.DepthwiseConv2D,
            layers.Conv1DTranspose,
            layers.Conv2DTranspose,
            layers.Conv3DTranspose,
            layers.Conv1D,
            layers.Conv2D,
            layers.Conv3D,
            layers.Dense,
        ),
        lambda it: _size(it.kernel),
    ),
}
# A transposed convolution applies its kernel at every input position.
_PER_INPUT = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
# Layers with weights that do no multiply-adds worth counting.
_FREE = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.Embedding,
)
# Layers and bare operations without weights that do.
_PRODUCTS = frozenset(
    {
        "AdditiveAttention",
        "Attention",
        "Conv",
        "ConvTranspose",
        "DepthwiseConv",
        "Dot",
        "DotProductAttention",
        "Einsum",
        "Inner",
        "Lambda",
        "Matmul",
        "Outer",
        "SeparableConv",
        "Tensordot",
        "Vdot",
    }
)
# Weights that are not learned.
_STATISTICS = frozenset({"moving_mean", "moving_variance", "mean", "variance", "count"})
