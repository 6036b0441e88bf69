"""What runs a `.tflite` file: kernels of the CPU, or the GPU; and how much of it is run."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from converters.runtime import RunResult, gpu_trial, half_precision, run
from converters.runtime.result import Accelerator, GpuPrecision
from converters.tflite.flatbuffer import Graph, TfliteFile
from converters.verify.limits import TIMEOUT

Named = Mapping[str, np.ndarray]

# Numbers that one input may be filled up to: a gigabyte.
_MOST = 1 << 28
# Multiply-adds per second of the plain kernels on one slow core; they are the only ones so slow.
_REFERENCE_SPEED = 0.5e9
# Where the time goes.
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}


@dataclass(frozen=True)
class Target:
    """Something that runs a file.

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
# Of a Keras model.
TENSORFLOW = Target("TensorFlow", "cpu")


def find_targets(
    gpu: bool = True, require_gpu: bool = False, float16: bool = True
) -> tuple[tuple[Target, ...], str | None]:
    """The CPU's kernels, and the GPU where there is a Vulkan driver and `gpu` is wanted.

    Of a GPU that runs nothing a warning tells; with `require_gpu` that, or none, is a ValueError.

    Returns:
        The targets, those of the CPU first, with `float16` in that too where the GPU really
        computes in it; and the name of the GPU adapter, `None` without.
    """
    if not gpu:
        return CPU, None
    trial = gpu_trial()
    if trial.ok:
        return CPU + (GPU if float16 and half_precision() else GPU[:1]), trial.adapter
    missing = trial.outcome == "no_driver"
    why, way_out = (
        ("no Vulkan driver is found", "install one, or scripts/vulkan_drivers.sh's in software")
        if missing
        else ("the one that is found cannot add two numbers", "mend its driver")
    )
    received = f"Received: {', '.join(filter(None, (trial.adapter, trial.problem)))}"
    if require_gpu:
        raise ValueError(
            f"A GPU is required, and {why}: {way_out}, or leave `require_gpu` out. {received}"
        )
    if not missing:
        warnings.warn(f"The GPU is left out: {why}; {way_out}. {received}", stacklevel=2)
    return CPU, None


@dataclass
class Runner:
    """Runs files, each time in a process of its own.

    A GPU that has hung once is not asked again: every further run would last to the time limit.

    Attributes:
        timeout: Seconds that one run may take.
        threads: Threads of the CPU kernels.
        env: Environment variables for the runs, as in `converters.runtime.run`.
    """

    timeout: float = TIMEOUT
    threads: int = 1
    env: Mapping[str, str | None] | None = None
    _hung: bool = field(default=False, init=False)

    def samples(self, file: TfliteFile, target: Target, count: int) -> int:
        """How many of `count` samples a target is given, and none if one would take too long."""
        count = min(count, target.samples or count)
        if target.accelerator != "cpu_reference":
            return count
        seconds = multiply_adds(file.graph) / _REFERENCE_SPEED
        return min(count, math.floor(self.timeout / 2 / seconds)) if seconds else count

    def run(self, file: TfliteFile, inputs: Named, target: Target) -> RunResult:
        """Runs a file of any input and output types on float inputs, and gives float outputs.

        The inputs, by name and of any number of samples, are rounded to integers where the file
        takes such; the first ones fill up the last batch.
        """
        on_gpu = target.accelerator == "gpu"
        if on_gpu and self._hung:
            message = "not run: an earlier run on it lasted to the time limit"
            return RunResult("timed_out", message=message)
        taken, given = file.graph.given, file.graph.answered
        batch = next((tensor.shape[0] for tensor in file.graph.inputs if tensor.shape), 1)

        def computed(whole: Named) -> RunResult:
            result = run(
                file.content,
                {n: taken[n].quantized(v) if n in taken else v for n, v in whole.items()},
                accelerator=target.accelerator,
                gpu_precision=target.gpu_precision,
                timeout=self.timeout,
                repeats=target.repeats,
                num_threads=self.threads,
                env=self.env,
            )
            self._hung |= on_gpu and result.outcome == "timed_out"
            outputs = {
                n: given[n].dequantized(v) if n in given else v
                for n, v in (result.outputs or {}).items()
            }
            return replace(result, outputs=outputs) if result.ok else result

        return in_batches(inputs, max(batch, 1), computed)


def in_batches(arrays: Named, batch: int, compute: Callable[[Named], RunResult]) -> RunResult:
    """What is computed of samples in whole batches; the first ones fill up the last."""
    count = len(next(iter(arrays.values())))
    whole = -(-count // batch) * batch
    if whole > count and any(value.size // count * batch > _MOST for value in arrays.values()):
        raise ValueError(
            "The batch of the file is too large to be filled up with samples again; give as many "
            f"as it takes. Received: {count} samples, a batch of {batch}"
        )
    filled = {name: np.resize(value, (whole, *value.shape[1:])) for name, value in arrays.items()}
    return first_samples(compute(filled), count, whole)


def first_samples(result: RunResult, count: int, of: int) -> RunResult:
    """A result with the first of its samples only, which may have several rows each."""
    outputs = {}
    for name, value in (result.outputs or {}).items():
        if value.size == 0 or value.ndim == 0 or len(value) % of:
            raise ValueError(
                "Every output must have the samples as its first axis; give a model that keeps "
                f"them. Received: output {name!r} of shape {value.shape} for {of} samples"
            )
        outputs[name] = value[: len(value) // of * count]
    return replace(result, outputs=outputs) if result.ok else result


def multiply_adds(graph: Graph) -> int:
    """The multiply-adds of one run's convolutions and dense layers: each weight at every place."""
    total = 0
    for operator in graph.operators:
        if operator.name in _WEIGHTED:
            _, kernel, *rest = operator.inputs
            # The places that a transposed kernel spreads are those of what comes in.
            places = rest[0] if operator.name == "TRANSPOSE_CONV" else operator.outputs[0]
            if kernel is not None and places is not None:
                total += math.prod(places.shape[:-1]) * math.prod(kernel.shape)
    return total
