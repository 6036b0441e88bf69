"""What the integer forms of ULSAM's softmax leave of its attention, and how fast they are.

    python benchmarks/int8_attention.py [--sizes 7 14 28 56 112] [--channels 32] [--runs 100]
        [--results FILE] [--figure docs/int8_attention.svg]

One block, 4 groups, standard normal features, weights such that the scores before the softmax span
the given range over the data. Ranges come from 100 samples; 8 others are measured, in the file
itself, by `converters.attention_snr`. Prints Markdown tables: the attention; the block's
output; the time, LiteRT's CPU interpreter with one thread; and int8 against float32 at two sites of
MobileNets. All models of a time table run in turns in one process, with inputs and outputs of their
own type: a ratio is the median over the turns.

With `--results`, what is measured is appended to FILE as JSON lines and not measured again. The
figure needs matplotlib.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RANGES = (1.5, 5.0, 10.0, 20.0)
# The first has the softmax of TFLite's own conversion, the second is this project's default.
FORMS = {
    "int8 softmax": {"precision": "int8", "attention": "softmax"},
    "int8 log_softmax": {"precision": "int8", "attention": "log_softmax"},
    "int8 float": {"precision": "int8", "attention": "float"},
    "int16x8": {"precision": "int16x8"},
}
# What the models of a time table take and give; the float island has no other type.
TYPES = {"int8 softmax": "int8", "int8 log_softmax": "int8", "int16x8": "int16"}
SITES = [(14, 512), (28, 256)]
GROUPS = 4
CALIBRATION, CHECKED = 100, 8
SLOWEST = 2.0  # seconds that the turns of one model may take


def features(size: int, channels: int) -> np.ndarray:
    """Samples for the ranges, and further ones."""
    rng = np.random.default_rng(size)
    return rng.normal(size=(CALIBRATION + CHECKED, size, size, channels)).astype("float32")


def block(size: int, channels: int, score_range: float, data: np.ndarray):
    """A block with random weights whose scores span 0 to `score_range` over the data."""
    import keras

    from ulsam_keras import ULSAM

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


# ------------------------------------------------------------------------------ what is measured


def attention(size: int, channels: int, score_range: float) -> Iterator[dict]:
    """What every form leaves of the attention, one row per form."""
    from converters import attention_snr, to_tflite
    from converters.runtime import run
    from converters.verify.outputs import decibels

    data = features(size, channels)
    calibration, checked = data[:CALIBRATION], data[CALIBRATION:]
    model = block(size, channels, score_range, data)
    expected = np.asarray(model(checked))
    for form, options in FORMS.items():
        tflite = to_tflite(model, representative_data=calibration, **options)
        [row] = attention_snr(tflite, model, checked)
        result = run(tflite, checked, repeats=0)  # the ends are floats
        if row.problem or result.outputs is None:
            raise SystemExit(f"{form} at {size}x{size} did not run: {row.problem}")
        [y] = result.outputs.values()
        yield {
            "form": form,
            "snr": row.snr,
            "softmax_snr": row.softmax_snr,
            "cosine": row.cosine,
            "zeros": row.zeros,
            "y": decibels(expected, y - expected),
            "without": row.without_attention_snr,
            "rounding": row.rounding_snr,
            "pattern": row.multiplier_correlation,
        }


def interpreter(tflite: bytes, image: np.ndarray):
    """An interpreter that holds the image, rounded where the model takes integers."""
    from ai_edge_litert.interpreter import Interpreter

    result = Interpreter(model_content=tflite, num_threads=1)
    result.allocate_tensors()
    [detail] = result.get_input_details()
    scale, zero = detail["quantization"]
    if scale:
        limits = np.iinfo(detail["dtype"])
        image = np.clip(np.round(image / scale) + zero, limits.min, limits.max)
    result.set_tensor(detail["index"], image.astype(detail["dtype"]))
    return result


def milliseconds(model) -> float:
    start = time.perf_counter()
    model.invoke()
    return 1000 * (time.perf_counter() - start)


def times(size: int, channels: int, forms: list[str], runs: int) -> Iterator[dict]:
    """The time of the float32 block and of the forms, in turns: median, and ratio to float32."""
    from converters import to_tflite

    data = features(size, channels)[:CALIBRATION]
    model = block(size, channels, 5.0, data)
    models = {"float32": interpreter(to_tflite(model), data[:1])}
    for form in forms:
        options = {**FORMS[form], "inference_type": TYPES.get(form, "float32")}
        tflite = to_tflite(model, representative_data=data, **options)
        models[form] = interpreter(tflite, data[:1])
    slowest = 0.0
    for one in models.values():
        one.invoke()
        slowest = max(slowest, milliseconds(one))
        for _ in range(min(20, int(200 / slowest))):
            one.invoke()
    turns = max(10, min(runs, int(1000 * SLOWEST / slowest)))
    taken = [[milliseconds(one) for one in models.values()] for _ in range(turns)]
    for number, form in enumerate(models):
        ratios = [turn[0] / turn[number] for turn in taken]
        low, middle, high = statistics.quantiles(ratios, n=4)
        yield {
            "form": form,
            "ms": statistics.median(turn[number] for turn in taken),
            "ratio": middle,
            "quartiles": [low, high],
        }


class Results:
    """Rows that are measured once, and kept in a file if there is one."""

    def __init__(self, path: Path | None):
        self.path = path
        self.rows = []
        if path is not None and path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def measured(self, key: dict, measure) -> list[dict]:
        """The rows of a key, which `measure()` gives where they are not there yet."""
        rows = [row for row in self.rows if key.items() <= row.items()]
        if not rows:
            started = time.perf_counter()
            rows = [{**key, **row} for row in measure()]
            self.rows += rows
            if self.path is not None:
                with self.path.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            seconds = time.perf_counter() - started
            print(*key.values(), f"{seconds:.0f} s", file=sys.stderr, flush=True)
        return rows


# ------------------------------------------------------------------------------ what is shown


def table(head: list[str], rows: list[list[str]]) -> None:
    print("|", " | ".join(head), "|")
    print("|" + "---|" * len(head))
    for row in rows:
        print("|", " | ".join(row), "|")
    print(flush=True)


def attention_cell(row: dict, least: float) -> str:
    snr = f"{row['snr']:.1f}"
    snr = snr if row["snr"] >= least else f"**{snr}**"
    return f"{snr} ({row['softmax_snr']:.0f}) / {row['cosine']:.3f} / {100 * row['zeros']:.0f} %"


def show(measured: list[list[dict]], least: float) -> None:
    names = [f"`{form}`" for form in FORMS]
    attentions, outputs = [], []
    for rows in measured:
        first = rows[0]
        head = [f"{first['size']}x{first['size']}", f"{first['range']:g}"]
        attentions.append([*head, *(attention_cell(row, least) for row in rows)])
        by_form = {row["form"]: row for row in rows}
        int8, int16 = by_form["int8 log_softmax"], by_form["int16x8"]
        outputs.append(
            [
                *head,
                f"{first['without']:.1f}",
                *(f"{row['y']:.1f} / {row['pattern']:.2f}" for row in rows),
                f"{int8['rounding']:.1f}",
                f"{int16['rounding']:.1f}",
            ]
        )
    print(f"Attention: SNR in dB, **below {least:g}**, (form alone) / cosine / zeros\n")
    table(["map", "range", *names], attentions)
    print("Output: SNR in dB / correlation of what x was multiplied by with the attention\n")
    head = ["map", "range", "without", *names, "8-bit rounding", "16-bit rounding"]
    table(head, outputs)


def show_times(measured: list[list[dict]]) -> None:
    print("Time in ms (float32 / form)\n")
    rows = [
        [
            f"{rows[0]['size']}x{rows[0]['size']}x{rows[0]['channels']}",
            f"{rows[0]['ms']:.3f}",
            *(f"{row['ms']:.3f} ({row['ratio']:.2f})" for row in rows[1:]),
        ]
        for rows in measured
    ]
    table(["block", "`float32`", *(f"`{form}`" for form in FORMS)], rows)


def show_speed(measured: list[list[dict]]) -> None:
    rows = []
    for float32, int8 in measured:
        low, high = int8["quartiles"]
        rows.append(
            [
                f"{int8['size']}x{int8['size']}x{int8['channels']}",
                f"{float32['ms']:.3f}",
                f"{int8['ms']:.3f}",
                f"{int8['ratio']:.2f} ({low:.2f} – {high:.2f})",
            ]
        )
    table(["block", "float32 ms", "int8 ms", "float32 / int8 (quartiles)"], rows)


def draw(path: Path, measured: list[list[dict]], least: float) -> None:
    """SNR of the attention against the size of the map, one panel per range of the scores."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    # The same file for the same numbers.
    plt.rcParams.update({"svg.hashsalt": "ulsam", "svg.fonttype": "none", "font.size": 9})
    colours = {
        "int8 softmax": "#D55E00",
        "int8 log_softmax": "#0072B2",
        "int8 float": "#009E73",
        "int16x8": "#777777",
    }
    markers = dict(zip(FORMS, "sovD", strict=True))
    rows = [row for rows in measured for row in rows]
    sizes = sorted({row["size"] for row in rows})
    figure, axes = plt.subplots(1, len(RANGES), figsize=(9, 2.9), sharey=True, layout="constrained")
    for axis, score_range in zip(axes, RANGES, strict=True):
        axis.axhspan(-2, least, color="#D55E00", alpha=0.10, linewidth=0)
        for form in FORMS:
            points = sorted(
                (row["size"], row["snr"])
                for row in rows
                if (row["form"], row["range"]) == (form, score_range)
            )
            axis.plot(*zip(*points, strict=True), color=colours[form], marker=markers[form],
                      markersize=4, linewidth=1.4, label=form)  # fmt: skip
        axis.set(title=f"scores span {score_range:g}", xlabel="map", xscale="log", ylim=(-2, 70))
        axis.set_xticks(sizes, [f"{size}²" for size in sizes])
        axis.minorticks_off()
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("SNR of the attention (dB)")
    axes[-1].annotate("convert fails", (sizes[0], 2), fontsize=8, color="#A04000")
    names = axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=len(FORMS), frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    print(f"{path} ({path.stat().st_size / 1000:.0f} kB)", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[7, 14, 28, 56, 112])
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--runs", type=int, default=100, help="timed turns (default 100)")
    parser.add_argument("--results", type=Path, help="JSON lines; what is there is not run again")
    parser.add_argument("--figure", type=Path, help="an .svg or .png to draw")
    arguments = parser.parse_args()

    from converters.verify.limits import Limits

    least = Limits().attention_snr  # what `convert` asks for
    results, channels = Results(arguments.results), arguments.channels

    def timed(size: int, channels: int, forms: list[str]) -> list[dict]:
        key = {"what": "time", "forms": forms, "size": size, "channels": channels}
        return results.measured(key, lambda: times(size, channels, forms, arguments.runs))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the GPU has no 16-bit integers
        measured = []
        for size in arguments.sizes:
            for score_range in RANGES:
                key = {"what": "attention", "size": size, "channels": channels,
                       "range": score_range}  # fmt: skip
                measured.append(
                    results.measured(key, lambda s=size, r=score_range: attention(s, channels, r))
                )
        show(measured, least)
        show_times([timed(size, channels, list(FORMS)) for size in arguments.sizes])
        show_speed([timed(*site, ["int8 log_softmax"]) for site in SITES])
    if arguments.figure:
        draw(arguments.figure, measured, least)


if __name__ == "__main__":
    main()
