"""What there is to quantise in a layer, and the rule of what is fused.

Imports the standard library; `bridge/table.py` has the recipe of every layer class.

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
    """How a tf_keras layer is quantised. A range is `"moving"`, or a pair of numbers.

    Attributes:
        weights: Pairs of the attribute of a weight, and the axis whose every index has its own
            range (`None`: one range).
        constants: The same for kernels that are computed or constant, by the attribute of the
            function they pass through.
        activations: Pairs of the attribute of a function that an inner tensor passes through, and
            its range.
        output: The range of the output; `None` where the operator keeps the range of its input.
        role: What the layer is to the one before it, whose operator it can be part of: `"norm"`,
            `"relu"`, or `None`.
        fuses: The roles of those that can become part of this one's operator after it.
        joins: Whether the operator has one range for all of its inputs and its output.
        computes: What such an operator does where it gives values between those of its input,
            which are rounded once more: `"averages"`, `"interpolates"`, or `None`.
    """

    weights: tuple[tuple[str, int | None], ...] = ()
    constants: tuple[tuple[str, int | None], ...] = ()
    activations: tuple[tuple[str, Range], ...] = ()
    output: Range | None = "moving"
    role: Literal["norm", "relu"] | None = None
    fuses: tuple[str, ...] = ()
    joins: bool = False
    computes: Literal["averages", "interpolates"] | None = None

    def arguments(self, *, fused: bool) -> dict[str, Any]:
        """The arguments of the layer's QuantizeConfig; `fused`: the output is left as it is."""
        return {
            "weights": self.weights,
            "constants": self.constants,
            "activations": self.activations,
            "output": None if fused else self.output,
        }


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
        steps: The calls, in order; each with `layer`, `recipe`, `inputs`, `output`, `source` and
            `quantize`.
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
            and follower.recipe.role in step.recipe.fuses
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
            type(step.layer).__name__ == "BatchNormalization"
            and rank in (2, 4)
            and rank - 1 in step.layer.axis
            and id(inputs[0]) not in folded
        )
        # That of vectors is a convolution between two reshapes, which a ReLU is not part of.
        joined = fused[id(step.layer)] and not (alone and rank == 2)
        quantize = chosen.get(step.source, step.quantize)
        # What moves values does as its inputs do.
        quantize = quantize or step.recipe.joins
        quantize = quantize and open_ends.isdisjoint(map(id, inputs))
        if joined and not quantize:
            open_ends.add(id(step.output))
        decisions.append(Decision(joined, alone, quantize))
    return decisions


def as_list(inputs: Any) -> list[Any]:
    """The tensors that a layer is called on."""
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
