"""What both sides of a comparison are given: a recording, stored inputs, or random numbers.

Imports NumPy only.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from converters.recorded import as_dtype, channels_last, load_arrays
from converters.tflite.flatbuffer import Graph, Tensor, read_graphs
from converters.verification import NOISE_SAMPLES, draw
from converters.verify.side import Side, named_tensors


def common_inputs(
    a: Side, b: Side, models: list[Side], path: str | None, input_size: tuple[int, int]
) -> tuple[Side, Side, list[np.ndarray], str]:
    """Both sides, recordings in the models' layout, what they are given, and that in words."""
    recorded = a.recorded or b.recorded
    if recorded is not None:
        [model] = models
        model = a if a.recorded is None else b
        if path is not None:
            raise ValueError(
                "A recording has its inputs; leave --inputs out, or compare two models. "
                f"Received: {recorded.name!r} and --inputs {path}"
            )
        if len(model.inputs) > 1 or len(model.outputs) > 1:
            raise ValueError(
                "A recording holds one input and one output, and the model has more. "
                f"Received: {model.name!r} with inputs {sorted(model.inputs)} and outputs "
                f"{sorted(model.outputs)}"
            )
        [taken], [answered] = model.inputs.values(), model.outputs.values()
        recorded = recorded.fitted((None, *taken[1:]), (None, *answered[1:]))
        a = a if a.recorded is None else replace(a, recorded=recorded)
        b = b if b.recorded is None else replace(b, recorded=recorded)
        [dtype] = model.dtypes.values()
        return a, b, [as_dtype(recorded.inputs, dtype, recorded.name)], "recorded"
    if set(a.inputs) == set(b.inputs):
        # A signature lists its inputs in an order of its own.
        b = replace(
            b,
            inputs={name: b.inputs[name] for name in a.inputs},
            dtypes={name: b.dtypes[name] for name in a.inputs},
        )
    shapes = _common_shapes(a, b, input_size)
    if path is not None:
        return a, b, _stored(path, a, shapes), "recorded"
    return a, b, _noise(a, b, shapes), "random"


def _common_shapes(a: Side, b: Side, input_size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Static shapes of the inputs that both models take, the first the size of a batch."""
    if len(a.inputs) != len(b.inputs):
        raise ValueError(
            "Both models must have the same inputs. "
            f"Received: {a.name!r} with {a.inputs} and {b.name!r} with {b.inputs}"
        )
    shapes = []
    for one, other in zip(a.inputs.values(), b.inputs.values(), strict=True):
        if len(one) != len(other) or any(
            None not in (x, y) and x != y for x, y in zip(one[1:], other[1:], strict=True)
        ):
            raise ValueError(
                "Both models must take inputs of one shape. "
                f"Received: {a.name!r} with {one} and {b.name!r} with {other}"
            )
        known = [x if x is not None else y for x, y in zip(one[1:], other[1:], strict=True)]
        if len(known) == 3:
            known[:2] = [x or size for x, size in zip(known[:2], input_size, strict=True)]
        if None in known:
            raise ValueError(
                "The models leave open dimensions that are no image's; record inputs for them in "
                f"an .npz file. Received: {a.name!r} with {one} and {b.name!r} with {other}"
            )
        batch = (one[0] or 1) * (other[0] or 1)
        shapes.append((batch, *(size or 1 for size in known)))
    return shapes


def _stored(path: str, side: Side, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Inputs from an `.npz` file, in the order and layout of the models', in whole batches."""
    arrays, name = load_arrays(path), Path(path).name
    if len(shapes) == 1 and "inputs" in arrays:
        arrays = {next(iter(side.inputs)): arrays["inputs"]}
    missing = sorted(set(side.inputs) - set(arrays))
    if missing:
        raise ValueError(
            "--inputs needs an .npz file with the array inputs, or one for each input by its "
            f"name, {sorted(side.inputs)}. Received: {name!r} with {sorted(arrays)}"
        )
    found = []
    for key, shape in zip(side.inputs, shapes, strict=True):
        array = channels_last(arrays[key], (None, *shape[1:]), key, name)
        numbers = array.dtype.kind in "fiub"
        if not numbers or not np.isfinite(array).all() or len(array) < shape[0]:
            raise ValueError(
                f"--inputs must hold finite numbers, at least {shape[0]} samples. "
                f"Received: {name!r} with {key} of shape {array.shape}, dtype {array.dtype}"
            )
        array = array[: len(array) // shape[0] * shape[0]]
        found.append(as_dtype(array, side.dtypes[key], name))
    return found


def _noise(a: Side, b: Side, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Random inputs that both models take, in the order of the inputs."""
    rng = np.random.default_rng(0)
    arrays = []
    for position, shape in enumerate(shapes):
        samples = max(shape[0], NOISE_SAMPLES // shape[0] * shape[0])
        whole = (samples, *shape[1:])
        dtypes = [list(side.dtypes.values())[position] for side in (a, b)]
        integers = [dtype for dtype in dtypes if "float" not in dtype]
        steps = [tensor for side in (a, b) if (tensor := _quantized(side, position)) is not None]
        if integers:
            arrays.append(draw(rng, whole, integers[0]))
        elif steps:
            arrays.append(_in_range(rng, whole, steps[0]))
        else:
            arrays.append(draw(rng, whole, "float32"))
    return arrays


def _quantized(side: Side, position: int) -> Tensor | None:
    """The integers that an input of a file of integers becomes, which have a range."""
    if side.tflite is None:
        return None
    graph: Graph = read_graphs(side.tflite)[0]
    tensor = list(named_tensors(graph.named_inputs, graph.inputs).values())[position]
    name = list(side.inputs)[position]
    tensor = graph.named_inputs.get(name, tensor)
    if tensor.scales:
        return tensor
    readers = [o for o in graph.operators if o.name == "QUANTIZE" and tensor in o.inputs]
    return readers[0].outputs[0] if readers else None


def _in_range(rng: np.random.Generator, shape: tuple[int, ...], tensor: Tensor) -> np.ndarray:
    """Random numbers in the range of integers, and such that these hold them exactly.

    Images are smooth: normal numbers on a grid of 4 x 4, stretched to their size. Numbers without a
    neighbourhood, or such as fill the range, take the layers behind beyond their own ranges.
    """
    limits = np.iinfo(tensor.dtype.lower())
    ends = tensor.dequantized(np.array([limits.min, limits.max]))
    numbers = rng.normal(size=shape if len(shape) != 4 else (shape[0], 4, 4, shape[3]))
    if len(shape) == 4:
        rows, columns = (_stretching(size) for size in shape[1:3])
        numbers = np.einsum("hi,wj,nijc->nhwc", rows, columns, numbers)
    spread = np.ptp(ends) / (4 if len(shape) == 4 else 8)
    return tensor.dequantized(tensor.quantized(ends.mean() + spread * numbers))


def _stretching(size: int) -> np.ndarray:
    """What four numbers on a line are multiplied with to be interpolated to so many."""
    places = np.linspace(0, 3, size)
    return np.array([np.interp(places, np.arange(4), unit) for unit in np.eye(4)]).T
