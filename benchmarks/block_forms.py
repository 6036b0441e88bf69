"""The exported ULSAM block against a direct port with one branch per group.

Both hold the same weights, give the same numbers (checked first), are converted by `to_tflite`,
and run in turns in one process: LiteRT's CPU interpreter with XNNPACK, one thread, batch 1.

    python benchmarks/block_forms.py [--runs 200]

The time is the median of the runs. The ratio is the median over the runs of branches / fused,
each of two calls that follow each other, so that a change of the machine's pace touches both.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from converters import to_tflite
from converters.tflite.flatbuffer import read_graphs
from ulsam_keras import ULSAM

SITES = [(4, 14, 512), (16, 14, 512), (4, 28, 256), (16, 28, 256), (4, 56, 64), (16, 56, 64)]


def fused(num_splits: int, size: int, channels: int) -> keras.Model:
    """The layer, with weights and running statistics that make an uneven attention."""
    image = keras.Input((size, size, channels), name="image")
    model = keras.Model(image, ULSAM(num_splits, name="y")(image))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        low = 0.5 if weight.path.endswith(("variance", "gamma")) else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))
    return model


def branches(layer: ULSAM, size: int, channels: int) -> keras.Model:
    """The same block as the paper draws it: split, one attention per group, concatenate."""
    groups = layer.num_splits
    width = channels // groups
    image = keras.Input((size, size, channels), name="image")
    outputs = []
    for group, part in enumerate(
        keras.ops.split(image, groups, axis=-1) if groups > 1 else [image]
    ):
        own = slice(group * width, (group + 1) * width)
        depthwise = keras.layers.DepthwiseConv2D(1)
        depthwise_norm = keras.layers.BatchNormalization(epsilon=layer.epsilon)
        pointwise = keras.layers.Conv2D(1, 1)
        pointwise_norm = keras.layers.BatchNormalization(epsilon=layer.epsilon)
        t = keras.ops.relu(depthwise_norm(depthwise(part)))
        t = keras.layers.MaxPooling2D(3, strides=1, padding="same")(t)
        s = keras.ops.relu(pointwise_norm(pointwise(t)))
        a = keras.ops.softmax(keras.ops.reshape(s, (-1, size * size)), axis=-1)
        a = keras.ops.reshape(a, (-1, size, size, 1))
        outputs.append(part * a + part)
        kernel, bias = layer.depthwise_conv.get_weights()
        depthwise.set_weights([kernel[:, :, own], bias[own]])
        depthwise_norm.set_weights([w[own] for w in layer.depthwise_norm.get_weights()])
        kernel, bias = layer.pointwise_kernel.numpy(), layer.pointwise_bias.numpy()
        pointwise.set_weights([kernel[..., group : group + 1], bias[group : group + 1]])
        one = slice(group, group + 1)
        pointwise_norm.set_weights([w[one] for w in layer.pointwise_norm.get_weights()])
    y = keras.layers.Concatenate(name="y")(outputs) if groups > 1 else outputs[0]
    return keras.Model(image, {"y": y})


def runner(tflite: bytes, image: np.ndarray) -> Interpreter:
    """An interpreter that holds the image."""
    interpreter = Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    return interpreter


def milliseconds(interpreter: Interpreter) -> float:
    start = time.perf_counter()
    interpreter.invoke()
    return 1000 * (time.perf_counter() - start)


def output(interpreter: Interpreter) -> np.ndarray:
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each (default 200)")
    runs = parser.parse_args().runs

    print("                        operators          milliseconds        branches / fused")
    print("  map       C   g    fused  branches     fused  branches    median  (quartiles)")
    for groups, size, channels in SITES:
        model = fused(groups, size, channels)
        files = [to_tflite(model), to_tflite(branches(model.layers[-1], size, channels))]
        operators = [len(read_graphs(tflite)[0].operators) for tflite in files]
        image = np.random.default_rng(1).normal(size=(1, size, size, channels)).astype("float32")
        interpreters = [runner(tflite, image) for tflite in files]
        numbers = [output(interpreter) for interpreter in interpreters]
        difference = np.abs(numbers[0] - numbers[1]).max() / np.abs(numbers[0]).max()
        if not difference < 1e-5:
            raise SystemExit(f"The two forms differ by {difference:.1e} of the largest value.")
        for _ in range(10):
            output(interpreters[0]), output(interpreters[1])
        times = [
            (milliseconds(interpreters[0]), milliseconds(interpreters[1])) for _ in range(runs)
        ]
        ratios = [slow / fast for fast, slow in times]
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        print(
            f"{size:3d}x{size:<3d} {channels:5d} {groups:3d} {operators[0]:8d} {operators[1]:9d} "
            f"{medians[0]:9.3f} {medians[1]:9.3f} {middle:9.2f}  ({low:.2f} - {high:.2f})"
        )


if __name__ == "__main__":
    main()
