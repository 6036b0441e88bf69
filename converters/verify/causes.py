"""Why a model is not what was recorded: the common mistakes, each tried out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters.verify.limits import Limits
from converters.verify.outputs import relative_difference
from converters.verify.samples import Reference, Side
from converters.verify.sides import FileSide, KerasSide
from converters.verify.targets import CPU

Change = Callable[[np.ndarray], np.ndarray]
# A mistake is named if without it the difference is a tenth of what it was, and passes or is small.
_BETTER, _RIGHT = 10.0, 0.1
# What causes are looked for on.
SAMPLES = 8
_PYTORCH_EPSILON, _KERAS_EPSILON = 1e-5, 1e-3


@dataclass(frozen=True)
class Mistake:
    """A mistake, and what puts it right; that raises where it cannot be.

    Attributes:
        text: What is wrong, in words.
        inputs: What each recorded input should have been.
        answers: What the model should have answered, of what it does.
        recorded: What should have been recorded of each output, of what was.
        model: The model that should have been compared.
    """

    text: str = ""
    inputs: Change = lambda x: x
    answers: Change = lambda x: x
    recorded: Change = lambda x: x
    model: Callable[[Side], Side] = lambda side: side


def likely_cause(model: Side, reference: Reference, limits: Limits) -> str:
    """The mistake that, put right, makes the difference vanish, in one line; empty if none does.

    Nothing is tried where the difference passes. What cannot be tried on a model is no cause.

    Args:
        model: The model that differs.
        reference: What was recorded, in the layout of the model.
        limits: What passes.
    """
    now, limit = distance(model, reference), allowed(model, limits)
    if not now > limit:
        return ""
    found, text = min((distance(model, reference, each), each.text) for each in _MISTAKES)
    if not (found * _BETTER <= now and (found <= limit or found < _RIGHT)):
        return ""
    rest = "vanishes" if found <= limit else f"is {found:.1e}"
    return f"Likely cause: {text}. With that put right the difference {rest}."


def distance(model: Side, reference: Reference, mistake: Mistake | None = None) -> float:
    """How far a model is from what was recorded, on a few samples, with a mistake put right.

    It is infinite if the model does not run, or the mistake cannot be put right.
    """
    right = mistake or Mistake()
    try:
        inputs = tuple(map(right.inputs, reference.first(SAMPLES)))
        answers = right.model(model).answer(inputs, CPU[0]).outputs or {}
        return max(
            relative_difference(right.answers(answers[name]), right.recorded(value[:SAMPLES]))
            for name, value in reference.outputs.items()
        )
    except Exception:  # whatever a user's layers make of it: a layer without get_config, say
        return float("inf")


def allowed(model: Side, limits: Limits, gpu_precision: str | None = None) -> float:
    """How far a model may be from what was recorded: Keras from it, and a file from Keras."""
    exact = model.precision == "float32" and not isinstance(model, FileSide)
    return limits.reference + (0.0 if exact else limits.output(model.precision, gpu_precision))


def recalled(model: Any, call: Callable[..., Any]) -> Any:
    """A model of the same layers, whose calls are made by a function: `call(layer, *args)`."""
    import keras

    from ulsam_keras.graph import as_functional, new_inputs

    functional = as_functional(model)
    return keras.models.clone_model(
        functional,
        input_tensors=new_inputs(functional),
        clone_function=lambda layer: layer,
        call_function=call,
    )


def _rebuilt(
    wrong: Callable[[Any], bool],
    changes: Mapping[str, Any],
    prepared: Callable[[Any, Any], Any] = lambda layer, x: x,
) -> Callable[[Side], Side]:
    """What gives a Keras model with other layers, of a changed configuration, for those wrong."""

    def rebuilt(side: Side) -> Side:
        from ulsam_keras.graph import is_graph

        if not (isinstance(side, KerasSide) and is_graph(side.model)):
            raise ValueError("no graph of layers")
        if not any(map(wrong, side.model.layers)):
            raise ValueError("nothing to change")

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if not wrong(layer):
                return layer(*args, **kwargs)
            other = type(layer).from_config({**layer.get_config(), **changes})
            result = other(prepared(layer, args[0]), *args[1:], **kwargs)
            other.set_weights(layer.get_weights())
            return result

        return replace(side, model=recalled(side.model, call), _kept={})

    return rebuilt


def _padded_at_the_end(layer: Any) -> bool:
    from keras.layers import AveragePooling2D, Conv2D, DepthwiseConv2D, MaxPooling2D

    return (
        isinstance(layer, (Conv2D, DepthwiseConv2D, MaxPooling2D, AveragePooling2D))
        and getattr(layer, "padding", "") == "same"
        and max(layer.strides) > 1
        and layer.data_format == "channels_last"
    )


def _padded_on_both_sides(layer: Any, x: Any) -> Any:
    import keras

    size = getattr(layer, "kernel_size", None) or layer.pool_size
    dilation = getattr(layer, "dilation_rate", (1, 1))
    rows, columns = (d * (k - 1) // 2 for k, d in zip(size, dilation, strict=True))
    value = -1e30 if isinstance(layer, keras.layers.MaxPooling2D) else 0.0
    pads = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    return keras.ops.pad(x, pads, constant_values=value)


def _of_keras_epsilon(layer: Any) -> bool:
    from keras.layers import BatchNormalization, LayerNormalization

    kinds = (BatchNormalization, LayerNormalization)
    return isinstance(layer, kinds) and layer.epsilon == _KERAS_EPSILON


def _floats(change: Change) -> Change:
    def changed(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "f":
            raise ValueError("no floats")
        return change(x).astype("float32")

    return changed


def _images(change: Change) -> Change:
    def changed(x: np.ndarray) -> np.ndarray:
        if x.ndim != 4:
            raise ValueError("no images")
        return np.ascontiguousarray(change(x))

    return changed


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


_SCALES: Mapping[tuple[str, str], Change] = {
    # What the model takes, and what the reference holds.
    ("0 to 255", "0 to 1"): lambda x: x * 255,
    ("0 to 1", "0 to 255"): lambda x: x / 255,
    ("-1 to 1", "0 to 1"): lambda x: 2 * x - 1,
    ("0 to 1", "-1 to 1"): lambda x: (x + 1) / 2,
    ("-1 to 1", "0 to 255"): lambda x: x / 127.5 - 1,
}
_LAYOUT = "the reference is in another layout than was taken from its shape"
_MISTAKES = (
    Mistake(
        "the reference's outputs are after a softmax, the model's are logits", answers=_softmax
    ),
    Mistake("the model ends in a softmax, the reference's outputs are logits", recorded=_softmax),
    *(
        Mistake(f"the model takes inputs of {takes}, the reference holds {holds}", _floats(change))
        for (takes, holds), change in _SCALES.items()
    ),
    Mistake("the channels are in another order, RGB and BGR", _images(lambda x: x[..., ::-1])),
    Mistake(
        _LAYOUT, _images(lambda x: x.transpose(0, 3, 1, 2) if len(set(x.shape[1:])) == 1 else x)
    ),
    Mistake(_LAYOUT, _images(lambda x: x.transpose(0, 2, 1, 3) if x.shape[1] == x.shape[2] else x)),
    Mistake(
        "padding='same' at a stride above 1, which Keras pads at the end and PyTorch on both "
        "sides; pad before the layer, with ZeroPadding2D, and give it padding='valid'",
        model=_rebuilt(_padded_at_the_end, {"padding": "valid"}, _padded_on_both_sides),
    ),
    Mistake(
        "normalizations have Keras's epsilon, 1e-3, and PyTorch's is 1e-5; give them epsilon=1e-5",
        model=_rebuilt(_of_keras_epsilon, {"epsilon": _PYTORCH_EPSILON}),
    ),
)
