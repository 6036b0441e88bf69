"""What a conversion takes, in seconds and in memory, beside Keras's own export.

    python benchmarks/conversion.py [NAME...] [--precision int8]

NAME is a network of `keras.applications`, with random weights. Each conversion is a process of its
own, that has TensorFlow loaded and the model built before the clock starts. Memory is what the
process and its children hold of their own at the worst moment (PSS), without what they held before,
in multiples of the weights. Keras's export has float32 only. Needs Linux.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = ("MobileNetV2", "ResNet50", "VGG16")
_PAUSE = 0.05  # seconds between two looks at the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NETWORKS)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _convert(options.names[0], options.precision, options.child)
        return
    print("| network | weights, MB | precision | s | of Keras's | memory, weights | of Keras's |")
    print("|---|---|---|---|---|---|---|")
    for name in options.names:
        ours = _measured(name, options.precision, "to_tflite")
        row = f"| {name} | {ours[0] / 1e6:.0f} | {options.precision} | {ours[1]:.1f}"
        memory = f"{ours[2] / ours[0]:.1f}"
        if options.precision == "float32":
            theirs = _measured(name, options.precision, "export")
            row += f" | {ours[1] / theirs[1]:.2f} | {memory} | {ours[2] / theirs[2]:.2f} |"
        else:
            row += f" | – | {memory} | – |"
        print(row, flush=True)


def _convert(name: str, precision: str, way: str) -> None:
    """Converts, between a line before it and a line after it."""
    import keras
    import numpy as np

    from converters import to_tflite

    model = getattr(keras.applications, name)(weights=None)
    samples = np.random.default_rng(0).random((4, *model.input_shape[1:]), "float32")
    data = {"representative_data": samples} if precision.startswith("int") else {}
    print(4 * model.count_params(), flush=True)
    sys.stdin.readline()
    start = time.monotonic()
    if way == "to_tflite":
        to_tflite(model, precision=precision, **data)
    else:
        with tempfile.TemporaryDirectory() as folder:
            shape = (1, *model.input_shape[1:])
            signature = [keras.InputSpec(shape=shape, dtype="float32")]
            model.export(
                f"{folder}/model.tflite", "litert", verbose=False, input_signature=signature
            )
    print(time.monotonic() - start, flush=True)


def _measured(name: str, precision: str, way: str) -> tuple[float, float, float]:
    """Bytes of the weights, seconds, and bytes of memory."""
    command = [sys.executable, __file__, name, "--precision", precision, "--child", way]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    assert child.stdin and child.stdout
    line = child.stdout.readline()
    if not line:
        sys.exit(f"NAME must be a network of keras.applications. Received: {name}")
    weights = float(line)
    before = most = _held(child.pid)
    child.stdin.write("\n")
    child.stdin.close()
    while child.poll() is None:
        most = max(most, _held(child.pid))
        time.sleep(_PAUSE)
    # What is logged to the same stream comes before it.
    seconds = float(child.stdout.read().split()[-1])
    return weights, seconds, most - before


def _held(pid: int) -> int:
    """The bytes that a process and its children hold, what they share counted once."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = 1024 * int(line.split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, ProcessLookupError):  # it has ended meanwhile
        return 0
    return total + sum(_held(int(child)) for child in children)


if __name__ == "__main__":
    main()
