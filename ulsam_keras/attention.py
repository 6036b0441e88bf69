"""The attention maps of a model, beside what it computes.

Imports Keras (public names only), NumPy, `ulsam_keras.batches`, `ulsam_keras.graph`,
`ulsam_keras.layer` and `ulsam_keras.spatial_softmax`.
"""

import warnings
from collections.abc import Container
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from ulsam_keras.batches import batches
from ulsam_keras.graph import as_functional, is_graph, layers_inside, layers_within, new_inputs
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

    What cannot be seen is left out with a warning, as in `attention_maps`.

    Raises:
        ValueError: If the model is a subclassed one, whose graph is not known, or has no ULSAM.
    """
    check_model(model)
    if not is_graph(model):
        raise ValueError(
            "Attention can become outputs of functional and built Sequential models only; take "
            "attention_maps of others, and of subclasses with a call of their own. "
            f"Received: model={model.name!r} of type {type(model).__name__}"
        )
    inputs = new_inputs(as_functional(model))
    probe = _WithAttention(model, name="with_attention")
    outputs = probe(inputs)
    _tell_unseen(probe)
    ordered = {name: outputs[name] for name in probe.order}
    return keras.Model(inputs, ordered, name=f"{model.name}_with_attention")


def attention_maps(model: keras.Model, images: Any, batch_size: int = 32) -> dict[str, np.ndarray]:
    """The attention of every ULSAM in a model, for some images.

    What it takes to compute them is kept for the model that was asked last, so that asking again
    is as fast as `predict`. The model is left as it is.

    A warning names the ULSAM of the model whose attention is not seen: they were not called, or
    within a function of the back end's own, such as a `tf.function` or `jax.jit`, out of which
    nothing comes but what it returns.

    Args:
        model: A Keras 3 model of any kind, a subclassed one too.
        images: What the model's `predict` takes.
        batch_size: Images computed at a time. Defaults to 32.

    Returns:
        `{layer: array}` in the order of the calls, `(N, H, W, g)` whatever the data format; every
        map sums to 1. Layers are named as in `with_attention`.

    Raises:
        ValueError: If it is not a Keras 3 model, has no ULSAM, none of them is seen, or there are
            no images.
    """
    check_model(model)
    probe: _Attention | None = None
    found: list[dict[str, np.ndarray]] = []
    for batch in batches(images, batch_size):
        probe = probe or _probe(model, _parts(built(model, batch)), current_form())
        found.append(probe.answer(batch))
    if probe is None:
        raise ValueError("There must be images to compute on. Received: data without any")
    _tell_unseen(probe)
    return {name: np.concatenate([maps[name] for maps in found]) for name in probe.seen}


def built(model: keras.Model, batch: Any) -> keras.Model:
    """The model, called once if it never was: some know their layers only then."""
    if not model.built:
        model(batch, training=False)
        check_model(model)
    return model


def _parts(model: keras.Model) -> tuple[Any, ...]:
    """What a trace of a model depends on: layers may come and go, and be quantised."""
    return (*layers_within(model), *map(id, model.weights))


@lru_cache(maxsize=1)
def _probe(model: keras.Model, parts: tuple[Any, ...], form: str) -> "_Attention":
    """What computes the maps; the further arguments are what else its trace depends on."""
    return _Attention(model)


def check_model(model: Any) -> None:
    """Raises for what is no Keras 3 model, or a built one without ULSAM."""
    if not isinstance(model, keras.Model):
        module = type(model).__module__.split(".")[0]
        advice = "; of a model from quantize_model, give what restore(q, model) returns"
        raise ValueError(
            f"`model` must be a Keras 3 model{advice if module == 'tf_keras' else ''}. "
            f"Received: model of type {module}.{type(model).__name__}"
        )
    if model.built and not named_ulsams(model):
        raise ValueError(f"The model has no ULSAM layer. Received: model={model.name!r}")


def _tell_unseen(probe: "_Attention") -> None:
    if not probe.unseen:
        return
    what = "not called, or within a function of the back end's own (tf.function, jax.jit)"
    names = ", ".join(map(repr, probe.unseen))
    if not probe.seen:
        raise ValueError(f"The attention of no ULSAM can be seen: {what}. Received: {names}")
    warnings.warn(f"ULSAM whose attention is not seen, as {what}: {names}", stacklevel=3)


class _Attention(keras.Model):
    """The attention of every call of a ULSAM in a model, `name: (N, H, W, g)`.

    Attributes:
        seen: The names of the calls whose attention was seen when it was called last.
        unseen: The names of the ULSAM of none of whose calls it was.
    """

    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        # The model takes its inputs as they are.
        super().__init__(**{"autocast": False, "name": "attention_maps", **kwargs})
        self.model = model
        self.built = True  # else JAX computes everything once, an operation at a time

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        _, scores = self._run(inputs, training)
        return {name: attention for name, (_, attention) in scores.items()}

    def answer(self, batch: Any) -> dict[str, np.ndarray]:
        """The attention on a batch. Of `predict` that raises, JAX loses the model's weights."""
        try:
            return self.predict_on_batch(batch)
        except Exception as error:
            if type(error).__name__ != "UnexpectedTracerError":
                raise
            raise ValueError(
                "The attention of a ULSAM within a function of jax.jit or the like cannot be seen. "
                f"Received: model={self.model.name!r}"
            ) from error

    def _run(self, inputs: Any, training: bool | None) -> tuple[Any, dict[str, tuple[ULSAM, Any]]]:
        """What the model gives, and of each site the layer and its attention."""
        with recorded_scores() as recorded:
            outputs = self.model(inputs, training=training)
        names = named_ulsams(self.model)
        hidden = {layer for layer, attention in recorded if not _within_reach(attention)}
        scores: dict[str, tuple[ULSAM, Any]] = {}
        for layer, attention in recorded:
            if layer not in hidden:
                scores[_free(names.get(layer, str(layer.name)), scores)] = layer, attention
        called = {layer for layer, _ in scores.values()}
        self.seen = tuple(scores)
        self.unseen = tuple(name for layer, name in names.items() if layer not in called)
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
        outputs.update(named_outputs(self.model, plain))
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


def _within_reach(tensor: Any) -> bool:
    """Whether a tensor can be used here, and not only in a function that was traced within."""
    try:
        ops.add(tensor, 0)
    except Exception:  # of a class of its own in every back end
        return False
    return True


def named_ulsams(layer: Any) -> dict[ULSAM, str]:
    """Every ULSAM inside of a model or layer, by its path: `"<outer>/<layer>"`."""
    found: dict[ULSAM, str] = {}
    seen: set[int] = set()

    def look(outer: Any, path: str) -> None:
        seen.add(id(outer))
        for inner in layers_inside(outer):
            if isinstance(inner, ULSAM):
                found.setdefault(inner, path + inner.name)
            elif id(inner) not in seen:
                look(inner, f"{path}{inner.name}/")

    look(layer, "")
    return found


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """What a model gives, by its keys or the names of its layers; by its place if not known."""
    named: dict[str, Any] = {}
    if is_graph(model):
        names = _output_names(model)
    else:
        paths = (path for path, _ in keras.tree.flatten_with_path(outputs))
        names = ["/".join(map(str, path)) or "output" for path in paths]
    for name, tensor in zip(names, keras.tree.flatten(outputs), strict=True):
        named[_free(name, named)] = tensor
    return named


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
