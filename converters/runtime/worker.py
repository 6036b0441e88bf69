"""The child process: loads one model, runs it, writes what came out.

Started by path (`python worker.py FOLDER`), so it imports the standard library, NumPy and
ai_edge_litert, and nothing of this project. The folder holds `request.json` and `inputs.npy`, one
array behind another; the worker leaves `outputs.npy`, the same, and, last of all, `reply.json`. A
reply that is missing is a crash.
"""

import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
# The exit status where the folder cannot be read or written: EX_IOERR of sysexits.h.
_NO_ROOM = 74


class InvalidInputsError(Exception):
    """The given inputs do not fit the model."""


class CpuModel:
    """A model on the interpreter: XNNPACK, the built-in or the reference kernels."""

    fully_accelerated = False

    def __init__(self, request: dict[str, Any]) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "cpu": OpResolverType.BUILTIN,
            "cpu_builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "cpu_reference": OpResolverType.BUILTIN_REF,
        }[request["accelerator"]]
        self._interpreter = Interpreter(
            model_path=request["model"],
            experimental_op_resolver_type=resolver,
            num_threads=request["num_threads"],
        )
        self._interpreter.allocate_tensors()
        signatures = self._interpreter.get_signature_list()
        if signatures:
            runner = self._interpreter.get_signature_runner(_only_signature(signatures))
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        else:
            inputs = {d["name"]: d for d in self._interpreter.get_input_details()}
            outputs = {d["name"]: d for d in self._interpreter.get_output_details()}
        self._inputs = {name: d["index"] for name, d in inputs.items()}
        self._outputs = {name: d["index"] for name, d in outputs.items()}
        self._shapes = {name: tuple(map(int, d["shape"])) for name, d in inputs.items()}
        self.specs = {
            name: (np.dtype(d["dtype"]), tuple(map(int, d.get("shape_signature", d["shape"]))))
            for name, d in inputs.items()
        }

    def write(self, sample: Arrays) -> None:
        """Hands over the inputs of one invocation."""
        shapes = {name: value.shape for name, value in sample.items()}
        if shapes != self._shapes:  # The model leaves dimensions open.
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._inputs[name], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, value in sample.items():
            self._interpreter.set_tensor(self._inputs[name], value)

    def invoke(self) -> Arrays:
        """Runs the model and reads its outputs."""
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(i) for name, i in self._outputs.items()}


class GpuModel:
    """A model on the GPU accelerator alone: what it does not support is an error."""

    def __init__(self, request: dict[str, Any]) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import GpuOptions, Options

        options = Options(
            HardwareAccelerator.GPU,
            gpu_options=GpuOptions(enforce_f32=request["gpu_precision"] == "float32"),
        )
        self._model = model = CompiledModel.from_file(request["model"], options=options)
        self._key = _only_signature(model.get_signature_list())
        self.specs = {
            name: (np.dtype(d["dtype"]), tuple(d["shape"]))
            for name, d in model.get_input_tensor_details(self._key).items()
        }
        self.fully_accelerated = model.is_fully_accelerated()
        key = self._key
        self._inputs = {name: model.create_input_buffer_by_name(key, name) for name in self.specs}
        self._details = model.get_output_tensor_details(key)
        self._outputs = {
            name: model.create_output_buffer_by_name(key, name) for name in self._details
        }

    def write(self, sample: Arrays) -> None:
        """Hands over the inputs of one invocation."""
        for name, value in sample.items():
            self._inputs[name].write(value)

    def invoke(self) -> Arrays:
        """Runs the model and reads its outputs."""
        self._model.run_by_name(self._key, self._inputs, self._outputs)
        result = {}
        for name, detail in self._details.items():
            # The run is asynchronous: reading waits for it.
            flat = self._outputs[name].read(int(np.prod(detail["shape"])), detail["dtype"])
            result[name] = flat.reshape(detail["shape"])
        return result


def _only_signature(signatures: dict[str, Any]) -> str:
    if len(signatures) != 1:
        raise InvalidInputsError(
            "The model must have one signature; export it with one. "
            f"Received: signatures {sorted(signatures)}"
        )
    return next(iter(signatures))


def _named(inputs: Arrays, names: list[str]) -> Arrays:
    """The inputs by the model's names; a bare array comes under the name ''."""
    if list(inputs) == [""] and len(names) == 1:
        return {names[0]: inputs[""]}
    if set(inputs) != set(names):
        received = "one array" if list(inputs) == [""] else sorted(inputs)
        raise InvalidInputsError(f"The model's inputs are {sorted(names)}. Received: {received}")
    return inputs


def _samples(model: CpuModel | GpuModel, inputs: Arrays) -> list[Arrays]:
    """The batch cut into pieces of the model's own batch size, once everything fits."""
    inputs = _named(inputs, list(model.specs))
    batches, counts = {}, {}
    for name, value in inputs.items():
        _check_input(name, value, *model.specs[name])
        batches[name] = max(model.specs[name][1][0], 1)
        counts[name] = value.shape[0] // batches[name]
    if len(set(counts.values())) != 1:
        raise InvalidInputsError(
            f"All inputs must have the same number of samples. Received: {counts}"
        )
    return [
        {name: value[i * batches[name] :][: batches[name]] for name, value in inputs.items()}
        for i in range(next(iter(counts.values())))
    ]


def _check_input(name: str, value: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """`shape` is the model's, -1 where it leaves a dimension open; its batch may be repeated."""
    if (
        value.dtype == dtype
        and 0 < value.ndim == len(shape)
        and value.shape[0] > 0
        and value.shape[0] % max(shape[0], 1) == 0
        and all(s in (-1, v) for s, v in zip(shape[1:], value.shape[1:], strict=True))
    ):
        return
    dimensions = ["any" if s == -1 else str(s) for s in shape]
    dimensions[:1] = ["N" if s in (-1, 1) else f"{s} * N" for s in shape[:1]]
    raise InvalidInputsError(
        f"Input {name!r} must have dtype {dtype} and shape ({', '.join(dimensions)}). "
        f"Received: dtype={value.dtype}, shape={value.shape}"
    )


def _median_ms(invoke: Callable[[], Any], repeats: int) -> float | None:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        invoke()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times) if times else None


def _gpu_precision(request: dict[str, Any]) -> str:
    """The precision that the accelerator really used.

    An adapter without half precision computes in float32 and says nothing. The probe model adds
    its input to itself: 2049 needs 12 bits of mantissa, float16 has 11 and makes it 2048.
    """
    if request["gpu_precision"] == "float32":
        return "float32"
    probe = GpuModel({**request, "model": request["probe"]})
    probe.write({name: np.full(shape, 2049, "float32") for name, (_, shape) in probe.specs.items()})
    (doubled,) = probe.invoke().values()
    return "float32" if np.all(doubled == 4098) else "float16"


def _run(request: dict[str, Any], inputs: Arrays) -> tuple[dict[str, Any], Arrays]:
    model = (GpuModel if request["accelerator"] == "gpu" else CpuModel)(request)
    pieces = []
    samples = _samples(model, inputs)
    for sample in samples:
        model.write(sample)
        pieces.append(model.invoke())
    milliseconds = _median_ms(model.invoke, request["repeats"])
    outputs = {
        name: np.concatenate([np.atleast_1d(piece[name]) for piece in pieces])
        for name in sorted(pieces[0])  # The runtimes list them in different orders.
    }
    reply = {
        "outcome": "ok",
        "fully_accelerated": model.fully_accelerated,
        "gpu_precision": _gpu_precision(request),
        "milliseconds": milliseconds,
    }
    return reply, outputs


def _guard(seconds: float, gpu: bool) -> None:
    """No core file, and an end to this process even where the parent was killed.

    Nor more memory than the machine has, so that a file that asks for it ends this process alone; a
    GPU's driver maps what it likes.
    """
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not gpu:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
            if allowed == resource.RLIM_INFINITY or allowed > memory:
                resource.setrlimit(resource.RLIMIT_AS, (memory, allowed))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


@contextlib.contextmanager
def _or_no_room() -> Iterator[None]:
    """Ends the process where the folder is full or gone, of which no reply can tell."""
    try:
        yield
    except OSError:
        os._exit(_NO_ROOM)


def main(folder: str) -> None:
    """Serves the one request in the folder."""
    with _or_no_room():
        with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
            request = json.load(file)
        with open(os.path.join(folder, "inputs.npy"), "rb") as file:
            inputs = {name: np.load(file) for name in request["inputs"]}
    _guard(request["timeout"] + 5, request["accelerator"] == "gpu")
    outputs: Arrays = {}
    reply: dict[str, Any]
    try:
        reply, outputs = _run(request, inputs)
        reply["outputs"] = list(outputs)
    except InvalidInputsError as error:
        reply = {"outcome": "invalid", "message": str(error)}
    except ImportError as error:
        reply = {"outcome": "not_installed", "message": str(error)}
    except (RuntimeError, ValueError) as error:
        reply = {"outcome": "refused", "message": str(error)}
    with _or_no_room():
        with open(os.path.join(folder, "outputs.npy"), "wb") as file:
            for array in outputs.values():
                np.save(file, array)
        partial = os.path.join(folder, "reply.part")
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(reply, file)
        os.replace(partial, os.path.join(folder, "reply.json"))


if __name__ == "__main__":
    main(sys.argv[1])
