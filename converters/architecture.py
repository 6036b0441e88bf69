"""Which Keras model a checkpoint goes into: the user's own, or one read off the keys.

Keras and ulsam_keras are imported inside the functions.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.model_source import load_model
from converters.pytorch.layouts import LAYOUTS, Recognised, recognise
from converters.pytorch.layouts.recognised import DEFAULT_INPUT_SIZE as DEFAULT_INPUT_SIZE

if TYPE_CHECKING:
    import keras

# A lone module sits in the middle of a network, where maps are small.
DEFAULT_MAP_SIZE = 14


@dataclass(frozen=True)
class Architecture:
    """A Keras model that awaits the weights of a checkpoint.

    Attributes:
        model: The model, with static or unknown sizes.
        target: What the weights are ported into: the model, or its only layer with weights.
        description: What it is, in words.
        prefix: The part of the checkpoint that it takes; `""` for all.
        name_map: Paths of PyTorch modules by Keras layer names, as `port_weights` takes them; None
            where the names say it.
    """

    model: "keras.Model"
    target: "keras.layers.Layer"
    description: str
    prefix: str
    name_map: Mapping[str, str] | None = None


def resolve(
    state: Mapping[str, np.ndarray],
    *,
    source: str | None = None,
    input_size: tuple[int, int] | None = None,
    prefix: str = "",
    sites: str | None = None,
) -> Architecture:
    """Finds the model for a checkpoint.

    Of the user's own model, layers that are named as those of `ulsam_keras.networks` take the
    modules of a recognised network.

    Args:
        state: The checkpoint's tensors.
        source: The user's own model: a `.keras` file, `module:function` or `file.py:function`. The
            function takes no arguments. `None` reads the architecture off the keys.
        input_size: Height and width; `None` takes the model's own, or the default.
        prefix: The module within the checkpoint.
        sites: Which blocks of a recognised network the ULSAM modules are after and in place of,
            `"after:3,instead:12"`; needed where it has both.

    Raises:
        OSError: If the model's file cannot be read.
        ValueError: If there is no such model, or the keys do not tell the architecture.
    """
    if source is not None:
        if sites is not None:
            raise ValueError(
                "`sites` is for networks recognised by their keys; the model given as `model` "
                f"has its sites already. Received: model={source!r}, sites={sites!r}"
            )
        model = load_model(source)
        found = _recognised_for(model, state, prefix)
        if found is not None:
            names = {layer.name for layer in model.layers}
            name_map = {name: path for name, path in found.name_map.items() if name in names}
            return Architecture(model, model, f"the model of {source}", found.prefix, name_map)
        return Architecture(model, _target(model), f"the model of {source}", prefix)
    found = recognise(state, prefix=prefix, sites=sites)
    if found is None:
        if sites is not None:
            raise ValueError(
                "`sites` is for networks recognised by their keys, and these are of none: "
                f"{_layouts()}. Received: sites={sites!r}, keys {_some(state)}"
            )
        return _lone_ulsam(state, input_size, prefix)
    model = found.build(input_size)
    return Architecture(model, model, found.description, found.prefix, found.name_map)


def of_keras_file(path: str) -> Architecture:
    """A Keras model with its own weights, which needs no checkpoint.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no model that can be loaded.
    """
    model = load_model(path)
    return Architecture(model, model, f"the model of {path}", prefix="")


def _recognised_for(
    model: "keras.Model", state: Mapping[str, np.ndarray], prefix: str
) -> Recognised | None:
    """The network of the keys, if the model's layers are named as ours and not as the modules."""
    names = {layer.name for layer in model.layers}
    if "stem_conv" not in names:
        return None
    blocks = [match[1] for name in names if (match := re.fullmatch(r"block_(\d+)_ulsam", name))]
    sites = ",".join(
        f"{'after' if f'block_{block}_depthwise' in names else 'instead'}:{block}"
        for block in blocks
    )
    for told in (sites, None):
        with contextlib.suppress(ValueError):  # the port says what does not fit the model
            return recognise(state, prefix=prefix, sites=told)
    return None


def _layouts() -> str:
    return ", ".join(layout.title for layout in LAYOUTS)


def _lone_ulsam(
    state: Mapping[str, np.ndarray], input_size: tuple[int, int] | None, prefix: str
) -> Architecture:
    from converters.pytorch import find_ulsam

    wanted = prefix.rstrip(".")
    sites = [s for s in find_ulsam(state) if not wanted or s.prefix == wanted]
    if not sites:
        at = f" at {wanted!r}" if wanted else ""
        raise ValueError(
            f"No ULSAM module is found in the checkpoint{at} and its network is not recognised "
            f"({_layouts()} are); convert its program, as converters.export_program writes it, or "
            f"give the network with `model`. Received: keys {_some(state)}"
        )
    if len(sites) > 1:
        raise ValueError(
            "The checkpoint holds several ULSAM modules and its network is not recognised; convert "
            "its program, as converters.export_program writes it, give the network with `model`, "
            "or one module with `prefix`. "
            f"Received: modules at {', '.join(repr(s.prefix) for s in sites)}"
        )
    [site] = sites
    others = [k for k in state if not any(k.startswith(f"{b}." if b else "") for b in site.bases)]
    if others and not wanted:
        # A module at the root has no path that could leave the others out.
        way = f"the module alone with `prefix={site.prefix!r}`" if site.prefix else "save it alone"
        raise ValueError(
            "The checkpoint holds more than its ULSAM module and its network is not recognised; "
            f"give the network with `model`, or {way}. Received: other keys {_some(others)}"
        )
    import keras

    from ulsam_keras import ULSAM

    height, width = input_size or (DEFAULT_MAP_SIZE, DEFAULT_MAP_SIZE)
    inputs = keras.Input((height, width, site.channels), name="features")
    layer = ULSAM(site.num_splits, name="ulsam")
    return Architecture(
        keras.Model(inputs, layer(inputs), name="ulsam"),
        layer,
        f"one ULSAM, {site.channels} channels, {site.num_splits} splits",
        site.prefix,
    )


def _target(model: "keras.Model") -> "keras.layers.Layer":
    """The model; of one whose only weights are a ULSAM's that layer, whose name says nothing."""
    import keras

    from ulsam_keras import ULSAM

    inner: Any = model
    while isinstance(inner, keras.Model):
        weighted = [layer for layer in inner.layers if layer.weights]
        inner = weighted[0] if len(weighted) == 1 else None
    return inner if isinstance(inner, ULSAM) else model


def _some(names: Any, count: int = 4) -> str:
    names = list(names)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(repr(n) for n in names[:count]) + more
