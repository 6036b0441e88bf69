"""Runs a Keras model and its `.tflite` files on the same inputs and compares what they answer.

Keras is imported inside the functions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.fidelity import AttentionFidelity, measure_sites, run_float
from converters.recorded import Recorded
from converters.report.comparison import AttentionComparison, Comparison, measure
from converters.runtime import (
    RunResult,
    compare_attention,
    half_precision,
    vulkan_adapter,
)
from converters.runtime.result import Accelerator, GpuPrecision
from converters.tflite.flatbuffer import read_graphs
from converters.tflite.quiet import without_native_logs

if TYPE_CHECKING:
    import keras

    from converters.tflite import Exporter

# Samples of standard normal noise where there is no recording.
NOISE_SAMPLES = 4
BATCH = 32
PIXELS = (0, 255)


@dataclass(frozen=True)
class Target:
    """Something that runs a file: kernels of the CPU, or the GPU.

    Attributes:
        name: What it is called in tables.
        accelerator: As `converters.runtime.run` takes it.
        gpu_precision: Likewise.
        samples: How many samples it is given at most; the slow ones get few.
        repeats: How often it is timed.
    """

    name: str
    accelerator: Accelerator
    gpu_precision: GpuPrecision = "float32"
    samples: int | None = None
    repeats: int = 5


# What applications run; the optimized kernels without XNNPACK; the plain ones. The last two have
# computed wrongly what XNNPACK computed right.
CPU = (
    Target("XNNPACK", "cpu"),
    Target("built-in", "cpu_builtin", samples=64),
    Target("reference", "cpu_reference", samples=4, repeats=1),
)
GPU = (
    Target("GPU float32", "gpu", "float32", samples=16),
    Target("GPU float16", "gpu", "float16", samples=16),
)
# The attention is compared on few samples: every one is a map of every group of every site.
ATTENTION_SAMPLES = 4
# Energies are summed over samples: what is rare in one image counts by its share.
FIDELITY_SAMPLES = 16


@dataclass(frozen=True)
class Tolerances:
    """How far apart outputs may be, relative to the largest absolute value of the reference.

    Attributes:
        reference: Keras against the recorded outputs.
        float32: The float32 file against Keras: sums in another order, no more.
        float16: Weights rounded to 11 bits.
        dynamic_range: Weights rounded to 8 bits, and activations around each convolution.
        gpu_float16: What float16 arithmetic on the GPU adds.
        attention_float32: The attention of each site in a float32 file. The exponential turns a
            relative error of the scores, which reach ten and more, into ten times that of the
            attention: at most ten times the limit of the outputs, here and below.
        attention_float16: In a float16 file.
        attention_dynamic_range: In a dynamic range file.
        attention_gpu_float16: What float16 arithmetic on the GPU adds.
        int8: The int8 file: weights and activations rounded to 8 bits.
        int16x8: The int16x8 file: weights rounded to 8 bits.
        attention_snr: Smallest signal-to-noise ratio of the attention of a site in a file of
            integers, in dB; below, the attention is dead.
        top1: Smallest share of samples whose top-1 class is the same, on recorded inputs.
        top1_int8: The same in a file of 8-bit integers, whose rounding turns the closest decisions
            one way or the other without a loss of accuracy: 98.3 % the same on a MobileNetV2
            (alpha 0.35) that was right on 94.7 % before and on 95.8 % after.
    """

    reference: float = 1e-4
    float32: float = 1e-4
    float16: float = 5e-3
    dynamic_range: float = 5e-2
    gpu_float16: float = 2e-2
    attention_float32: float = 1e-3
    attention_float16: float = 5e-2
    attention_dynamic_range: float = 2e-1
    attention_gpu_float16: float = 1e-1
    int8: float = 2e-1
    int16x8: float = 1e-1
    attention_snr: float = 10.0
    top1: float = 0.99
    top1_int8: float = 0.95

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"A limit must be at least 0. Received: {name}={value!r}")

    def output(self, precision: str, target: Target) -> float:
        """The limit for a file's outputs on a target."""
        extra = self.gpu_float16 if target.gpu_precision == "float16" else 0.0
        return getattr(self, precision) + extra

    def agreement(self, precision: str) -> float:
        """The limit for the share of equal top-1 classes."""
        return self.top1_int8 if precision == "int8" else self.top1

    def attention(self, precision: str, target: Target) -> float:
        """The limit for a file's attention on a target."""
        extra = self.attention_gpu_float16 if target.gpu_precision == "float16" else 0.0
        return getattr(self, f"attention_{precision}") + extra


def noise(
    input_shapes: Mapping[str, tuple[int, ...]], dtypes: Iterable[str], seed: int = 0
) -> dict[str, np.ndarray]:
    """Random inputs for a model whose inputs have these static shapes and dtypes."""
    rng = np.random.default_rng(seed)
    return {
        name: draw(rng, (-(-NOISE_SAMPLES // shape[0]) * shape[0], *shape[1:]), dtype)
        for (name, shape), dtype in zip(input_shapes.items(), dtypes, strict=True)
    }


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random values as an input of the dtype has them.

    Floats are standard normal; integers are those of a pixel, 0 to 255, or all that the dtype has
    if these are fewer, or negative ones too.
    """
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" not in dtype:
        return rng.normal(size=shape).astype("float32")
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if limits.bits == 8 else PIXELS
    return rng.integers(low, high, shape, dtype, endpoint=True)


def keras_outputs(
    model: "keras.Model", inputs: Mapping[str, np.ndarray], names: list[str]
) -> dict[str, np.ndarray]:
    """What a Keras model answers, by output name. `inputs` are in the order of its inputs.

    Raises:
        ValueError: If it cannot run on them.
    """
    import keras

    try:
        with without_native_logs():
            outputs = model.predict(
                packed(model, inputs), batch_size=fixed_batch(model) or BATCH, verbose=0
            )
    # Whatever a layer makes of values that it is not for, as an embedding of numbers too large.
    except Exception as error:
        told = ", ".join(f"{name} of {value.dtype}" for name, value in inputs.items())
        raise ValueError(
            "The Keras model cannot run on these inputs; give some that it takes, with --inputs or "
            f"--reference. Received: {told}, {type(error).__name__}: {_reason(error)}"
        ) from error
    flat = keras.tree.flatten(outputs)
    return {name: np.asarray(value, "float32") for name, value in zip(names, flat, strict=True)}


def _reason(error: Exception) -> str:
    """The line of TensorFlow's many that says what is wrong: the last that names no operation."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line and line[0] != "["), "")[:200]


def packed(model: "keras.Model", inputs: Mapping[str, np.ndarray]) -> Any:
    """Inputs in the order of a model's, in the structure that the model takes."""
    import keras

    arrays = list(inputs.values())
    return arrays[0] if len(arrays) == 1 else keras.tree.pack_sequence_as(model.input, arrays)


def fixed_batch(model: "keras.Model") -> int | None:
    """The number of samples that a model takes at a time; `None` for any."""
    return model.inputs[0].shape[0] if getattr(model, "inputs", None) else None


def check_keras(
    outputs: Mapping[str, np.ndarray], recorded: Recorded, tolerances: Tolerances
) -> Comparison:
    """Keras against the recording."""
    name = own_output(outputs)
    return measure(
        "keras",
        {name: outputs[name]},
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
    targets: tuple[Target, ...] = CPU,
) -> Iterator[Comparison]:
    """A `.tflite` file against Keras on every target, and against the recording."""
    for target in targets:
        limit = tolerances.output(precision, target)
        count = samples_of(content, target.samples)
        some, wanted = first(inputs, count), first(expected, count)
        samples = len(next(iter(wanted.values())))
        result = run_on(content, some, target)
        if result.outputs is None:
            problem = f"{result.outcome}: {result.message}"
            yield Comparison(
                precision, "keras", target.name, None, limit, samples=samples, problem=problem
            )
            continue
        labels = None if recorded is None else recorded.labels
        common: dict[str, Any] = {
            "kernels": target.name,
            "least_agreement": tolerances.agreement(precision),
            "real_inputs": recorded is not None,
            "labels": None if labels is None else labels[:samples],
        }
        comparison = measure(precision, result.outputs, "keras", wanted, limit=limit, **common)
        yield replace(
            comparison,
            milliseconds=result.milliseconds,
            adapter=result.adapter,
            fully_accelerated=result.fully_accelerated if target.accelerator == "gpu" else None,
            gpu_precision=result.gpu_precision or "",
        )
        if recorded is not None and target.name == CPU[0].name:
            name = own_output(wanted)
            against = {name: recorded.outputs[:samples]}
            answer = {name: result.outputs[name]}
            # What Keras may differ from the recording by, and the file from Keras.
            both = limit + tolerances.reference
            yield measure(precision, answer, "pytorch", against, limit=both, **common)


def check_attention(
    probe: "Exporter",
    precision: str,
    inputs: Mapping[str, np.ndarray],
    tolerances: Tolerances,
    targets: tuple[Target, ...] = CPU[:1],
) -> Iterator[AttentionComparison]:
    """The attention of every site in a file of this precision against Keras, on every target.

    The residual of the block hides its attention: an output that is right to 1e-4 says little of
    maps whose values are near 1 / (H * W).
    """
    content = probe.convert(precision)
    some = first(inputs, samples_of(content, ATTENTION_SAMPLES))
    expected = keras_outputs(probe.model, some, probe.output_names)
    names = [name for name in probe.output_names if name.endswith("_attention")]
    for target in targets:
        result = run_on(content, some, target, repeats=0)
        for name in names:
            site = name.removesuffix("_attention")
            limit = tolerances.attention(precision, target)
            if result.outputs is None:
                problem = f"{result.outcome}: {result.message}"
                yield AttentionComparison(precision, site, target.name, limit, problem=problem)
                continue
            wanted, given = expected[name], result.outputs[name]
            difference = compare_attention(given, wanted)
            yield AttentionComparison(
                subject=precision,
                site=site,
                kernels=target.name,
                limit=limit,
                relative_error=difference.relative_error,
                correlation=difference.correlation,
                row_sum_error=difference.row_sum_error,
                map_size=(wanted.shape[1], wanted.shape[2]),
            )


def check_fidelity(
    content: bytes,
    precision: str,
    model: "keras.Model",
    inputs: Mapping[str, np.ndarray],
    tolerances: Tolerances,
    targets: tuple[Target, ...] = CPU[:1],
) -> Iterator[AttentionFidelity]:
    """The attention of every site inside a file of integers against Keras, on every target.

    Nothing for a model without ULSAM, or one whose graph is not known.

    Args:
        content: The content of the file.
        precision: Its precision.
        model: The Keras model that it was made of.
        inputs: The inputs by name, in the order of the model's.
        tolerances: What holds.
        targets: What runs it.
    """
    from ulsam_keras import attention_maps

    some = first(inputs, samples_of(content, FIDELITY_SAMPLES))
    try:
        maps = attention_maps(model, packed(model, some), fixed_batch(model) or BATCH)
    except ValueError:
        return
    for target in targets:
        count = samples_of(content, min(FIDELITY_SAMPLES, target.samples or FIDELITY_SAMPLES))
        rows = measure_sites(
            content,
            first(maps, count),
            first(some, count),
            accelerator=target.accelerator,
            gpu_precision=target.gpu_precision,
            limit=tolerances.attention_snr,
        )
        for row in rows:
            yield replace(row, subject=precision, kernels=target.name)


def own_output(names: Iterable[str]) -> str:
    """The one output that is no attention."""
    [name] = [name for name in names if not name.endswith("_attention")]
    return name


def find_gpu(required: bool = False) -> str | None:
    """The name of the GPU adapter that the delegate takes; `None` if there is no Vulkan driver.

    Raises:
        ValueError: If one is required and there is none.
    """
    adapter = vulkan_adapter()
    if adapter is None and required:
        raise ValueError(
            "A GPU is required, and no Vulkan driver is found; install one, or a software one with "
            "scripts/vulkan_drivers.sh, or leave --require-gpu out. Received: no adapter"
        )
    return adapter


def gpu_targets(adapter: str | None) -> tuple[Target, ...]:
    """What to run on the GPU: nothing without an adapter, float16 only where it really runs."""
    if adapter is None:
        return ()
    return GPU if half_precision() else GPU[:1]


def run_on(
    content: bytes,
    inputs: Mapping[str, np.ndarray],
    target: Target,
    repeats: int | None = None,
) -> RunResult:
    """Runs a `.tflite` file on a target, in a process of its own, timed `repeats` times."""
    return run_float(
        content,
        inputs,
        accelerator=target.accelerator,
        gpu_precision=target.gpu_precision,
        repeats=target.repeats if repeats is None else repeats,
    )


def samples_of(content: bytes, count: int | None) -> int | None:
    """The number of samples, rounded up to whole batches of the file."""
    if count is None:
        return None
    [first, *_] = read_graphs(content)[0].inputs
    batch = first.shape[0] if first.shape else 1
    return -(-count // batch) * batch


def first(arrays: Mapping[str, np.ndarray], count: int | None) -> dict[str, np.ndarray]:
    """The first samples of every array; all for `None`."""
    return {name: value[:count] for name, value in arrays.items()}
