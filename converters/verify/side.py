"""One side of a comparison: a Keras model, a `.tflite` file, or a recording.

TensorFlow and Keras are imported only for a Keras model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.recorded import Recorded, as_dtype, load_recorded
from converters.tflite.flatbuffer import Tensor, read_graphs
from converters.tflite.precision import precision_of

Shape = tuple[int | None, ...]
# The finest first: two sides are as near as the coarser of them is.
PRECISIONS = ("float32", "float16", "dynamic_range", "int16x8", "int8")
_OF_DTYPE = {"float16": "float16", "bfloat16": "dynamic_range"}  # as many digits


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What it is called in messages.
        inputs: Input shapes by name, the batch first; `None` stands for any size.
        outputs: Output shapes by name, likewise.
        dtypes: The dtype of each input, by name; `"float32"` for one of quantized numbers.
        precision: How exactly it computes, one of `PRECISIONS`.
        recorded: The recording, if it is one.
        model: The Keras model, if it is one.
        tflite: The content of the `.tflite` file, if it is one.
    """

    name: str
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    dtypes: dict[str, str]
    precision: str = "float32"
    recorded: Recorded | None = None
    model: Any = None
    tflite: bytes | None = None


def load_side(source: str) -> Side:
    """Reads one side of a comparison.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not what its name says.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        recorded = load_recorded(path)
        return Side(path.name, {}, {}, {}, recorded=recorded)
    if suffix == ".tflite":
        content = path.read_bytes()
        graph = read_graphs(content)[0]
        ends = named_tensors(graph.named_inputs, graph.inputs)
        return Side(
            path.name,
            {name: tensor.shape for name, tensor in ends.items()},
            {n: t.shape for n, t in named_tensors(graph.named_outputs, graph.outputs).items()},
            {n: "float32" if t.scales else t.dtype.lower() for n, t in ends.items()},
            precision_of(graph),
            tflite=content,
        )
    from converters.architecture import load_model
    from converters.start import start_tensorflow

    start_tensorflow()
    model = load_model(source)
    if not model.inputs:
        raise ValueError(
            "A Keras model to be compared must know its inputs: build it with keras.Input. "
            f"Received: {source!r}"
        )
    from converters.tflite.export import output_names
    from converters.tflite.inputs import signature_names
    from converters.tflite.rebuild import layers_of

    # Under the names that an exported file of the model has.
    names = signature_names([t.name for t in model.inputs], "input")
    outputs = output_names(model, model.output)
    computed = {_OF_DTYPE.get(layer.compute_dtype, "float32") for layer in layers_of(model)}
    return Side(
        path.name,
        {n: tuple(t.shape) for n, t in zip(names, model.inputs, strict=True)},
        {n: tuple(t.shape) for n, t in zip(outputs, model.outputs, strict=True)},
        {
            n: "float32" if "float" in t.dtype else t.dtype
            for n, t in zip(names, model.inputs, strict=True)
        },
        max(computed, key=PRECISIONS.index, default="float32"),
        model=model,
    )


def named_tensors(named: Mapping[str, Tensor], tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Tensors by the names in the signature, or by their own in a file without one."""
    return dict(named) or {tensor.name: tensor for tensor in tensors}


def taken_by(side: Side, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs by a side's names and in its dtypes, in the order of a Keras model's own."""
    named = dict(zip(side.inputs, arrays, strict=True))
    named = {name: as_dtype(value, side.dtypes[name], "inputs") for name, value in named.items()}
    if side.model is None:
        return named
    from converters.tflite.inputs import signature_names

    return {n: named[n] for n in signature_names([t.name for t in side.model.inputs], "input")}


def whole_batches(side: Side, samples: int | None) -> int | None:
    """A number of samples, rounded up to whole batches of a side."""
    if samples is None:
        return None
    batch = next(iter(side.inputs.values()))[0] or 1
    return -(-samples // batch) * batch
