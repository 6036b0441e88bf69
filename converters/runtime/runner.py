"""Starts the worker process, waits for it with a time limit, and names what happened.

Imports NumPy, `extras` and the standard library only.
"""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from converters.extras import missing
from converters.lifeline import Lifeline
from converters.runtime.result import Accelerator, GpuPrecision, RunResult
from converters.scratch import scratch_folder, unwritable

_WORKER = Path(__file__).with_name("worker.py")
# The exit status of a worker whose folder is full or gone: EX_IOERR of sysexits.h.
_NO_ROOM = 74
# Bytes of what a worker prints that are looked at.
_MOST_LOG = 1 << 24

Inputs = np.ndarray | Mapping[str, np.ndarray]


def run(
    tflite: bytes | str | os.PathLike[str],
    inputs: Inputs,
    *,
    accelerator: Accelerator = "cpu",
    gpu_precision: GpuPrecision = "float32",
    timeout: float = 300.0,
    repeats: int = 5,
    num_threads: int = 1,
    env: Mapping[str, str | None] | None = None,
) -> RunResult:
    """Runs a .tflite model in a process of its own and says what happened.

    More samples than the model's batch are run one batch after the other in the same process.

    Args:
        tflite: The model, as bytes or as the path of a file.
        inputs: The input array of a model with one input, or a dict of arrays by the signature's
            input names. The batch comes first; dtypes are those of the model, nothing is cast.
        accelerator: `"cpu"` (the interpreter with XNNPACK, as applications run it),
            `"cpu_builtin"` (the optimized kernels without XNNPACK), `"cpu_reference"` (the plain
            reference kernels; slow) or `"gpu"` (the GPU accelerator alone, without the CPU to
            fall back on). Defaults to `"cpu"`.
        gpu_precision: `"float32"` or `"float16"`, what the GPU is asked to compute in; the
            CPU computes in float32 only. Defaults to `"float32"`.
        timeout: Seconds that the whole process may take. Defaults to 300.
        repeats: Number of timed invocations, after the first. Defaults to 5.
        num_threads: Number of CPU threads of the interpreter; the reference kernels have one
            whatever is asked. Defaults to 1, as for the times in the documents;
            `converters.runtime.cores()` is how many there are.
        env: Environment variables for the worker, on top of this process's own (`None` removes
            one): which Vulkan driver to use, for instance. Defaults to `None`.

    Returns:
        A `RunResult`. A refusal, a crash, a time-out and a missing driver are outcomes, not
        exceptions.

    Raises:
        ValueError: If an argument is unknown, or the inputs do not fit the model.
        OSError: If the model file cannot be read, or temporary files cannot be written.
        ImportError: If the extra `convert` is not installed.
    """
    _check(accelerator, gpu_precision, timeout, repeats, num_threads)
    arrays = _arrays(inputs)
    with scratch_folder("ulsam-run-") as folder:
        request = {
            "model": _model_file(tflite, folder),
            "inputs": list(arrays),
            "accelerator": accelerator,
            "gpu_precision": gpu_precision,
            "timeout": timeout,
            "repeats": repeats,
            "num_threads": num_threads,
        }
        if gpu_precision == "float16":
            from converters.runtime.probe import doubling_model

            request["probe"] = str(folder / "probe.tflite")
            (folder / "probe.tflite").write_bytes(doubling_model())
        with open(folder / "inputs.npy", "wb") as file:  # one behind another
            for array in arrays.values():
                np.save(file, array)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        code, log = _spawn(folder, timeout, env)
        return _result(folder, code, log, timeout, accelerator)


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check(
    accelerator: str, gpu_precision: str, timeout: float, repeats: int, num_threads: int
) -> None:
    for name, value, known in (
        ("accelerator", accelerator, get_args(Accelerator)),
        ("gpu_precision", gpu_precision, get_args(GpuPrecision)),
    ):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}")
    if gpu_precision == "float16" and accelerator != "gpu":
        raise ValueError(
            "float16 is a precision of the GPU; use accelerator='gpu' or gpu_precision='float32'. "
            f"Received: accelerator={accelerator!r}, gpu_precision={gpu_precision!r}"
        )
    if not timeout > 0:
        raise ValueError(f"`timeout` must be positive seconds. Received: timeout={timeout!r}")
    if repeats < 0:
        raise ValueError(f"`repeats` must not be negative. Received: repeats={repeats!r}")
    if num_threads < 1:
        raise ValueError(f"`num_threads` must be at least 1. Received: num_threads={num_threads!r}")


def _arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """The inputs by name, a bare array under the name ''."""
    named = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
    arrays = {name: np.asarray(value) for name, value in named.items()}
    for name, value in arrays.items():
        if value.dtype.hasobject or not value.dtype.isbuiltin:
            raise ValueError(
                f"Input {name!r} must be an array of numbers. Received: dtype={value.dtype}"
            )
    return arrays


def _model_file(tflite: bytes | str | os.PathLike[str], folder: Path) -> str:
    if isinstance(tflite, bytes | bytearray | memoryview):
        path = folder / "model.tflite"
        path.write_bytes(tflite)
        return str(path)
    # Opened here, so that a missing or unreadable file is an OSError and not a refusal.
    with open(tflite, "rb"):
        return os.path.abspath(tflite)


def _spawn(
    folder: Path, timeout: float, env: Mapping[str, str | None] | None
) -> tuple[int | None, str]:
    """The worker's exit code (`None`: killed at the time limit) and all that it printed."""
    merged = {**os.environ, **(env or {})}
    # A file, not a pipe: who else holds a pipe open, a driver's compiler say, would be waited for.
    with open(folder / "log", "w+b") as log, contextlib.closing(Lifeline()) as lifeline:
        process = subprocess.Popen(
            # -P: the worker's folder stays out of its module path.
            [sys.executable, "-P", str(_WORKER), str(folder)],
            stdin=lifeline.end,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in merged.items() if value is not None},
            start_new_session=True,  # A process group of its own, to be killed whole.
        )
        code: int | None = None
        try:
            lifeline.hold(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = _wait(process, timeout)
        finally:
            _kill(process)
        log.seek(0)
        return code, log.read(_MOST_LOG).decode(errors="replace")


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """As `wait`, which looks now and then only, where the system tells of the end at once."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # a kernel without it
            ended = os.pidfd_open(process.pid)
            try:
                poll = select.poll()
                poll.register(ended, select.POLLIN)
                poll.poll(min(1e3 * timeout, 2**31 - 1))
            finally:
                os.close(ended)
            timeout = 0
    return process.wait(timeout)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the worker and whatever it started."""
    if os.name == "posix":
        # They may have ended by themselves.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        with contextlib.suppress(OSError):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.kill()
    process.wait()


def _result(
    folder: Path, code: int | None, log: str, timeout: float, accelerator: Accelerator
) -> RunResult:
    adapter = _adapter(log, accelerator)
    if code is None:
        return RunResult(
            "timed_out", adapter=adapter, message=f"killed after the time limit of {timeout:g} s"
        )
    if code == _NO_ROOM:
        raise unwritable("those of a run")
    try:
        reply: dict[str, Any] = json.loads((folder / "reply.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        reply = {}
    if code != 0 or not reply:
        name = signal.Signals(-code).name if code < 0 else None
        how = f"ended by {name}" if name else f"ended with exit code {code}"
        how += " after the run" if reply else ""
        message = ": ".join(filter(None, (how, _last_words(log))))
        return RunResult("crashed", adapter=adapter, message=message, signal=name)
    match reply["outcome"]:
        case "invalid":
            raise ValueError(reply["message"])
        case "not_installed":
            raise missing("Running a model", "ai_edge_litert", reply["message"])
        case "refused":
            if "No adapters found" in log:
                return RunResult("no_driver", message=_no_driver(log))
            return RunResult("refused", adapter=adapter, message=_refusal(log, reply["message"]))
    # The device's refusals are in the log alone: the run goes on, and its outputs are zeros.
    invalid = _invalid(log) if accelerator == "gpu" else ""
    if invalid:
        return RunResult("refused", adapter=adapter, message=invalid)
    with open(folder / "outputs.npy", "rb") as file:
        outputs = {name: np.load(file) for name in reply["outputs"]}
    return RunResult(
        "ok",
        outputs=outputs,
        adapter=adapter,
        fully_accelerated=reply["fully_accelerated"],
        gpu_precision=reply["gpu_precision"],
        milliseconds=reply["milliseconds"],
    )


# The runtime reports by log lines; what they look like is known here and nowhere else.


def _adapter(log: str, accelerator: Accelerator) -> str:
    if accelerator == "cpu_reference":
        return "reference kernels"
    if accelerator != "gpu":
        # The delegate is the interpreter's choice, so its word is taken.
        return "XNNPACK" if "XNNPACK delegate for CPU" in log else "built-in kernels"
    found = re.search(r"Selected adapter: (.+?)(?:, arch=.*)?$", log, re.MULTILINE)
    return found[1] if found else ""


def _no_driver(log: str) -> str:
    found = re.search(r"(Couldn't load Vulkan: .+)", log)
    return "No adapters found" + (f": {found[1]}" if found else "")


def _refusal(log: str, raised: str) -> str:
    """The delegate's list of operations if there is one, else the error raised."""
    listed = re.search(
        r"Following operations are not supported by GPU delegate:\n((?:.+\n)+?)"
        r"(?=.*operations will run)",
        log,
    )
    if listed:
        return "; ".join(_one_line(line).rstrip(".") for line in listed[1].splitlines())
    # "ERROR: [file:line]" and the frame marks of the runtime's traces say nothing to a user.
    return _one_line(re.sub(r"ERROR: \[[^\]]*\]|[└├│]", " ", raised))


def _invalid(log: str) -> str:
    """The first thing that the device says it cannot do; empty if there is none."""
    kinds = "Validation|Out of memory|Internal|Unknown"
    found = re.search(rf"^E\d{{4}} .*?\] ((?:{kinds}) error: .+)$", log, re.MULTILINE)
    return _one_line(found[1]) if found else ""


def _last_words(log: str) -> str:
    """The message of the check that failed, or else the last line that is not a stack frame."""
    fatal = re.search(r"^F\d{4} .*?\] (.*)$", log, re.MULTILINE)
    if fatal:
        return _one_line(fatal[1])
    lines = [
        line
        for line in log.splitlines()
        if line.strip() and not re.match(r"\s+@ |I\d{4} |INFO: |\*\*\*|WARNING: |└", line)
    ]
    return _one_line(lines[-1]) if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
