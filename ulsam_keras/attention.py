"""The attention maps of a model, beside what it computes.

Imports Keras (public names only), NumPy, `ulsam_keras.graph`, `ulsam_keras.layer` and
`ulsam_keras.spatial_softmax`.
"""

from collections.abc import Container, Iterator
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from ulsam_keras.graph import as_functional, is_graph, new_inputs
from ulsam_keras.layer import ULSAM, recorded_scores
from ulsam_keras.spatial_softmax import current_form


def with_attention(model: keras.Model) -> keras.Model:
    """The model with the attention of every ULSAM as further outputs.

    The weights are the model's own, so that the two change together; the model is left as it is,
    and is one layer of the new one.

    Args:
        model: A functional or built Sequential model, with nested ones or not.

    Returns:
        A functional model whose output is a dictionary: the model's outputs, under their keys or
        the names of their layers, and the attention after the softmax, `(N, H, W, g)` or, for
        `channels_first`, `(N, g, H, W)`, under `"<layer>_attention"`. A layer inside of a nested
        model or of a layer of one's own goes by `"<outer>/<layer>"`, further calls of a shared
        layer by `"<layer>_1"` and so on.

    Raises:
        ValueError: If the model is a subclassed one, whose graph is not known, or has no ULSAM.
    """
    _check(model)
    if not is_graph(model):
        raise ValueError(
            "Attention can become outputs of functional and built Sequential models only; take "
            "attention_maps of others, and of subclasses with a call of their own. "
            f"Received: model={model.name!r} of type {type(model).__name__}"
        )
    inputs = new_inputs(as_functional(model))
    probe = _WithAttention(model, name="with_attention")
    outputs = probe(inputs)
    ordered = {name: outputs[name] for name in probe.order}
    return keras.Model(inputs, ordered, name=f"{model.name}_with_attention")


def attention_maps(model: keras.Model, images: Any, batch_size: int = 32) -> dict[str, np.ndarray]:
    """The attention of every ULSAM in a model, for some images.

    What it takes to compute them is kept for the model that was asked last, so that asking again
    is as fast as `predict`.

    Args:
        model: A Keras 3 model of any kind, a subclassed one too.
        images: What the model's `predict` takes.
        batch_size: Images computed at a time. Defaults to 32.

    Returns:
        `{layer: array}` in the order of the calls, `(N, H, W, g)` whatever the data format; every
        map sums to 1. Layers are named as in `with_attention`.

    Raises:
        ValueError: If it is not a Keras 3 model, or has no ULSAM.
    """
    _check(model)
    probe = _probe(model, tuple(model.layers), current_form())
    maps = probe.predict(images, batch_size=batch_size, verbose=0)
    return {key.partition("/")[2]: maps[key] for key in sorted(maps)}


@lru_cache(maxsize=1)
def _probe(model: keras.Model, layers: tuple[Any, ...], form: str) -> keras.Model:
    """What computes the maps; the further arguments are what else its trace depends on."""
    return _Attention(model)


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        module = type(model).__module__.split(".")[0]
        advice = "; of a model from quantize_model, give what restore(q, model) returns"
        raise ValueError(
            f"`model` must be a Keras 3 model{advice if module == 'tf_keras' else ''}. "
            f"Received: model of type {module}.{type(model).__name__}"
        )
    if model.built and not named_ulsams(model):
        raise ValueError(f"The model has no ULSAM layer. Received: model={model.name!r}")


class _Attention(keras.Model):
    """The attention of every call of a ULSAM in a model; the keys begin with their order."""

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        # The model takes its inputs as they are.
        super().__init__(**{"autocast": False, "name": "attention_maps", **kwargs})
        self.model = model

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        _, scores = self._run(inputs, training)
        names = enumerate(scores)
        return {f"{number:06d}/{name}": scores[name][1] for number, name in names}

    def _run(self, inputs: Any, training: bool | None) -> tuple[Any, dict[str, tuple[ULSAM, Any]]]:
        """What the model gives, and of each site the layer and its attention."""
        with recorded_scores() as recorded:
            outputs = self.model(inputs, training=training)
        names = named_ulsams(self.model)
        scores: dict[str, tuple[ULSAM, Any]] = {}
        for layer, attention in recorded:
            scores[_free(names.get(layer, str(layer.name)), scores)] = layer, attention
        return outputs, scores


@keras.saving.register_keras_serializable("ulsam_keras")
class _WithAttention(_Attention):
    """A model's outputs and the attention, in one dictionary.

    Attributes:
        order: Its keys as they were put in; what a back end traces comes back sorted.
    """

    order: tuple[str, ...] = ()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        plain, scores = self._run(inputs, training)
        outputs: dict[str, Any] = {}
        names = _output_names(self.model)
        for name, tensor in zip(names, keras.tree.flatten(plain), strict=True):
            outputs[_free(name, outputs)] = tensor
        for name, (layer, attention) in scores.items():
            if layer.data_format == "channels_first":
                attention = ops.transpose(attention, (0, 3, 1, 2))
            outputs[_free(f"{name}_attention", outputs)] = attention
        self.order = tuple(outputs)
        return outputs

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "_WithAttention":
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(model, name=config["name"])


def named_ulsams(layer: Any) -> dict[ULSAM, str]:
    """Every ULSAM inside of a model or layer, by its path: `"<outer>/<layer>"`."""
    found: dict[ULSAM, str] = {}
    seen: set[int] = set()

    def look(outer: Any, path: str) -> None:
        seen.add(id(outer))
        for inner in _inside(outer):
            if isinstance(inner, ULSAM):
                found.setdefault(inner, path + inner.name)
            elif id(inner) not in seen:
                look(inner, f"{path}{inner.name}/")

    look(layer, "")
    return found


def _inside(layer: Any) -> Iterator[Any]:
    """The layers that a layer holds: of a model its layers, else those in its attributes."""
    if isinstance(layer, keras.Model):
        yield from layer.layers
        return
    for value in vars(layer).values():
        values = value.values() if isinstance(value, dict) else value
        for item in values if isinstance(value, (dict, list, tuple)) else [value]:
            if isinstance(item, keras.layers.Layer):
                yield item


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
