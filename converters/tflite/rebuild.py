"""Makes the float32 model that is exported out of the model that the user has.

Imports Keras 3, inside the functions, and NumPy. The user's model is never changed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

_OTHER_FLOATS = {"float16", "bfloat16", "float64"}
_OTHER_POLICIES = _OTHER_FLOATS | {"mixed_float16", "mixed_bfloat16"}


def layers_of(layer: Any) -> Iterator[Any]:
    """The layer and every layer held in its attributes, at any depth, each once.

    `Model.layers` does not show the layers inside of composite layers.
    """
    import keras

    seen: set[int] = set()

    def walk(value: Any) -> Iterator[Any]:
        if isinstance(value, keras.layers.Layer):
            if id(value) not in seen:
                seen.add(id(value))
                yield value
                yield from walk([vars(value), getattr(value, "layers", [])])
        elif isinstance(value, dict):
            for item in list(value.values()):
                yield from walk(item)
        elif isinstance(value, (list, tuple)):
            for item in list(value):
                yield from walk(item)

    return walk(layer)


@contextmanager
def called_otherwise(calls: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Has layers or operations compute by other functions meanwhile."""
    try:
        for operation, call in calls.items():
            operation.call = call
        yield
    finally:
        for operation in calls:
            vars(operation).pop("call", None)


def float32_model(model: Any, input_shapes: Any) -> Any:
    """The model itself if it computes in float32, otherwise a float32 copy.

    The copy is made from the model's config, with every dtype policy replaced, and holds the
    weights rounded to float32.

    Args:
        model: A built `keras.Model`.
        input_shapes: The shapes of its inputs, in the structure of its first call argument; used
            to build a copy whose class does not build itself.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If the model was quantized by Keras, or if it is not in float32 and cannot be
            rebuilt from its config.
    """
    quantized = [layer.name for layer in layers_of(model) if _quantized(layer)]
    if quantized:
        raise ValueError(
            f"Model {model.name!r} was quantized by Keras; give the float model that it was made "
            f"from. Received: quantized layers {quantized[:5]}"
        )
    if not _other_floats(model):
        return model
    try:
        copy = _rebuilt(model, input_shapes)
    # A user's get_config, from_config, build and call may raise anything.
    except Exception as error:
        raise ValueError(
            f"Model {model.name!r} computes in {model.dtype_policy.name} and cannot be rebuilt in "
            "float32 from its config; add `get_config` to its class, or build it under "
            "keras.config.set_dtype_policy('float32'), load its weights and convert that. "
            f"Received: {type(error).__name__}: {first_line(error)}"
        ) from error
    fixed = _other_floats(copy)
    if fixed:
        found = ", ".join(f"{layer.name} in {layer.dtype_policy.name}" for layer in fixed)
        raise ValueError(
            f"Model {model.name!r} has layers whose dtype is written in their code, not in their "
            f"config; make them take it from `dtype`. Received: {found}"
        )
    return copy


def keras_dtype(variable: Any) -> str:
    """The name of a variable's dtype."""
    import keras

    return keras.backend.standardize_dtype(variable.dtype)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _other_floats(model: Any) -> list[Any]:
    """The layers that do not compute in float32, or do not hold their weights in it."""
    import keras

    def computes(layer: Any) -> bool:
        # Inputs and models made of a graph of layers carry a policy that nothing is done in.
        graph = isinstance(layer, keras.Model) and getattr(layer, "inputs", None)
        return not graph and not isinstance(layer, keras.layers.InputLayer)

    return [
        layer
        for layer in filter(computes, layers_of(model))
        if {layer.compute_dtype, layer.variable_dtype} & _OTHER_FLOATS
        or any(keras_dtype(weight) in _OTHER_FLOATS for weight in layer.weights)
    ]


def _quantized(layer: Any) -> bool:
    return getattr(layer.dtype_policy, "quantization_mode", None) is not None


def _rebuilt(model: Any, input_shapes: Any) -> Any:
    import keras

    config = _in_float32(keras.saving.serialize_keras_object(model))
    config.pop("compile_config", None)
    classes = {type(layer) for layer in layers_of(model)}
    # Lambda layers come from the model in hand, so running their code is no new risk.
    copy = keras.saving.deserialize_keras_object(
        config,
        custom_objects={cls.__name__: cls for cls in classes},
        safe_mode=False,
    )
    if len(copy.weights) != len(model.weights):
        # A subclassed model makes the weights of its layers when it is called.
        zeros = keras.tree.map_shape_structure(keras.ops.zeros, input_shapes)
        copy(zeros, training=False)
    source, target = model.weights, copy.weights
    if [tuple(w.shape) for w in source] != [tuple(w.shape) for w in target]:
        raise ValueError("the rebuilt model has other weights")
    for old, new in zip(source, target, strict=True):
        new.assign(np.asarray(old.numpy(), dtype=keras_dtype(new)))
    return copy


def _in_float32(config: Any) -> Any:
    """The config with every dtype policy of other floats replaced by float32."""
    if isinstance(config, dict):
        return {
            key: "float32"
            if isinstance(value, str)
            and value in _OTHER_POLICIES
            and (key.endswith("dtype") or key == "default_policy")
            else _in_float32(value)
            for key, value in _float32_policy(config).items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(item) for item in config)
    return config


def _float32_policy(config: dict[Any, Any]) -> dict[Any, Any]:
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float32"}}
    return config
