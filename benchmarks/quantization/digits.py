"""The digits network in int8: TFLite's defaults, this project's, quantisation-aware training.

    python benchmarks/quantization/digits.py --output-dir out/quantization/digits

Takes the trained network of `examples/digits`, makes three int8 files of it, and measures on the
held-out images what each has left of answers, logits and attention. Writes the files, both Keras 3
models, `results.json`, `results.md` and `attention.png`. Needs scikit-learn, Matplotlib and the
extra `qat`.
"""

from __future__ import annotations

import argparse
import runpy
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import comparison
import measure
from converters import load_checkpoint, port_weights

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
SIZE = 32
SETTINGS = comparison.Settings(calibration_images=300, epochs=4, learning_rate=1e-4)


def build() -> keras.Model:
    """The digits network in Keras, untrained."""
    return runpy.run_path(str(DIGITS / "model.py"))["build"]()


def trained_network() -> keras.Model:
    """The digits network in Keras, with the weights that PyTorch trained."""
    model = build()
    port_weights(load_checkpoint(DIGITS / "digits_ulsam.pth"), model)
    return model


def load_images() -> tuple[np.ndarray, np.ndarray, measure.HeldOut]:
    """The images, as `examples/digits/train.py` makes and splits them.

    Returns:
        Training images, float32 `(1437, 32, 32, 3)` in [0, 1], their labels, and the 360 held-out
        images.
    """
    digits = load_digits()
    grey = tf.image.resize(digits.images[..., None] * (255 / 16), (SIZE, SIZE)).numpy()
    images = np.repeat(np.round(grey) / np.float32(255), 3, axis=3)
    fit, held_out = train_test_split(
        np.arange(len(images)), test_size=0.2, stratify=digits.target, random_state=0
    )
    other = measure.HeldOut(images[held_out], digits.target[held_out])
    return images[fit], digits.target[fit], other


def main() -> None:
    """Makes the files, measures them, and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, default=Path("out/quantization/digits"))
    parser.add_argument(
        "--epochs",
        type=int,
        default=SETTINGS.epochs,
        help=f"of quantisation-aware training (default {SETTINGS.epochs})",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    images, labels, held_out = load_images()
    settings = replace(SETTINGS, epochs=args.epochs)
    models = comparison.make(trained_network(), images, labels, settings, seed=args.seed)
    comparison.write(args.output_dir, models, held_out, seed=args.seed)


if __name__ == "__main__":
    main()
