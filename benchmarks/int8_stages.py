"""Where the time of the int8 block goes, beside float32: the block cut off after every stage.

    python benchmarks/int8_stages.py [--runs 300]

The stages are written out as TensorFlow operations, the same as the converted block's, and
converted up to each of them. One thread, XNNPACK, int8 inputs and outputs; the two models of a row
run in turns, alone in their loop (warm) and with 64 MB written before every run (cold), which is
nearer to a network that is too large for the caches. `warm` and `cold` are the median of float32 /
int8 over the turns.
"""

import argparse
import statistics
import time

import int8_attention
import numpy as np
import tensorflow as tf

GROUPS = int8_attention.GROUPS
SAMPLES = 20


def stages(size: int, channels: int):
    """(name, function of x) of the block up to every stage."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(1, 1, channels, 1)).astype("float32")
    bias = rng.normal(size=channels).astype("float32")
    membership = np.repeat(np.eye(GROUPS, dtype="float32"), channels // GROUPS, axis=0)
    branch = rng.normal(size=(channels, 1)) * (GROUPS / channels) ** 0.5
    branch = (branch * membership)[None, None].astype("float32")

    def depthwise(x):
        return tf.nn.relu(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME") + bias)

    def pooled(x):
        return tf.nn.max_pool2d(depthwise(x), 3, 1, "SAME")

    def scores(x):
        return tf.nn.relu(tf.nn.conv2d(pooled(x), branch, 1, "SAME") + np.full(GROUPS, 0.1, "f"))

    def attention(x):
        s = tf.transpose(tf.reshape(scores(x), (1, size * size, GROUPS)), (0, 2, 1))
        a = tf.transpose(tf.exp(tf.nn.log_softmax(s)), (0, 2, 1))
        return tf.reshape(a, (1, size, size, GROUPS))

    def spread(x):
        return tf.nn.conv2d(attention(x), membership.T[None, None], 1, "SAME") + 1.0

    return {
        "DEPTHWISE_CONV_2D": depthwise,
        "MAX_POOL_2D": pooled,
        "CONV_2D (scores)": scores,
        "softmax, two layouts": attention,
        "CONV_2D (spreading)": spread,
        "MUL": lambda x: x * spread(x),
    }


def converted(function, data: np.ndarray, integer: bool) -> bytes:
    spec = tf.TensorSpec((1, *data.shape[1:]), tf.float32)
    traced = tf.function(function, input_signature=[spec], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    if integer:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def medians(models: list, runs: int, cold: bool) -> tuple[float, float, float]:
    """Milliseconds of the float32 and the int8 model, and the median ratio of the turns."""
    evicting = np.zeros(64_000_000 // 8)
    taken = []
    for turn in range(runs + 20):
        times = []
        for model in models:
            if cold:
                evicting += 1.0
            start = time.perf_counter()
            model.invoke()
            times.append(1000 * (time.perf_counter() - start))
        if turn >= 20:
            taken.append(times)
    first, second = zip(*taken, strict=True)
    ratios = [a / b for a, b in taken]
    return statistics.median(first), statistics.median(second), statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    head = ["block", "up to", "float32 ms", "int8 ms", "warm", "cold"]
    rows = []
    for size, channels in int8_attention.SITES:
        data = np.random.default_rng(0).normal(size=(SAMPLES, size, size, channels))
        data = data.astype("float32")
        for name, function in stages(size, channels).items():
            models = [
                int8_attention.interpreter(converted(function, data, integer), data[:1])
                for integer in (False, True)
            ]
            float32, int8, warm = medians(models, runs, cold=False)
            _, _, cold = medians(models, runs // 5, cold=True)
            numbers = f"{float32:.3f}", f"{int8:.3f}", f"{warm:.2f}", f"{cold:.2f}"
            rows.append([f"{size}x{size}x{channels}", name, *numbers])
    int8_attention.table(head, rows)


if __name__ == "__main__":
    main()
