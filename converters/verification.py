"""Runs a Keras model and its `.tflite` files on the same inputs and compares what they answer.

Keras is imported inside the functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.recorded import Recorded
from converters.report.comparison import Comparison, measure
from converters.runtime import run

if TYPE_CHECKING:
    import keras

# The kernels that every file is run on: the ones applications get, and the plain ones, which have
# computed wrongly what XNNPACK computed right.
CPU_KERNELS = ("cpu", "cpu_reference")
# The reference kernels take minutes for what XNNPACK does in a second.
REFERENCE_SAMPLES = 16
# Samples of standard normal noise where there is no recording.
NOISE_SAMPLES = 4
BATCH = 32


@dataclass(frozen=True)
class Tolerances:
    """How far apart outputs may be, relative to the largest absolute value of the reference.

    Attributes:
        reference: Keras against the recorded outputs.
        float32: The float32 file against Keras. The sums are ordered differently, no more.
        float16: Weights rounded to 11 bits.
        dynamic_range: Weights rounded to 8 bits, and activations around each convolution.
        top1: Smallest share of samples whose top-1 class is the same, on recorded inputs.
    """

    reference: float = 1e-4
    float32: float = 1e-4
    float16: float = 5e-3
    dynamic_range: float = 5e-2
    top1: float = 0.99


def noise(input_shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal inputs for a model whose inputs have these static shapes."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(max(NOISE_SAMPLES, shape[0]) // shape[0] * shape[0], *shape[1:]))
        .astype("float32")
        for name, shape in input_shapes.items()
    }  # fmt: skip


def keras_outputs(
    model: "keras.Model", inputs: Mapping[str, np.ndarray], names: list[str]
) -> dict[str, np.ndarray]:
    """What a Keras model answers, by output name. `inputs` are in the order of its inputs."""
    import keras

    arrays = list(inputs.values())
    given: Any = arrays[0]
    if len(arrays) > 1:
        given = keras.tree.pack_sequence_as(model.input, arrays)
    outputs = model.predict(given, batch_size=BATCH, verbose=0)
    flat = keras.tree.flatten(outputs)
    return {name: np.asarray(value, "float32") for name, value in zip(names, flat, strict=True)}


def check_keras(
    outputs: Mapping[str, np.ndarray], recorded: Recorded, tolerances: Tolerances
) -> Comparison:
    """Keras against the recording."""
    [name] = outputs
    return measure(
        "keras",
        outputs,
        "pytorch",
        {name: recorded.outputs},
        kernels="TensorFlow",
        limit=tolerances.reference,
        least_agreement=tolerances.top1,
        real_inputs=True,
        labels=recorded.labels,
    )


def check_tflite(
    content: bytes,
    precision: str,
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    tolerances: Tolerances,
    recorded: Recorded | None,
) -> list[Comparison]:
    """A `.tflite` file against Keras on every CPU kernel, and against the recording."""
    limit = getattr(tolerances, precision)
    comparisons = []
    for accelerator in CPU_KERNELS:
        count = len(next(iter(inputs.values())))
        count = count if accelerator == "cpu" else min(count, REFERENCE_SAMPLES)
        some = {name: value[:count] for name, value in inputs.items()}
        wanted = {name: value[:count] for name, value in expected.items()}
        result = run(content, some, accelerator=accelerator)  # type: ignore[arg-type]
        failed = Comparison(
            precision,
            "keras",
            result.adapter or accelerator,
            None,
            limit,
            samples=count,
            problem="" if result.ok else f"{result.outcome}: {result.message}",
        )
        if result.outputs is None:
            comparisons.append(failed)
            continue
        common: dict[str, Any] = {
            "kernels": result.adapter,
            "least_agreement": tolerances.top1,
            "real_inputs": recorded is not None,
            "labels": None if recorded is None or recorded.labels is None
            else recorded.labels[:count],
            "milliseconds": result.milliseconds,
        }  # fmt: skip
        comparisons.append(
            measure(precision, result.outputs, "keras", wanted, limit=limit, **common)
        )
        if recorded is not None and accelerator == "cpu":
            [name] = wanted
            against = {name: recorded.outputs[:count]}
            # What Keras may differ from the recording by, and the file from Keras.
            both = limit + tolerances.reference
            comparison = measure(
                precision, result.outputs, "pytorch", against, limit=both, **common
            )
            comparisons.append(replace(comparison, milliseconds=None))
    return comparisons
