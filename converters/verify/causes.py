"""Why a model is not what was recorded: the common mistakes, each tried out.

Imports NumPy; Keras inside the functions that change a model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from converters.verify.limits import Limits
from converters.verify.outputs import relative_difference
from converters.verify.sides import KerasSide, ReferenceSide, Side
from converters.verify.targets import CPU

Arrays = Mapping[str, np.ndarray]
# A mistake is named if without it the difference passes, or is a tenth of what it was and small.
_BETTER, _RIGHT = 10.0, 0.1
_SAMPLES = 8
_PYTORCH_EPSILON, _KERAS_EPSILON = 1e-5, 1e-3


def likely_cause(model: Side, reference: ReferenceSide, limits: Limits) -> str:
    """The mistake that, put right, makes the difference vanish, in one line; empty if none does.

    Args:
        model: The model that differs.
        reference: What was recorded, in the layout of the model.
        limits: What passes.
    """
    inputs = {name: value[:_SAMPLES] for name, value in reference.reference.inputs.items()}
    wanted = {name: value[:_SAMPLES] for name, value in reference.reference.outputs.items()}

    def difference(side: Side, given: Arrays) -> float:
        try:
            outputs = side.answer(given, CPU[0]).outputs
        except ValueError:
            return float("inf")
        return float("inf") if outputs is None else _distance(outputs, wanted)

    now = difference(model, inputs)
    limit = limits.reference + limits.output(model.precision)
    answers = model.answer(inputs, CPU[0]).outputs or {}
    trials = _trials(model, inputs, answers, difference, wanted)
    found, text = min(((trial(), text) for text, trial in trials), default=(now, ""))
    if found > limit and not (found * _BETTER < now and found < _RIGHT):
        return ""
    rest = "vanishes" if found <= limit else f"is {found:.1e}"
    return f"Likely cause: {text}. With that put right the difference {rest}."


def _trials(
    model: Side,
    inputs: Arrays,
    answers: Arrays,
    difference: Callable[[Side, Arrays], float],
    wanted: Arrays,
) -> Iterator[tuple[str, Callable[[], float]]]:
    yield (
        "the reference's outputs are after a softmax, the model's are logits",
        lambda: _distance({name: _softmax(value) for name, value in answers.items()}, wanted),
    )
    yield (
        "the model ends in a softmax, the reference's outputs are logits",
        lambda: _distance(answers, {name: _softmax(value) for name, value in wanted.items()}),
    )
    for text, change in _INPUTS:
        changed = {name: change(value) for name, value in inputs.items()}
        if all(value is not None for value in changed.values()):
            given = {name: value for name, value in changed.items() if value is not None}
            yield text, lambda given=given: difference(model, given)  # type: ignore[misc]
    if isinstance(model, KerasSide):
        for text, rebuild in (_padded, _with_epsilon):
            other = rebuild(model.model)
            if other is not None:
                side = replace(model, model=other, _kept={})
                yield text, lambda side=side: difference(side, inputs)  # type: ignore[misc]


def _floats(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], np.ndarray | None]:
    return lambda x: change(x).astype("float32") if x.dtype.kind == "f" else None


def _images(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], np.ndarray | None]:
    return lambda x: np.ascontiguousarray(change(x)) if x.ndim == 4 else None


_INPUTS: tuple[tuple[str, Callable[[Any], np.ndarray | None]], ...] = (
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

    from ulsam_keras.graph import as_functional, is_graph, new_inputs

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

    functional = as_functional(model)
    return keras.models.clone_model(
        functional,
        input_tensors=new_inputs(functional),
        clone_function=lambda layer: layer,
        call_function=call,
    )


def _pytorch_epsilon(model: Any) -> Any:
    """The model with PyTorch's epsilon where normalizations have Keras's; `None` without."""
    import keras

    from ulsam_keras.graph import is_graph

    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)

    def default(layer: Any) -> bool:
        return isinstance(layer, kinds) and layer.epsilon == _KERAS_EPSILON

    if not is_graph(model) or not any(default(layer) for layer in model.layers):
        return None

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if default(layer):
            config["epsilon"] = _PYTORCH_EPSILON
        return type(layer).from_config(config)

    other = keras.models.clone_model(model, clone_function=clone)
    other.set_weights(model.get_weights())
    return other


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
