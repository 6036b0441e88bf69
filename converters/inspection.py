"""What is in a file, read without running it: a checkpoint, a `.tflite` or a `.keras` file.

Imports the readers of the formats inside the functions.
"""

import json
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from converters.formats import format_of

if TYPE_CHECKING:
    from converters.program.summary import Summary
    from converters.tflite.app_metadata import AppMetadata


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        name: Its key; of a `.tflite` file, its name in the signature.
        shape: Its shape; -1 for a dimension that is open.
        dtype: The name of its type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join('?' if n < 0 else str(n) for n in self.shape) or 'scalar'}"


@dataclass(frozen=True)
class Site:
    """A ULSAM.

    Attributes:
        name: Where it is: a module's path, a layer's name, or a tensor.
        channels: Its channels; `None` where the file does not say.
        num_splits: Its subspaces.
    """

    name: str
    channels: int | None
    num_splits: int


@dataclass(frozen=True)
class Inspection:
    """What is in a file.

    Attributes:
        kind: `"checkpoint"`, `"tflite"` or `"keras"`.
        tensors: The tensors of a checkpoint or the weights of a `.keras` file.
        ulsam: The ULSAM modules, in order.
        network: What network a checkpoint is of, or why none is recognised; the name of a Keras
            model.
        inputs: What a model takes.
        outputs: What it gives.
        operators: How often a `.tflite` file has each operator, or a `.keras` file each layer.
        metadata: The names of a `.tflite` file's metadata.
        app: What a `.tflite` file tells an app; `None` if nothing.
        size: The size of the file in bytes.
    """

    kind: str
    size: int
    tensors: Sequence[Tensor] = ()
    ulsam: Sequence[Site] = ()
    network: str | None = None
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()
    operators: Mapping[str, int] = field(default_factory=dict)
    metadata: Sequence[str] = ()
    app: "AppMetadata | None" = None

    @property
    def values(self) -> int:
        """How many numbers the tensors hold."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {**asdict(self), "values": self.values}


def inspect(path: str | os.PathLike[str], *, entry: str | None = None) -> Inspection:
    """Lists what is in a file, by its content; no data of tensors is read and nothing is run.

    Args:
        path: A checkpoint as for `load_checkpoint`, a `.tflite` file or a `.keras` file.
        entry: Which state dict of a checkpoint that holds several.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is none of these, or is damaged.
    """
    if os.path.isfile(path):
        with open(path, "rb") as file:
            kind = format_of(file)
        if kind in _READERS and entry is not None:
            raise ValueError(f"`entry` is for checkpoints; leave it out. Received: a {kind} file")
        if kind in _READERS:
            return _READERS[kind](os.fspath(path))
    return _checkpoint(path, entry)


def inspect_program(path: str | os.PathLike[str]) -> "Summary | None":
    """What a `.pt2` computes, its ULSAM and the operators that are refused; `None` for other files.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is a program that is damaged.
    """
    with open(path, "rb") as file:
        if format_of(file) != "program":
            return None
    from converters.program import read_program, summarise
    from converters.pytorch.graph import unconvertible
    from converters.pytorch.graph.ulsam import find_ulsam_calls

    program = read_program(path)
    calls, near = find_ulsam_calls(program)
    found = [
        f"{call.module or 'the root'}: {call.channels} channels, {call.num_splits} splits"
        for call in calls
    ]
    found += [f"{miss.module or 'the root'}: {miss}" for miss in near]
    unknown = [f"{target}, {count} times" for target, count in unconvertible(program).items()]
    return summarise(program, ulsam=found, obstacles=unknown)


def _checkpoint(path: str | os.PathLike[str], entry: str | None) -> Inspection:
    from converters.checkpoint import list_tensors
    from converters.pytorch import find_ulsam
    from converters.pytorch.layouts import recognise

    tensors = list_tensors(path, entry=entry)
    try:
        found = recognise(tensors)
        network = found.description if found else None
    except ValueError as error:
        # What does not fit is what the reader of the list wants to know.
        network = " ".join(str(error).split())
    return Inspection(
        "checkpoint",
        os.path.getsize(path),
        [Tensor(t.name, tuple(t.shape), str(t.dtype)) for t in tensors],
        [Site(s.prefix, s.channels, s.num_splits) for s in find_ulsam(tensors)],
        network,
    )


def _tflite(path: str) -> Inspection:
    from converters.tflite.app_metadata import app_metadata
    from converters.tflite.flatbuffer import TfliteFile
    from converters.tflite.sites import find_sites

    file = TfliteFile(path)

    def ends(named: Mapping[str, Any], plain: Iterable[Any]) -> list[Tensor]:
        items = named.items() if named else [(tensor.name, tensor) for tensor in plain]
        return [Tensor(name, tensor.shape, tensor.dtype.lower()) for name, tensor in items]

    return Inspection(
        "tflite",
        len(file.content),
        ulsam=[
            Site(site.outputs.name, site.inputs.shape[-1], site.attention.shape[-1])
            for site in find_sites(file.graph)
        ],
        inputs=ends(file.graph.named_inputs, file.graph.inputs),
        outputs=ends(file.graph.named_outputs, file.graph.outputs),
        operators=dict(Counter(o.name for g in file.graphs for o in g.operators).most_common()),
        metadata=list(file.metadata),
        app=app_metadata(file),
    )


def _keras(path: str) -> Inspection:
    import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            with archive.open("model.weights.h5") as file, h5py.File(file) as weights:
                tensors = list(_weights(weights))
        layers = list(_layers(config))
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        raise ValueError(
            "The .keras file is damaged; save the model again. "
            f"Received: {path!r}, {type(error).__name__}"
        ) from error
    return Inspection(
        "keras",
        os.path.getsize(path),
        tensors,
        [_keras_site(layer) for layer in layers if layer["class_name"] in ("ULSAM", "SubSpace")],
        str(config.get("config", {}).get("name", "")) or None,
        inputs=[
            Tensor(layer["config"].get("name", ""), _open(shape), _dtype(layer["config"]))
            for layer in config.get("config", {}).get("layers", ())
            if layer["class_name"] == "InputLayer"
            and (shape := layer["config"].get("batch_shape")) is not None
        ],
        operators=dict(Counter(layer["class_name"] for layer in layers).most_common()),
    )


_READERS = {"tflite": _tflite, "keras": _keras}
# Of these a configuration has a name too.
_NO_LAYERS = {"DTypePolicy", "QuantizedDTypePolicy"}


def _weights(group: Any, path: str = "") -> Iterator[Tensor]:
    """The variables of a Keras weights file, in its order."""
    for name, item in group.items():
        place = f"{path}/{name}" if path else name
        if hasattr(item, "shape"):
            yield Tensor(place.replace("/vars/", "/"), tuple(item.shape), str(item.dtype))
        else:
            yield from _weights(item, place)


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """The configuration of every layer, those of nested models and wrapped ones too."""
    if isinstance(config, list):
        for item in config:
            yield from _layers(item)
    elif isinstance(config, dict):
        inner = config.get("config")
        # A model holds layers; an initializer, a policy and the like have no name of their own.
        named = isinstance(inner, dict) and "layers" not in inner and "name" in inner
        if named and config.get("class_name") not in _NO_LAYERS:
            yield config
        for value in config.values():
            yield from _layers(value)


def _keras_site(layer: Mapping[str, Any]) -> Site:
    config, built = layer["config"], layer.get("build_config") or {}
    shape = built.get("input_shape") or ()
    axis = 1 if config.get("data_format") == "channels_first" else -1
    channels = shape[axis] if len(shape) == 4 else None
    return Site(config["name"], channels, int(config.get("num_splits", 1)))


def _open(shape: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(-1 if size is None else int(size) for size in shape)


def _dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("dtype", ""))


@dataclass(frozen=True)
class Module:
    """A module of a checkpoint, or several alike.

    Attributes:
        path: Its path, `layers.{0..3}.conv` for four alike.
        tensors: Its own tensors: name and shape.
        count: How many there are.
    """

    path: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    count: int


def fold(tensors: Iterable[Tensor]) -> list[Module]:
    """The modules of a checkpoint, with runs of numbered modules that are alike as one."""
    root: dict[str, Any] = {}
    for tensor in tensors:
        *path, name = re.split(r"[./]", tensor.name)
        node = root
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):  # a tensor and a module of one name
                break
        else:
            node[name] = tensor.shape
    return list(_folded(root, "", 1))


def _folded(node: Mapping[str, Any], path: str, count: int) -> Iterator[Module]:
    own = tuple((name, shape) for name, shape in node.items() if not isinstance(shape, dict))
    if own:
        yield Module(path, own, count)
    children = [(name, child) for name, child in node.items() if isinstance(child, dict)]
    while children:
        name, child = children.pop(0)
        last = name
        # Equal trees with consecutive numbers are one.
        while (
            children
            and last.isdigit()
            and children[0][0] == str(int(last) + 1)
            and children[0][1] == child
        ):
            last = children.pop(0)[0]
        several = int(last) - int(name) + 1 if last != name else 1
        part = name if several == 1 else f"{{{name}..{last}}}"
        yield from _folded(child, f"{path}.{part}" if path else part, count * several)
