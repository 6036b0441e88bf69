"""The examples as tests use them: their files imported as by who runs them, the digits network.

The examples are not a package. Imports NumPy; the converters inside the functions.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"


def imported(folder, *names):
    """Modules of a folder of scripts."""
    sys.path.insert(0, str(folder))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))


def digits_model():
    """The digits network in Keras, with its weights."""
    from converters import load_checkpoint, port_weights

    model = imported(DIGITS, "model")[0].build()
    port_weights(load_checkpoint(DIGITS / "digits_ulsam.pth"), model)
    return model


def digits_pixels(count):
    """The first held-out pictures as bytes, `(count, 32, 32, 3)`."""
    with np.load(DIGITS / "reference.npz") as reference:
        inputs = reference["inputs"][:count].transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.round(255 * inputs).astype("uint8"))
