"""A training step of one ULSAM on each back end of Keras against the PyTorch module's.

    python benchmarks/training.py [--batch 256 --size 56 --channels 256 --splits 4] [--steps 15]

A step is the forward pass in training mode, the gradients of the input and of every weight for a
given gradient of the output, and one step of gradient descent; the output is asked for too, or a
compiler would leave it out. Unless given, the shape is
256 x 56 x 56 x 256 on a GPU and 16 x 28 x 28 x 64 on a CPU; back ends that are not installed are
left out.

Each back end and precision has a process of its own, in which the module eager (in the faster of
PyTorch's two memory formats), the module compiled and the layer take turns: two steps each, of
which the second counts. A time is the median of the steps, a ratio the median over the turns of
module / layer: above 1, the layer is the faster. bfloat16 is the policy "mixed_bfloat16" for the
layer and autocast for the module. float32 means float32: TF32 is off. On a CPU that is not idle,
`OMP_NUM_THREADS=1 taskset -c 0` with `--processor-time` counts the time of one core instead.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "examples" / "digits" / "torch_ulsam.py"
BACKENDS = ("torch", "jax", "tensorflow")
PRECISIONS = ("float32", "bfloat16")
RATE = 0.01
WARM_UP = 3
EAGER, COMPILED = "PyTorch module, eager", "PyTorch module, torch.compile"

Step = Callable[[], None]


class Shape(NamedTuple):
    """Of the inputs, square maps; `splits` is g."""

    batch: int
    size: int
    channels: int
    splits: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.size} x {self.size} x {self.channels}, g = {self.splits}"


def torch_step(forward: Callable, weights: list, x: Any, upstream: Any) -> Step:
    """A step of whatever PyTorch calls; it ends when the device has."""
    import torch

    optimizer = torch.optim.SGD(weights, RATE)

    def step() -> None:
        x.grad = None
        optimizer.zero_grad()
        forward(x).backward(upstream)
        optimizer.step()
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def torch_tensors(shape: Shape, precision: str) -> tuple[Any, Any]:
    """Input and gradient of the output, (N, H, W, C)."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    size = (shape.batch, shape.size, shape.size, shape.channels)
    dtype = getattr(torch, precision)
    x, upstream = (torch.randn(size, device=device, dtype=dtype) for _ in range(2))
    return x, upstream


def module_steps(shape: Shape, precision: str, compiled: bool) -> dict[str, Step]:
    """The PyTorch module, in both memory formats, eager or compiled."""
    import torch

    spec = importlib.util.spec_from_file_location("torch_ulsam", MODULE)
    source = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    steps = {}
    for name, layout in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
        x, upstream = torch_tensors(shape, precision)
        x, upstream = (
            t.permute(0, 3, 1, 2).contiguous(memory_format=layout) for t in (x, upstream)
        )
        x.requires_grad_()
        module = source.ULSAM(shape.channels, shape.splits).to(x.device, memory_format=layout)

        def forward(x: Any, module: Any = module) -> Any:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                return module(x).to(x.dtype)

        call = torch.compile(forward) if compiled else forward
        steps[name] = torch_step(call, list(module.parameters()), x, upstream)
    return steps


def torch_layer(layer: Any, shape: Shape, precision: str, compiled: bool = False) -> Step:
    import torch

    x, upstream = torch_tensors(shape, precision)
    x.requires_grad_()

    def forward(x: Any) -> Any:
        return layer(x, training=True)

    call = torch.compile(forward) if compiled else forward
    return torch_step(call, [w.value for w in layer.trainable_variables], x, upstream)


def jax_layer(layer: Any, shape: Shape, precision: str) -> Step:
    import jax
    import jax.numpy as jnp

    size = (shape.batch, shape.size, shape.size, shape.channels)
    dtype = getattr(jnp, precision)
    x, upstream = (jax.random.normal(jax.random.key(i), size, dtype) for i in range(2))

    @jax.jit
    def step(trainable: list, fixed: list) -> tuple[list, list, tuple]:
        def forward(trainable: list, x: Any) -> tuple[Any, list]:
            return layer.stateless_call(trainable, fixed, x, training=True)

        y, pull, updated = jax.vjp(forward, trainable, x, has_aux=True)
        weights, gx = pull(upstream)
        weights = [w - RATE * g for w, g in zip(trainable, weights, strict=True)]
        return weights, updated, (y, gx)

    state = (
        [w.value for w in layer.trainable_variables],
        [w.value for w in layer.non_trainable_variables],
    )

    def run() -> None:
        nonlocal state
        *state, _ = jax.block_until_ready(step(*state))

    return run


def tensorflow_layer(layer: Any, shape: Shape, precision: str) -> Step:
    import tensorflow as tf

    size = (shape.batch, shape.size, shape.size, shape.channels)
    x, upstream = (tf.cast(tf.random.stateless_normal(size, (0, i)), precision) for i in range(2))
    weights = [w.value for w in layer.trainable_variables]

    @tf.function
    def step(x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        gx, *gradients = tape.gradient(y, [x, *weights], output_gradients=upstream)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.assign_sub(RATE * gradient)
        return y, gx

    def run() -> None:
        step(x)
        tf.test.experimental.sync_devices()

    return run


def layer_steps(backend: str, shape: Shape, precision: str, compiled: bool) -> dict[str, Step]:
    """The layer on Keras's active back end."""
    from ulsam_keras import ULSAM

    def layer() -> Any:
        new = ULSAM(shape.splits, dtype="mixed_bfloat16" if precision == "bfloat16" else "float32")
        new.build((None, shape.size, shape.size, shape.channels))
        return new

    if backend == "jax":
        return {"ULSAM, JAX, jit": jax_layer(layer(), shape, precision)}
    if backend == "tensorflow":
        return {"ULSAM, TensorFlow, graph": tensorflow_layer(layer(), shape, precision)}
    steps = {"ULSAM, PyTorch, eager": torch_layer(layer(), shape, precision)}
    if compiled:
        steps["ULSAM, PyTorch, torch.compile"] = torch_layer(layer(), shape, precision, True)
    return steps


def in_turns(steps: dict[str, Step], turns: int) -> dict[str, list[float]]:
    """Milliseconds of each step in each turn, after a warm-up."""
    clock = time.process_time if "--processor-time" in sys.argv else time.perf_counter
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            step()  # In training a step follows its like; after another's, memory is cold.
            start = clock()
            step()
            times[name].append(1e3 * (clock() - start))
    return times


def fastest(steps: dict[str, Step]) -> Step:
    times = in_turns(steps, 5)
    return steps[min(steps, key=lambda name: statistics.median(times[name]))]


def measure(backend: str, shape: Shape, precision: str, turns: int, compiled: bool) -> dict:
    """{row: [median ms, module eager / row, module compiled / row]}, in this process."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    steps = {EAGER: fastest(module_steps(shape, precision, False))}
    if compiled:
        steps[COMPILED] = fastest(module_steps(shape, precision, True))
    steps |= layer_steps(backend, shape, precision, compiled)
    times = in_turns(steps, turns)

    def ratio(name: str, to: str) -> float | None:
        if to not in times:
            return None
        return statistics.median(a / b for a, b in zip(times[to], times[name], strict=True))

    return {
        name: [statistics.median(times[name]), ratio(name, EAGER), ratio(name, COMPILED)]
        for name in steps
    }


def in_a_process(backend: str, precision: str, arguments: list[str]) -> dict:
    command = [sys.executable, __file__, *arguments, "--backend", backend, "--precision", precision]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f"The step on {backend} in {precision} failed.")
    return json.loads(result.stdout.splitlines()[-1])


def device() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"a CPU, {os.cpu_count()} cores"


def table(found: dict[tuple[str, str], dict]) -> str:
    """Each row with its milliseconds and its ratios to the module of the same process."""
    precisions = list(dict.fromkeys(precision for _, precision in found))
    lines = ["| | " + " | ".join(f"{p}, ms | eager / this | compiled / this" for p in precisions)]
    lines = [f"{lines[0]} |", "|---" * (1 + 3 * len(precisions)) + "|"]
    rows: dict[str, dict[str, list]] = {}
    for (_, precision), numbers in found.items():
        for name, values in numbers.items():
            # The module is in every process: its time is that of the first.
            rows.setdefault(name, {}).setdefault(precision, values)
    for name, by_precision in rows.items():
        cells = []
        for precision in precisions:
            ms, *ratios = by_precision[precision]
            cells += [f"{ms:.1f}", *("" if r is None else f"{r:.2f}" for r in ratios)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15, help="turns (default 15)")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--processor-time", action="store_true", help="see above; CPU only")
    parser.add_argument("--backend", choices=BACKENDS, help="this one only, and in this process")
    parser.add_argument("--precision", choices=PRECISIONS, help="this one only")
    options = parser.parse_args()

    import torch

    usual = (256, 56, 256) if torch.cuda.is_available() else (16, 28, 64)
    given = (options.batch, options.size, options.channels)
    shape = Shape(*(a or b for a, b in zip(given, usual, strict=True)), options.splits)
    compiled = not options.no_compile
    precisions = [options.precision] if options.precision else PRECISIONS
    if options.backend and options.precision:
        os.environ.setdefault("KERAS_BACKEND", options.backend)
        print(
            json.dumps(measure(options.backend, shape, options.precision, options.steps, compiled))
        )
        return
    backends = [options.backend] if options.backend else BACKENDS
    backends = [b for b in backends if importlib.util.find_spec(b)]
    found = {}
    for precision in precisions:
        for backend in backends:
            found[backend, precision] = in_a_process(backend, precision, sys.argv[1:])
    print(f"{shape}; {device()}\n\n{table(found)}")


if __name__ == "__main__":
    main()
