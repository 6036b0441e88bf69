"""Which tensors of a model are quantised, and how: one table, and the rule of what is fused.

Imports nothing; tf_keras layers are known by the names of their classes.

LiteRT's int8 operators decide what there is to simulate. A convolution, its batch normalization
and a ReLU become one operator, so nothing is rounded between them. Operators that move values
leave the range of their input. Softmax, sigmoid and tanh write with a fixed range, whatever was
trained.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Range = Literal["moving"] | tuple[float, float]

# The output ranges of the int8 kernels: scale 1/256 with the zero point -128, scale 1/128 with 0,
# and scale 1/16 with 127.
PROBABILITY: Range = (0.0, 255.0 / 256.0)
SIGNED_UNIT: Range = (-1.0, 127.0 / 128.0)
LOG_PROBABILITY: Range = (-255.0 / 16.0, 0.0)


@dataclass(frozen=True)
class Recipe:
    """How one layer class is quantised.

    Attributes:
        weights: The weights, and the axis whose every index has its own range (`None`: one range).
        constants: The same for kernels that are computed or constant, by the attribute of the
            function they pass through.
        activations: Inner tensors and their ranges.
        output: The range of the output; `None` where the operator keeps the range of its input.
        fuses: Which of the layers that may follow become part of the same operator.
        joins: Whether the operator has one range for all of its inputs and its output.
        computes: Whether such an operator gives values between those of its input, which are
            rounded once more.
    """

    weights: tuple[tuple[str, int | None], ...] = ()
    constants: tuple[tuple[str, int | None], ...] = ()
    activations: tuple[tuple[str, Range], ...] = ()
    output: Range | None = "moving"
    fuses: frozenset[str] = frozenset()
    joins: bool = False
    computes: bool = False

    def arguments(self, *, fused: bool) -> dict[str, Any]:
        """The arguments of the layer's QuantizeConfig; `fused`: the output is left as it is."""
        return {
            "weights": self.weights,
            "constants": self.constants,
            "activations": self.activations,
            "output": None if fused else self.output,
        }


_NORM_AND_RELU = frozenset({"norm", "relu"})
_RELU = frozenset({"relu"})
_CONV = Recipe(weights=(("kernel", 3),), fuses=_NORM_AND_RELU)
# Values are moved, or the largest of them taken.
_SAME_RANGE = Recipe(output=None, joins=True)
_SAME_RANGE_COMPUTED = Recipe(output=None, joins=True, computes=True)
# The operators take inputs of one range only, which is that of their output.
_JOINED = Recipe(joins=True)

RECIPES: Mapping[str, Recipe] = {
    "Conv2D": _CONV,
    "DepthwiseConv2D": Recipe(weights=(("depthwise_kernel", 2),), fuses=_NORM_AND_RELU),
    # Their kernels take one scale for the whole weight, so a norm of many cannot be folded in.
    "Dense": Recipe(weights=(("kernel", None),), fuses=_RELU),
    "Conv2DTranspose": Recipe(weights=(("kernel", None),)),
    "BlockDiagonalConv2D": Recipe(constants=(("kernel_activation", 3),), fuses=_NORM_AND_RELU),
    # Not fused with a norm: the converter holds equal constants once, and folds into that one.
    "ChannelAffine": Recipe(constants=(("kernel_activation", 2),), fuses=_RELU),
    "ConvBatchNormalization": Recipe(constants=(("kernel_activation", 2),), fuses=_RELU),
    "BatchNormalization": Recipe(fuses=_RELU),
    "Add": Recipe(fuses=_RELU),
    "Subtract": Recipe(fuses=_RELU),
    "Multiply": Recipe(fuses=_RELU),
    "Rescaling": Recipe(fuses=_RELU),
    "Softmax": Recipe(output=PROBABILITY),
    "Concatenate": _JOINED,
    "Maximum": _JOINED,
    "Minimum": _JOINED,
    "AveragePooling2D": _SAME_RANGE_COMPUTED,
    **{
        name: _SAME_RANGE
        for name in (
            "MaxPooling2D",
            "GlobalMaxPooling2D",
            "ZeroPadding2D",
            "Cropping2D",
            "UpSampling2D",
            "Flatten",
            "Reshape",
            "Permute",
            "Dropout",
            "SpatialDropout2D",
            "GaussianNoise",
            "GaussianDropout",
        )
    },
}
_ATTENTION: Mapping[str, tuple[tuple[str, Range], ...]] = {
    "log_softmax": (("log_activation", LOG_PROBABILITY), ("attention_activation", "moving")),
    "softmax": (("attention_activation", PROBABILITY),),
    "float": (("attention_activation", "moving"),),
}
_ACTIVATIONS: Mapping[str, Recipe] = {
    "sigmoid": Recipe(output=PROBABILITY),
    "softmax": Recipe(output=PROBABILITY),
    "tanh": Recipe(output=SIGNED_UNIT),
}
# Any other layer: its output follows the data.
_DEFAULT = Recipe()


def recipe_for(layer: Any) -> Recipe:
    """The recipe of a tf_keras layer."""
    name = type(layer).__name__
    if name == "Activation":
        return _ACTIVATIONS.get(layer.activation.__name__, _DEFAULT)
    if name == "SubspaceAttention":
        return Recipe(
            constants=(("kernel_activation", 3),),
            activations=_ATTENTION[layer.form],
            output=None,
        )
    if name == "UpSampling2D" and layer.interpolation != "nearest":
        return _SAME_RANGE_COMPUTED
    return RECIPES.get(name, _DEFAULT)


def role(layer: Any) -> str | None:
    """What a layer is to the one before it: "norm" or "relu" where it can be fused into that."""
    name = type(layer).__name__
    if name == "BatchNormalization":
        return "norm"
    if name == "ReLU" and not layer.negative_slope and not layer.threshold:
        return "relu" if layer.max_value in (None, 6) else None
    return None


@dataclass(frozen=True)
class Decision:
    """What becomes of one call of a layer.

    Attributes:
        fused: Whether the layer after it becomes part of its operator.
        alone: Whether it is a norm with no convolution before it to be folded into.
        quantize: Whether anything in it is rounded.
    """

    fused: bool
    alone: bool
    quantize: bool


def decide(
    steps: Sequence[Any], outputs: Iterable[Any], chosen: Mapping[str, bool]
) -> list[Decision]:
    """What becomes of each call of a layer of the model.

    Args:
        steps: The calls, in order; each with `layer`, `inputs`, `output`, `source` and `quantize`.
        outputs: The output tensors of the model.
        chosen: By name of a Keras 3 layer, whether to quantise it, whatever its steps say.
    """
    readers: dict[int, list[Any]] = {}
    for step in steps:
        for tensor in as_list(step.inputs):
            readers.setdefault(id(tensor), []).append(step)
    kept = {id(tensor) for tensor in outputs}

    calls: dict[int, int] = {}
    for step in steps:
        calls[id(step.layer)] = calls.get(id(step.layer), 0) + 1

    def only_reader(step: Any) -> Any:
        found = readers.get(id(step.output), [])
        return found[0] if len(found) == 1 and id(step.output) not in kept else None

    def follows(step: Any) -> bool:
        """Whether the next layer becomes part of this one's operator."""
        follower = only_reader(step)
        return (
            follower is not None
            and role(follower.layer) in recipe_for(step.layer).fuses
            and calls[id(step.layer)] == calls[id(follower.layer)]
        )

    # A layer that is called several times has one range, so all of its calls must be alike.
    fused: dict[int, bool] = {}
    for step in steps:
        fused[id(step.layer)] = fused.get(id(step.layer), True) and follows(step)
    folded = {id(step.output) for step in steps if fused[id(step.layer)]}

    # The outputs of layers in float that the next layer is fused into: that one is in float too.
    open_ends: set[int] = set()
    decisions = []
    for step in steps:
        inputs = as_list(step.inputs)
        rank = len(step.output.shape)
        alone = (
            role(step.layer) == "norm"
            and rank in (2, 4)
            and rank - 1 in step.layer.axis
            and id(inputs[0]) not in folded
        )
        # That of vectors is a convolution between two reshapes, which a ReLU is not part of.
        joined = fused[id(step.layer)] and not (alone and rank == 2)
        quantize = chosen.get(step.source, step.quantize)
        # What moves values does as its inputs do.
        quantize = quantize or recipe_for(step.layer).joins
        quantize = quantize and open_ends.isdisjoint(map(id, inputs))
        if joined and not quantize:
            open_ends.add(id(step.output))
        decisions.append(Decision(joined, alone, quantize))
    return decisions


def as_list(inputs: Any) -> list[Any]:
    """The tensors that a layer is called on."""
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
