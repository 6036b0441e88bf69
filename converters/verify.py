"""Compares two models, or a model and a recording, output by output.

TensorFlow and Keras are imported only for a Keras model.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.recorded import Recorded, load_recorded
from converters.report.comparison import Comparison, measure
from converters.runtime import RunResult
from converters.tflite.flatbuffer import Tensor, read_graphs
from converters.verification import CPU, GPU, NOISE_SAMPLES, Target, keras_outputs, run_on

Shape = tuple[int | None, ...]
# What a side answered, by what ran it.
Answer = tuple[str, RunResult]


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What it is called in the table.
        inputs: Input shapes by name, the batch first; `None` stands for any size.
        outputs: Output shapes by name, likewise.
        recorded: The recording, if it is one.
        model: The Keras model, if it is one.
        tflite: The content of the `.tflite` file, if it is one.
    """

    name: str
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    recorded: Recorded | None = None
    model: Any = None
    tflite: bytes | None = None


def verify(
    first: str,
    second: str,
    *,
    tolerance: float = 1e-4,
    top1: float = 0.99,
    input_size: tuple[int, int] = (224, 224),
    gpu: bool = False,
) -> list[Comparison]:
    """Runs two models on the same inputs and compares what they answer.

    Args:
        first: A `.keras`, `.tflite` or `.npz` file, or `module:function`.
        second: The same; it is the reference.
        tolerance: Largest difference, relative to the reference's largest absolute value.
        top1: Smallest share of equal top-1 classes on recorded inputs.
        input_size: Height and width where neither side fixes them.
        gpu: Whether to run `.tflite` files on the GPU too, in float32.

    Returns:
        One comparison for every kernel that ran a `.tflite` file, one if there is none.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is none of these, or if the two do not belong together.
    """
    targets = CPU + GPU[:1] if gpu else CPU
    a, b = load_side(first), load_side(second)
    recorded = a.recorded or b.recorded
    models = [side for side in (a, b) if side.recorded is None]
    if not models:
        raise ValueError(
            "At least one side must be a model, a .keras or .tflite file. "
            f"Received: {first!r} and {second!r}"
        )
    if recorded is not None:
        [model] = models
        if len(model.inputs) > 1 or len(model.outputs) > 1:
            raise ValueError(
                "A recording holds one input and one output, and the model has more. "
                f"Received: {model.name!r} with inputs {sorted(model.inputs)} and outputs "
                f"{sorted(model.outputs)}"
            )
        [given], [answered] = model.inputs.values(), model.outputs.values()
        recorded = recorded.fitted((None, *given[1:]), (None, *answered[1:]))
        a = a if a.recorded is None else replace(a, recorded=recorded)
        b = b if b.recorded is None else replace(b, recorded=recorded)
        arrays = [recorded.inputs]
    else:
        if set(a.inputs) == set(b.inputs):
            # A signature lists its inputs in an order of its own.
            b = replace(b, inputs={name: b.inputs[name] for name in a.inputs})
        arrays = _noise(a, b, input_size)
    comparisons = []
    for (ours, result), (theirs, expected) in _pairs(
        _answers(a, arrays, targets), _answers(b, arrays, targets)
    ):
        kernels = ours if ours == theirs else f"{ours}, {theirs}"
        problem = next((f"{r.outcome}: {r.message}" for r in (result, expected) if not r.ok), "")
        if result.outputs is None or expected.outputs is None:
            comparisons.append(
                Comparison(a.name, b.name, kernels, None, tolerance, problem=problem)
            )
            continue
        answer, reference = _matched(result.outputs, expected.outputs)
        comparison = measure(
            a.name,
            answer,
            b.name,
            reference,
            kernels=kernels,
            limit=tolerance,
            least_agreement=top1,
            real_inputs=recorded is not None,
            labels=None if recorded is None else recorded.labels,
        )
        comparisons.append(replace(comparison, milliseconds=result.milliseconds))
    return comparisons


def load_side(source: str) -> Side:
    """Reads one side of a comparison.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not what its name says.
    """
    path = Path(source)
    if path.suffix == ".npz":
        recorded = load_recorded(path)
        return Side(path.name, {}, {}, recorded=recorded)
    if path.suffix == ".tflite":
        content = path.read_bytes()
        graph = read_graphs(content)[0]
        inputs: dict[str, Shape] = _shapes(graph.named_inputs, graph.inputs)
        outputs: dict[str, Shape] = _shapes(graph.named_outputs, graph.outputs)
        return Side(path.name, inputs, outputs, tflite=content)
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

    # Under the names that an exported file of the model has.
    names = signature_names([t.name for t in model.inputs], "input")
    return Side(
        path.name,
        {n: tuple(t.shape) for n, t in zip(names, model.inputs, strict=True)},
        {
            n: tuple(t.shape)
            for n, t in zip(output_names(model, model.output), model.outputs, strict=True)
        },
        model=model,
    )


def _shapes(named: Mapping[str, Tensor], tensors: Sequence[Tensor]) -> dict[str, Shape]:
    """Shapes by the names in the signature, or the tensors' own in a file without one."""
    return {n: t.shape for n, t in (named or {t.name: t for t in tensors}).items()}


def _noise(a: Side, b: Side, input_size: tuple[int, int]) -> list[np.ndarray]:
    """Standard normal inputs that both models take, in the order of the inputs."""
    if len(a.inputs) != len(b.inputs):
        raise ValueError(
            "Both models must have the same inputs. "
            f"Received: {a.name!r} with {a.inputs} and {b.name!r} with {b.inputs}"
        )
    rng = np.random.default_rng(0)
    arrays = []
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
        samples = max(batch, NOISE_SAMPLES // batch * batch)
        arrays.append(rng.normal(size=[samples, *(size or 1 for size in known)]).astype("float32"))
    return arrays


def _pairs(ours: list[Answer], theirs: list[Answer]) -> list[tuple[Answer, Answer]]:
    """Of two files each target with itself; a side that runs in one way only with every other."""
    if len(ours) > 1 and len(theirs) > 1:
        return list(zip(ours, theirs, strict=True))
    return list(itertools.product(ours, theirs))


def _answers(side: Side, arrays: list[np.ndarray], targets: tuple[Target, ...]) -> list[Answer]:
    """What a side answers to the inputs, by the kernels that ran it."""
    if side.recorded is not None:
        return [("recorded", RunResult("ok", outputs={"output": side.recorded.outputs}))]
    if side.model is not None:
        from converters.tflite.inputs import signature_names

        own = signature_names([t.name for t in side.model.inputs], "input")
        named = dict(zip(side.inputs, arrays, strict=True))
        inputs = {name: named[name] for name in own}
        outputs = keras_outputs(side.model, inputs, list(side.outputs))
        return [("TensorFlow", RunResult("ok", outputs=outputs))]
    assert side.tflite is not None
    named = dict(zip(side.inputs, arrays, strict=True))
    return [(target.name, run_on(side.tflite, named, target)) for target in targets]


def _matched(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both sides' outputs under one set of names: the common ones, or a single output's."""
    if set(ours) == set(theirs):
        return ours, theirs
    if len(ours) == len(theirs) == 1:
        return {"output": next(iter(ours.values()))}, {"output": next(iter(theirs.values()))}
    raise ValueError(
        "Both models must have outputs of the same names. "
        f"Received: {sorted(ours)} and {sorted(theirs)}"
    )
