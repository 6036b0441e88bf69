"""Every .tflite of a folder on its inputs, by whichever Python runs this: NumPy and LiteRT only.

    python run_tflite.py FOLDER RESULTS

Of NETWORK.PRECISION.tflite the inputs are NETWORK.npy, in floats; what its outputs are, integers as
they come, goes to RESULTS as NETWORK.PRECISION.npz.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def outputs(file: Path, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Of a file with one input and batches of one, by the names of its signature."""
    interpreter = Interpreter(str(file), num_threads=1)
    runner = interpreter.get_signature_runner()
    ((name, given),) = runner.get_input_details().items()
    if given["dtype"] != np.float32:
        (scale, zero), range_ = given["quantization"], np.iinfo(given["dtype"])
        samples = np.clip(np.rint(samples / scale) + zero, range_.min, range_.max)
    answers = [runner(**{name: sample[None].astype(given["dtype"])}) for sample in samples]
    return {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}


if __name__ == "__main__":
    folder, results = map(Path, sys.argv[1:])
    results.mkdir()
    for file in sorted(folder.glob("*.tflite")):
        network = file.name.split(".")[0]
        np.savez(results / f"{file.stem}.npz", **outputs(file, np.load(folder / f"{network}.npy")))
