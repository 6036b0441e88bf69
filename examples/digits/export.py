"""Writes the digits network as a program, `digits_ulsam.pt2`, from its checkpoint.

    python examples/digits/export.py

Needs PyTorch. The program says all that is computed, so that `ulsam-keras convert` takes it without
the network in Keras.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from converters import export_program
from network import DigitsNet

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    network = DigitsNet()
    network.load_state_dict(torch.load(HERE / "digits_ulsam.pth")["state_dict"])
    with np.load(HERE / "reference.npz") as reference:
        image = torch.from_numpy(reference["inputs"][:1])
    export_program(network, image, HERE / "digits_ulsam.pt2")
