"""The attention maps of a model, beside what it computes.

Imports Keras (public names only), NumPy, `ulsam_keras.graph` and `ulsam_keras.layer`.
"""

from collections.abc import Container
from typing import Any

import keras
import numpy as np

from ulsam_keras.graph import as_functional, is_graph, new_inputs
from ulsam_keras.layer import ULSAM


def with_attention(model: keras.Model) -> keras.Model:
    """The model with the attention of every ULSAM as further outputs.

    The layers and weights are the model's own, so that the two change together; the model itself
    is left as it is.

    Args:
        model: A functional or built Sequential model, with nested ones or not.

    Returns:
        A functional model whose output is a dictionary: the model's outputs, under their keys or
        the names of their layers, and the attention after the softmax, `(N, H, W, g)` or, for
        `channels_first`, `(N, g, H, W)`, under `"<layer>_attention"`. A layer inside of a nested
        model goes by `"<nested>_<layer>"`, further calls of a shared layer by `"<layer>_1"` and so
        on.

    Raises:
        ValueError: If the model is a subclassed one, whose graph is not known, or has no ULSAM.
    """
    probe, scores = _checked_probe(model)
    tensors = keras.tree.flatten(probe.output)
    plain = tensors[: len(tensors) - len(scores)]
    outputs: dict[str, Any] = {}
    for name, tensor in zip(_output_names(model), plain, strict=True):
        outputs[_free(name, outputs)] = tensor
    for name, tensor in zip(scores, tensors[len(plain) :], strict=True):
        outputs[_free(f"{name}_attention", outputs)] = tensor
    return keras.Model(probe.input, outputs, name=f"{model.name}_with_attention")


def attention_maps(model: keras.Model, images: Any, batch_size: int = 32) -> dict[str, np.ndarray]:
    """The attention of every ULSAM in a model, for some images.

    Args:
        model: A functional or built Sequential model.
        images: What the model's `predict` takes.
        batch_size: Images computed at a time. Defaults to 32.

    Returns:
        `{layer: array}` in the order of the model, `(N, H, W, g)` whatever the data format; every
        map sums to 1. Layers are named as in `with_attention`.

    Raises:
        ValueError: As `with_attention`.
    """
    probe, scores = _checked_probe(model)
    tensors = keras.tree.flatten(probe.output)[-len(scores) :]
    maps = keras.Model(probe.input, tensors).predict(images, batch_size=batch_size, verbose=0)
    return {
        name: np.moveaxis(value, 1, 3) if layer.data_format == "channels_first" else value
        for (name, layer), value in zip(scores.items(), keras.tree.flatten(maps), strict=True)
    }


def _checked_probe(model: keras.Model) -> tuple[keras.Model, dict[str, ULSAM]]:
    if not is_graph(model):
        raise ValueError(
            "Attention can be brought out of functional and built Sequential models only; call the "
            "layers of others with return_attention_scores=True. "
            f"Received: model={model.name!r} of type {type(model).__name__}"
        )
    probe, sites = _probe(model)
    if not sites:
        raise ValueError(f"The model has no ULSAM layer. Received: model={model.name!r}")
    return probe, sites


def _probe(model: keras.Model) -> tuple[keras.Model, dict[str, ULSAM]]:
    """A model of the same layers whose outputs are the model's, then the attention of each site.

    With it the layer of each site, in the order of the outputs.
    """
    functional = as_functional(model)
    sites: dict[str, ULSAM] = {}
    scores: list[Any] = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, ULSAM):
            name = _free(operation.name, sites)
            sites[name] = operation
            call_scores = _CallWithScores(operation, name=f"{name}_with_attention")
            outputs, attention = call_scores(args[0], training=kwargs.get("training"))
            scores.append(attention)
            return (outputs, attention) if kwargs.get("return_attention_scores") else outputs
        if is_graph(operation) and _has_ulsam(operation):
            nested, inner = _probe(operation)
            outputs = keras.tree.flatten(nested(*args, **kwargs))
            own = len(outputs) - len(inner)
            for name, layer in inner.items():
                sites[_free(f"{operation.name}_{name}", sites)] = layer
            scores.extend(outputs[own:])
            structure = as_functional(operation).output
            return keras.tree.pack_sequence_as(structure, outputs[:own])
        return operation(*args, **kwargs)

    clone = keras.models.clone_model(
        functional,
        input_tensors=new_inputs(functional),
        clone_function=lambda operation: operation,
        call_function=call,
    )
    outputs = [*keras.tree.flatten(clone.output), *scores]
    return keras.Model(clone.input, outputs, name=functional.name), sites


@keras.saving.register_keras_serializable("ulsam_keras")
class _CallWithScores(keras.layers.Layer):
    """A call of a ULSAM that returns the attention too, as a layer of its own.

    A functional model takes the number of a layer's outputs from its first call, so that a layer
    first called without the attention cannot give it in a graph any more.
    """

    def __init__(self, layer: ULSAM, **kwargs: Any) -> None:
        super().__init__(**{"dtype": layer.dtype_policy, **kwargs})
        self.layer = layer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.layer(inputs, training=training, return_attention_scores=True)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return self.layer.compute_output_spec(inputs, return_attention_scores=True)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_CallWithScores":
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


def _has_ulsam(model: keras.Model) -> bool:
    layers = model.layers
    return any(isinstance(x, ULSAM) or (is_graph(x) and _has_ulsam(x)) for x in layers)


def _output_names(model: keras.Model) -> list[str]:
    if isinstance(model.output, dict) and len(model.output) == len(model.outputs):
        # In the order in which the structure is flattened.
        return [str(key) for key in keras.tree.flatten({key: key for key in model.output})]
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(model.output_names)


def _free(name: str, taken: Container[str]) -> str:
    """The name, with `_1`, `_2`, … if it is taken."""
    candidate, suffix = name, 0
    while candidate in taken:
        suffix += 1
        candidate = f"{name}_{suffix}"
    return candidate
