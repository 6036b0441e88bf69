"""A step of quantisation-aware training against the same step of the plain tf_keras model.

MobileNetV2 (alpha 0.35, 96x96) with two ULSAM blocks and, for the share that is ULSAM's, one
without. Both models have the same weights; their steps run in turns in one process, compiled
graphs, batch 32, Adam. The time is the median of the steps, the ratio the median over the turns.

    python benchmarks/qat_step.py [--steps 20] [--size 96]

Also printed: the seconds that `quantize_model`, `calibrate`, tracing and converting to int8 take.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from ulsam_keras import quantization
from ulsam_keras.surgery import add_ulsam

BATCH = 32


def step_of(model: tf_keras.Model):
    """One training step on a fixed batch, as a compiled function."""
    optimizer = tf_keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)
    loss = tf_keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        return value

    return step


def seconds(function, *args) -> tuple[float, object]:
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def convert(inference: quantization.Inference) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inference.function], inference.trackable
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def measure(name: str, model: keras.Model, size: int, steps: int) -> None:
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(BATCH, size, size, 3)), tf.float32)
    y = tf.constant(rng.integers(0, 10, BATCH))
    quantizing, q = seconds(quantization.quantize_model, model)
    calibrating, _ = seconds(quantization.calibrate, q, [x])
    tracing, inference = seconds(quantization.inference_function, q)
    converting, content = seconds(convert, inference)
    plain_step, qat_step = step_of(quantization.to_tf_keras(model)), step_of(q)
    plain, qat = [], []
    for turn in range(steps + 3):
        pair = (
            seconds(lambda: float(plain_step(x, y)))[0],
            seconds(lambda: float(qat_step(x, y)))[0],
        )
        if turn >= 3:
            plain.append(pair[0])
            qat.append(pair[1])
    ratio = statistics.median(b / a for a, b in zip(plain, qat, strict=True))
    print(
        f"{name}: plain {1e3 * statistics.median(plain):.0f} ms, QAT "
        f"{1e3 * statistics.median(qat):.0f} ms, ratio {ratio:.2f}; quantize_model "
        f"{quantizing:.1f} s, calibrate {calibrating:.1f} s, trace {tracing:.1f} s, convert "
        f"{converting:.1f} s, {len(content) / 1024:.0f} KiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=96)
    options = parser.parse_args()
    base = keras.applications.MobileNetV2(
        (options.size, options.size, 3), alpha=0.35, weights=None, classes=10
    )
    sites = ("block_6_project_BN", "block_13_project_BN")
    with_ulsam = add_ulsam(base, after=sites, num_splits=4)
    measure("MobileNetV2 with two ULSAM", with_ulsam, options.size, options.steps)
    measure("MobileNetV2", base, options.size, options.steps)


if __name__ == "__main__":
    main()
