"""Why a model is not what was recorded: the common mistakes, each tried out.

Imports NumPy; Keras inside the functions that change a model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from converters.verify.limits import Limits
from converters.verify.outputs import relative_difference
from converters.verify.references import Reference, Side
from converters.verify.sides import FileSide, KerasSide
from converters.verify.targets import CPU

Arrays = Mapping[str, np.ndarray]
Change = Callable[[np.ndarray], np.ndarray]
# A mistake is named if without it the difference is a tenth of what it was, and passes or is small.
_BETTER, _RIGHT = 10.0, 0.1
_SAMPLES = 8
_PYTORCH_EPSILON, _KERAS_EPSILON = 1e-5, 1e-3


def likely_cause(model: Side, reference: Reference, limits: Limits) -> str:
    """The mistake that, put right, makes the difference vanish, in one line; empty if none does.

    Nothing is tried where the difference passes. What cannot be tried on a model is no cause.

    Args:
        model: The model that differs.
        reference: What was recorded, in the layout of the model.
        limits: What passes.
    """
    inputs, wanted = first_samples(reference)
    now, limit = distance(model, reference), allowed(model, limits)
    if not now > limit:
        return ""
    trials = ((_tried(trial), text) for text, trial in _trials(model, inputs, wanted))
    found, text = min(trials)
    if not (found * _BETTER <= now and (found <= limit or found < _RIGHT)):
        return ""
    rest = "vanishes" if found <= limit else f"is {found:.1e}"
    return f"Likely cause: {text}. With that put right the difference {rest}."


def first_samples(reference: Reference) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The inputs and outputs of a reference on which causes are looked for."""
    inputs = {name: value[:_SAMPLES] for name, value in reference.inputs.items()}
    return inputs, {name: value[:_SAMPLES] for name, value in reference.outputs.items()}


def distance(model: Side, reference: Reference) -> float:
    """How far a model is from what was recorded, on these samples; infinite if it does not run."""
    inputs, wanted = first_samples(reference)
    return _tried(lambda: _distance(_answers(model, inputs), wanted))


def allowed(model: Side, limits: Limits, gpu_precision: str | None = None) -> float:
    """How far a model may be from what was recorded: Keras from it, and a file from Keras."""
    exact = model.precision == "float32" and not isinstance(model, FileSide)
    return limits.reference + (0.0 if exact else limits.output(model.precision, gpu_precision))


def _tried(trial: Callable[[], float]) -> float:
    try:
        return trial()
    except Exception:  # whatever a user's layers make of it: a layer without get_config, say
        return float("inf")


def _trials(
    model: Side,
    inputs: Arrays,
    wanted: Arrays,
) -> Iterator[tuple[str, Callable[[], float]]]:
    """Each mistake, and what computes the difference without it; that raises where it cannot be."""
    yield (
        "the reference's outputs are after a softmax, the model's are logits",
        lambda: _distance(_each(_softmax, _answers(model, inputs)), wanted),
    )
    yield (
        "the model ends in a softmax, the reference's outputs are logits",
        lambda: _distance(_answers(model, inputs), _each(_softmax, wanted)),
    )
    for text, change in _INPUTS:
        yield text, lambda c=change: _distance(_answers(model, _each(c, inputs)), wanted)  # type: ignore[misc]
    if isinstance(model, KerasSide):
        for text, rebuild in (_padded, _with_epsilon):
            yield text, lambda r=rebuild: _distance(_answers(_rebuilt(model, r), inputs), wanted)  # type: ignore[misc]


def _answers(model: Side, inputs: Arrays) -> Arrays:
    answer = model.answer(tuple(inputs.values()), CPU[0])
    if answer.outputs is None:
        raise ValueError(answer.problem)
    return answer.outputs


def _rebuilt(side: KerasSide, rebuild: Callable[[Any], Any]) -> KerasSide:
    other = rebuild(side.model)
    if other is None:
        raise ValueError("nothing to change")
    return replace(side, model=other, _kept={})


def _each(change: Change, arrays: Arrays) -> Arrays:
    return {name: change(value) for name, value in arrays.items()}


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


_INPUTS: tuple[tuple[str, Change], ...] = (
    ("the model takes inputs of 0 to 255, the reference holds 0 to 1", _floats(lambda x: x * 255)),
    ("the model takes inputs of 0 to 1, the reference holds 0 to 255", _floats(lambda x: x / 255)),
    ("the model takes inputs of -1 to 1, the reference holds 0 to 1", _floats(lambda x: 2 * x - 1)),
    (
        "the model takes inputs of 0 to 1, the reference holds -1 to 1",
        _floats(lambda x: (x + 1) / 2),
    ),
    (
        "the model takes inputs of -1 to 1, the reference holds 0 to 255",
        _floats(lambda x: x / 127.5 - 1),
    ),
    ("the channels are in another order, RGB and BGR", _images(lambda x: x[..., ::-1])),
    (
        "the reference is in another layout than was taken from its shape",
        _images(lambda x: x.transpose(0, 3, 1, 2) if len(set(x.shape[1:])) == 1 else x),
    ),
    (
        "the reference is in another layout than was taken from its shape",
        _images(lambda x: x.transpose(0, 2, 1, 3) if x.shape[1] == x.shape[2] else x),
    ),
)


def _pad_like_pytorch(model: Any) -> Any:
    """The model with the padding `same` of strided layers on both sides alike; `None` without."""
    import keras

    from ulsam_keras.graph import is_graph

    layers = keras.layers
    strided = (layers.Conv2D, layers.DepthwiseConv2D, layers.MaxPooling2D, layers.AveragePooling2D)

    def uneven(layer: Any) -> bool:
        return (
            isinstance(layer, strided)
            and getattr(layer, "padding", "") == "same"
            and max(layer.strides) > 1
            and layer.data_format == "channels_last"
        )

    if not is_graph(model) or not any(uneven(layer) for layer in model.layers):
        return None

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not uneven(layer):
            return layer(*args, **kwargs)
        size = getattr(layer, "kernel_size", None) or layer.pool_size
        dilation = getattr(layer, "dilation_rate", (1, 1))
        sides = [d * (k - 1) // 2 for k, d in zip(size, dilation, strict=True)]
        value = -1e30 if isinstance(layer, layers.MaxPooling2D) else 0.0
        pads = ((0, 0), (sides[0], sides[0]), (sides[1], sides[1]), (0, 0))
        plain = type(layer).from_config({**layer.get_config(), "padding": "valid"})
        padded = keras.ops.pad(args[0], pads, constant_values=value)
        result = plain(padded)
        plain.set_weights(layer.get_weights())
        return result

    return recalled(model, call)


def _pytorch_epsilon(model: Any) -> Any:
    """The model with PyTorch's epsilon where normalizations have Keras's; `None` without."""
    import keras

    from ulsam_keras.graph import is_graph

    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)

    def default(layer: Any) -> bool:
        return isinstance(layer, kinds) and layer.epsilon == _KERAS_EPSILON

    if not is_graph(model) or not any(default(layer) for layer in model.layers):
        return None

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not default(layer):
            return layer(*args, **kwargs)
        other = type(layer).from_config({**layer.get_config(), "epsilon": _PYTORCH_EPSILON})
        result = other(*args, **kwargs)
        other.set_weights(layer.get_weights())
        return result

    return recalled(model, call)


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


_padded = (
    "padding='same' at a stride above 1, which Keras pads at the end and PyTorch on both sides; "
    "pad before the layer, with ZeroPadding2D, and give it padding='valid'",
    _pad_like_pytorch,
)
_with_epsilon = (
    "normalizations have Keras's epsilon, 1e-3, and PyTorch's is 1e-5; give them epsilon=1e-5",
    _pytorch_epsilon,
)


def _distance(outputs: Arrays, wanted: Arrays) -> float:
    try:
        return max(relative_difference(outputs[name], wanted[name]) for name in wanted)
    except (KeyError, ValueError):
        return float("inf")


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
