"""A network that int8 hurts: narrow, on pictures of every contrast. What training wins back.

    python benchmarks/quantization/narrow.py --output-dir out/quantization/narrow

Draws scikit-learn's handwritten digits at any place, size, angle and contrast, trains a MobileNetV2
of 2, 4 and 6 channels with three ULSAM on them, makes three int8 files of it, and measures on
held-out digits what each has left. To tell training for int8 from training longer, the float
network is trained on for as many epochs too. Writes the files, both Keras 3 models, `results.json`,
`results.md` and `attention.png`. Needs scikit-learn, Matplotlib and the extra `qat`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import comparison
import measure
from converters import to_tflite
from ulsam_keras import ULSAM

SIZE = 32
TRAINING_IMAGES, HELD_OUT_IMAGES = 8000, 4000
# Of a digit to its ground, from dusk to ink on paper: its logarithm is uniform.
LEAST_CONTRAST = 0.02
NOISE = 0.004
WIDTH, EXPANSION, SPLITS = 2, 6, 2
BATCH = 128
EPOCHS, RATE = 12, 1e-2
SETTINGS = comparison.Settings(calibration_images=500, epochs=8, learning_rate=3e-3)


def draw(
    drawings: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of digits at any place, size, angle, contrast and brightness.

    Args:
        drawings: `(n, 8, 8)` in [0, 1].
        labels: What they are, `(n,)`.
        count: How many pictures.
        rng: Where chance comes from.

    Returns:
        Float32 images `(count, 32, 32, 1)` in steps of 1/255, their labels, and the number of the
        drawing in each.
    """

    def between(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1))

    number = rng.integers(len(labels), size=count)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype("float32") + 0.5
    scale, angle = between(2.4, 3.4), np.deg2rad(between(-15, 15))
    down, right = rows - SIZE / 2 - between(-4, 4), columns - SIZE / 2 - between(-4, 4)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    # A border of ground around every drawing.
    padded = np.pad(drawings, ((0, 0), (1, 1), (1, 1)))
    places = [cosine * down + sine * right + 4.5, cosine * right - sine * down + 4.5]
    index = np.broadcast_to(number[:, None, None], places[0].shape)
    strokes = map_coordinates(padded, [index, *places], order=1)
    contrast = np.exp(between(np.log(LEAST_CONTRAST), 0))
    images = between(0, 1) * (1 - contrast) + contrast * strokes
    images += NOISE * rng.normal(size=images.shape)
    images = np.round(np.clip(images, 0, 1) * 255) / np.float32(255)
    return images[..., None].astype("float32"), labels[number], number


def load_images(seed: int = 0) -> tuple[np.ndarray, np.ndarray, measure.HeldOut]:
    """Training images and their labels, and held-out images of other drawings.

    Args:
        seed: Of the training images; the held-out ones are always the same. Defaults to 0.
    """
    digits = load_digits()
    drawings = digits.images.astype("float32") / 16
    fit, other = train_test_split(
        np.arange(len(drawings)), test_size=0.2, stratify=digits.target, random_state=0
    )
    images, labels, _ = draw(
        drawings[fit], digits.target[fit], TRAINING_IMAGES, np.random.default_rng(seed)
    )
    held_out = draw(
        drawings[other], digits.target[other], HELD_OUT_IMAGES, np.random.default_rng(1000)
    )
    return images, labels, measure.HeldOut(*held_out)


def build() -> keras.Model:
    """The network, untrained: a MobileNetV2 of 2, 4 and 6 channels with a ULSAM at each width."""

    def normed(x: keras.KerasTensor, layer: layers.Layer, relu: bool = True) -> keras.KerasTensor:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layer(x))
        return layers.ReLU()(x) if relu else x

    def bottleneck(x: keras.KerasTensor, channels: int, stride: int = 1) -> keras.KerasTensor:
        wide = layers.Conv2D(EXPANSION * x.shape[-1], 1, use_bias=False)
        y = normed(x, wide)
        y = normed(y, layers.DepthwiseConv2D(3, stride, "same", use_bias=False))
        y = normed(y, layers.Conv2D(channels, 1, use_bias=False), relu=False)
        return layers.Add()([x, y]) if stride == 1 and channels == x.shape[-1] else y

    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = normed(image, layers.Conv2D(WIDTH, 3, 2, "same", use_bias=False))
    x = ULSAM(SPLITS, name="ulsam1")(bottleneck(x, WIDTH))
    x = bottleneck(x, 2 * WIDTH, stride=2)
    x = ULSAM(SPLITS, name="ulsam2")(bottleneck(x, 2 * WIDTH))
    x = bottleneck(x, 3 * WIDTH)
    x = ULSAM(SPLITS, name="ulsam3")(bottleneck(x, 3 * WIDTH))
    x = normed(x, layers.Conv2D(6 * WIDTH, 1, use_bias=False))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="narrow")


def train(images: np.ndarray, labels: np.ndarray, seed: int = 0) -> keras.Model:
    """The network, trained in float32."""
    keras.utils.set_random_seed(seed)
    model = build()
    steps = EPOCHS * (len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        RATE / 100, steps - 100, warmup_target=RATE, warmup_steps=100
    )
    _fit(model, rate, images, labels, EPOCHS)
    return model


def train_on(network: keras.Model, images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A copy of the network, trained on in float32 as long as quantisation-aware training takes."""
    model = keras.models.clone_model(network)
    model.set_weights(network.get_weights())
    steps = SETTINGS.epochs * (len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(SETTINGS.learning_rate, steps)
    _fit(model, rate, images, labels, SETTINGS.epochs)
    return model


def _fit(
    model: keras.Model, rate: Any, images: np.ndarray, labels: np.ndarray, epochs: int
) -> None:
    # Only whole batches: ULSAM's batch normalizations follow the last batch to nine tenths.
    whole = len(images) // BATCH * BATCH
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images[:whole], labels[:whole], batch_size=BATCH, epochs=epochs, verbose=2)


def main() -> None:
    """Trains the network, makes the files, measures them, and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, default=Path("out/quantization/narrow"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    comparison.step(f"drawing {TRAINING_IMAGES} and {HELD_OUT_IMAGES} pictures")
    images, labels, held_out = load_images(args.seed)
    comparison.step(f"training the network in float32: {EPOCHS} epochs")
    network = train(images, labels, args.seed)
    models = comparison.make(network, images, labels, SETTINGS, seed=args.seed)
    comparison.step(f"training the network on in float32: {SETTINGS.epochs} epochs")
    longer = train_on(network, images, labels)
    samples = images[: SETTINGS.calibration_images]
    longer_int8 = to_tflite(longer, precision="int8", representative_data=samples)
    comparison.write(
        args.output_dir, models, held_out, seed=args.seed, longer=(longer, longer_int8)
    )


if __name__ == "__main__":
    main()
