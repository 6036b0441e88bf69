"""Which Keras model a checkpoint goes into: the user's own, or one read off the keys.

Keras and ulsam_keras are imported inside the functions.
"""

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

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
            `"after:3,instead:12"`, where the keys leave that open.

    Raises:
        OSError: If the model's file cannot be read.
        ValueError: If there is no such model, or the keys do not tell the architecture.
    """
    if source is not None:
        if sites is not None:
            raise ValueError(
                "--sites is for networks recognised by their keys; the model given with --model "
                f"has its sites already. Received: --model {source}, --sites {sites}"
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
                "--sites is for networks recognised by their keys, and these are of none: "
                f"{_layouts()}. Received: --sites {sites}, keys {_some(state)}"
            )
        return _lone_ulsam(state, input_size, prefix)
    if found.same:
        warnings.warn(
            f"The ULSAM sites, {found.reading.sites}, are as well {' or '.join(found.same[:3])}: "
            "the same network, in which only the block numbers in layer names differ; choose with "
            "--sites.",
            stacklevel=2,
        )
    model = found.build(input_size)
    return Architecture(model, model, found.description, found.prefix, found.name_map)


def stored(source: str) -> Architecture:
    """The model of a `.keras` file, with its weights.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no model.
    """
    model = load_model(source)
    return Architecture(model, model, f"the Keras model of {os.path.basename(source)}", "")


def _recognised_for(
    model: "keras.Model", state: Mapping[str, np.ndarray], prefix: str
) -> Recognised | None:
    """The network of the keys, if the model's layers are named as ours and not as the modules."""
    try:
        found = recognise(state, prefix=prefix)
    except ValueError:
        return None  # the port says what does not fit the model
    names = {layer.name for layer in model.layers}
    return found if found is not None and "stem_conv" in names else None


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
            f"({_layouts()} are); give the network with --model. Received: keys {_some(state)}"
        )
    if len(sites) > 1:
        raise ValueError(
            "The checkpoint holds several ULSAM modules and its network is not recognised; give "
            "the network with --model, or one module with --prefix. "
            f"Received: modules at {', '.join(repr(s.prefix) for s in sites)}"
        )
    [site] = sites
    others = [k for k in state if not any(k.startswith(f"{b}." if b else "") for b in site.bases)]
    if others and not wanted:
        # A module at the root has no path that could leave the others out.
        way = f"the module alone with --prefix {site.prefix}" if site.prefix else "save it alone"
        raise ValueError(
            "The checkpoint holds more than its ULSAM module and its network is not recognised; "
            f"give the network with --model, or {way}. Received: other keys {_some(others)}"
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


def load_model(source: str) -> "keras.Model":
    """The Keras model of a `.keras` file, `module:function` or `file.py:function`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no such model.
    """
    import keras

    import ulsam_keras  # noqa: F401  registers the layers that the file may hold

    if os.path.isdir(source):
        raise IsADirectoryError(
            f"A model is a .keras file or module:function. Received: {source!r}, a folder"
        )
    suffix = Path(source).suffix.lower()
    if suffix in (".keras", ".h5"):
        if not os.path.exists(source):
            raise FileNotFoundError(f"No such model file. Received: {source!r}")
        if suffix == ".keras" and not zipfile.is_zipfile(source):
            raise ValueError(
                "The file is not a .keras file; save the model with model.save. "
                f"Received: {source!r}"
            )
        try:
            if source.endswith(suffix):
                return keras.saving.load_model(source, compile=False)
            # Keras tells the format by the suffix, in small letters.
            with tempfile.TemporaryDirectory() as folder:
                copy = shutil.copy(source, Path(folder, f"model{suffix}"))
                return keras.saving.load_model(copy, compile=False)
        except Exception as error:  # whatever a damaged or foreign file makes of Keras
            raise ValueError(
                f"The model file cannot be loaded by Keras. Received: {source!r}, {_line(error)}"
            ) from error
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ValueError(
            "A model is given as a .keras file, as module:function or as file.py:function. "
            f"Received: {source!r}"
        )
    module = _module(place)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{place!r} has no function {name!r}. Received: {source!r}")
    try:
        model = function()
    except (Exception, SystemExit) as error:  # the user's own code
        raise ValueError(
            f"The model's function must run without arguments. "
            f"Received: {source!r}, which raised {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"The model's function must return a keras.Model. "
            f"Received: {source!r}, which returned {type(model).__name__}"
        )
    return model


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        # As `python -m` does, modules of the current folder are found too.
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(place)
        except Exception as error:
            raise ValueError(
                f"The model's module cannot be imported. "
                f"Received: {place!r}, {type(error).__name__}: {_line(error)}"
            ) from error
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"No such Python file. Received: {place!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"The model's file cannot be run. "
            f"Received: {place!r}, {type(error).__name__}: {_line(error)}"
        ) from error
    return module


def _some(names: Any, count: int = 4) -> str:
    names = list(names)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(repr(n) for n in names[:count]) + more


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
