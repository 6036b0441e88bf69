"""What the int8 forms of ULSAM's softmax leave of its attention, and how fast the int8 block is.

One block, C channels of standard normal features, 4 groups, weights such that the scores before
the softmax span the given range over the data. Each row is one file, measured in the file itself
by `converters.attention_fidelity` on samples that it was not calibrated with.

    python benchmarks/int8_attention.py [--sizes 7 14 28 56 112] [--channels 32] [--runs 200]

`SNR`, `cosine`, `zeros`: of the attention, against the float model. `y`: SNR of the block's
output; beside it `without`, the same with the attention left out, and `rounding`, the output's own
rounding alone. `pattern`: correlation of what the output was multiplied by with the attention.
`ms`: one run of the block, LiteRT's CPU interpreter, one thread.

Then the int8 block against the float32 block, in turns in one process: the ratio is the median over
the runs of float32 / int8, each of two calls that follow each other.
"""

import argparse
import statistics
import time
import warnings

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from converters import attention_fidelity, to_tflite
from converters.fidelity import decibels, run_float
from ulsam_keras import ULSAM

RANGES = (1.5, 5.0, 10.0, 20.0)
FORMS = {
    "int8 softmax (TFLite's default)": {"precision": "int8", "attention": "softmax"},
    "int8 log_softmax (default here)": {"precision": "int8"},
    "int8 float island": {"precision": "int8", "attention": "float"},
    "int16x8": {"precision": "int16x8"},
}
SITES = [(14, 512), (28, 256)]
GROUPS = 4
CALIBRATION, CHECKED = 100, 8


def block(size: int, channels: int, score_range: float, data: np.ndarray) -> keras.Model:
    """A block with random weights whose scores span 0 to `score_range` over the data."""
    image = keras.Input((size, size, channels), name="image")
    layer = ULSAM(GROUPS, name="ulsam")
    model = keras.Model(image, layer(image))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("variance", "gamma")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(rng.normal(size=weight.shape) * 0.5)
    # The scores as they are, behind a normalization that does nothing, and then their range.
    layer.pointwise_norm.gamma.assign(np.ones(GROUPS))
    layer.pointwise_norm.beta.assign(np.zeros(GROUPS))
    layer.pointwise_norm.moving_mean.assign(np.zeros(GROUPS))
    layer.pointwise_norm.moving_variance.assign(np.full(GROUPS, 1 - layer.epsilon))
    t = keras.ops.relu(layer.depthwise_norm(layer.depthwise_conv(data)))
    t = np.asarray(layer.pool(t)).reshape(*data.shape[:3], GROUPS, -1)
    kernel = np.asarray(layer.pointwise_kernel)[0, 0]
    scores = np.einsum("nhwgc,cg->nhwg", t, kernel) + np.asarray(layer.pointwise_bias)
    low, high = scores.min((0, 1, 2)), scores.max((0, 1, 2))
    layer.pointwise_norm.gamma.assign(score_range / (high - low))
    layer.pointwise_norm.beta.assign(-low * score_range / (high - low))
    return model


def interpreter(tflite: bytes, image: np.ndarray) -> Interpreter:
    """An interpreter that holds the image, rounded where the model takes integers."""
    result = Interpreter(model_content=tflite, num_threads=1)
    result.allocate_tensors()
    [detail] = result.get_input_details()
    scale, zero = detail["quantization"]
    if scale:
        image = np.clip(np.round(image / scale) + zero, -128, 127)
    result.set_tensor(detail["index"], image.astype(detail["dtype"]))
    return result


def milliseconds(model: Interpreter) -> float:
    start = time.perf_counter()
    model.invoke()
    return 1000 * (time.perf_counter() - start)


def fidelity_table(sizes: list[int], channels: int) -> None:
    print("map      range  form                             SNR  cosine  zeros", end="")
    print("     y  without  rounding  pattern      ms")
    for size in sizes:
        rng = np.random.default_rng(size)
        data = rng.normal(size=(CALIBRATION + CHECKED, size, size, channels)).astype("float32")
        calibration, checked = data[:CALIBRATION], data[CALIBRATION:]
        for score_range in RANGES:
            model = block(size, channels, score_range, data)
            expected = model.predict(checked, verbose=0)
            for name, options in FORMS.items():
                tflite = to_tflite(model, representative_data=calibration, **options)
                [row] = attention_fidelity(tflite, model, checked)
                result = run_float(tflite, {"image": checked}, repeats=20)
                if row.problem or result.outputs is None:
                    raise SystemExit(f"{name} at {size}x{size} did not run: {row.problem}")
                [y] = result.outputs.values()
                print(
                    f"{size:3d}x{size:<3d} {score_range:6.1f}  {name:31s} {row.snr:5.1f} "
                    f"{row.cosine:7.3f} {row.zeros:6.1%} {decibels(expected, y - expected):5.1f} "
                    f"{row.without_snr:8.1f} {row.rounding_snr:9.1f} "
                    f"{row.effect_correlation:8.3f} {result.milliseconds:7.2f}",
                    flush=True,
                )


def speed_table(runs: int) -> None:
    print("block           float32 ms  int8 ms  float32 / int8  (quartiles)")
    for size, channels in SITES:
        data = np.random.default_rng(0).normal(size=(CALIBRATION, size, size, channels))
        data = data.astype("float32")
        model = block(size, channels, 5.0, data)
        integer = {"precision": "int8", "representative_data": data, "inference_type": "int8"}
        models = [
            interpreter(tflite, data[:1])
            for tflite in (to_tflite(model), to_tflite(model, **integer))
        ]
        for _ in range(20):
            for one in models:
                one.invoke()
        times = [(milliseconds(models[0]), milliseconds(models[1])) for _ in range(runs)]
        low, middle, high = statistics.quantiles([a / b for a, b in times], n=4)
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        print(
            f"{size}x{size}x{channels:<6d} {medians[0]:13.3f} {medians[1]:8.3f} {middle:11.2f}"
            f"      ({low:.2f} - {high:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[7, 14, 28, 56, 112])
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each (default 200)")
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the GPU has no 16-bit integers
        fidelity_table(arguments.sizes, arguments.channels)
        speed_table(arguments.runs)


if __name__ == "__main__":
    main()
