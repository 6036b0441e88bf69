"""What crashes or hangs goes here: TensorFlow's converter and LiteRT's interpreter, job by job.

Run by path in a process of its own (`python worker.py`, or forked), so it imports the standard
library and NumPy, TensorFlow and ai_edge_litert inside functions, and nothing of this project. A
job is a folder with `request.json`; its path comes as a line, and lines of JSON go back: `{"batch":
n}` after each batch of data, then `{}`, `{"error": text}`, or, where its folder is full or gone,
`{"no_room": text}`. The end of the requests ends it.
"""

import errno
import json
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Seconds after which a process that nobody asks anything gives its memory back.
_IDLE = 120.0

Send = Callable[[dict[str, Any]], None]


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Does jobs until there are no more requests, or none for a long time."""

    def send(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()

    while os.name != "posix" or select.select([requests], [], [], _IDLE)[0]:
        line = requests.readline()
        if not line:
            return
        folder = Path(os.fsdecode(line.rstrip(b"\n")))
        try:
            request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
            _JOBS[request["job"]](folder, request, send)
            reply = {}
        # The converter's own exception class is not public, and a job must have its answer.
        except BaseException as error:
            reply = {"error": str(error) or type(error).__name__}
            if isinstance(error, OSError) and error.errno is not None:
                reply = {"no_room": os.strerror(error.errno)}
            elif (full := os.strerror(errno.ENOSPC)) in str(error):  # TensorFlow's own error
                reply = {"no_room": full}
        send(reply)


def _convert(folder: Path, request: dict[str, Any], send: Send) -> None:
    """A SavedModel to `result.tflite`."""
    import tensorflow as tf

    sets = tf.lite.OpsSet
    converter = tf.lite.TFLiteConverter.from_saved_model(
        request["saved_model"], signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS]
    if request["precision"] != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    match request["precision"]:
        case "float16":
            converter.target_spec.supported_types = [tf.float16]
        case "int8" | "int16x8" as precision:
            converter.inference_input_type = tf.as_dtype(request["inference_type"])
            converter.inference_output_type = tf.as_dtype(request["inference_type"])
            if request["inputs"] is not None:
                converter.representative_dataset = lambda: _batches(folder, request, send)
                converter.target_spec.supported_ops = [
                    sets.TFLITE_BUILTINS_INT8
                    if precision == "int8"
                    else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                ]
    with warnings.catch_warnings():
        # Calibration runs in TensorFlow's own interpreter, which says that LiteRT's is newer.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter")
        if request["floats"]:
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_options=tf.lite.experimental.QuantizationDebugOptions(
                    denylisted_nodes=request["floats"]
                ),
            )
            content = bytes(debugger.get_nondebug_quantized_model())
        else:
            content = converter.convert()
    (folder / "result.tflite").write_bytes(content)


def _measure(folder: Path, request: dict[str, Any], send: Send) -> None:
    """The smallest and largest value of every output of `model.tflite`, to `ranges.json`."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(folder / "model.tflite")).get_signature_runner()
    found: dict[str, tuple[float, float]] = {}
    for batch in _batches(folder, request, send):
        for name, value in runner(**batch).items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
    (folder / "ranges.json").write_text(json.dumps(found), encoding="utf-8")


def _run(folder: Path, request: dict[str, Any], send: Send) -> None:
    """Loads `model.tflite` as an application does, and runs it once on zeros."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(folder / "model.tflite")).get_signature_runner()
    runner(
        **{
            name: np.zeros(detail["shape"], detail["dtype"])
            for name, detail in runner.get_input_details().items()
        }
    )


def _batches(folder: Path, request: dict[str, Any], send: Send) -> Iterator[dict[str, np.ndarray]]:
    """The batches of the data in `0.npy` and so on, one file an input; only one is in memory."""
    names = request["inputs"]
    arrays = [np.load(folder / f"{number}.npy", mmap_mode="r") for number in range(len(names))]
    for number, parts in enumerate(zip(*arrays, strict=True), start=1):
        yield {name: np.array(part) for name, part in zip(names, parts, strict=True)}
        send({"batch": number})


_JOBS: dict[str, Callable[[Path, dict[str, Any], Send], None]] = {
    "convert": _convert,
    "measure": _measure,
    "run": _run,
}


if __name__ == "__main__":
    # Native code prints to descriptor 1 as it likes: replies go where it does not.
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, _replies)
    os._exit(0)  # without waiting for threads of a runtime that may hang
