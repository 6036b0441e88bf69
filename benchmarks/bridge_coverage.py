"""What quantisation-aware training covers, measured: the tables of docs/qat.md.

    python benchmarks/bridge_coverage.py [TABLE ...] [--update docs/qat.md]

Every layer class, option, operation and activation of the bridge goes from Keras 3 to tf_keras,
through `quantize_model` and `calibrate`, into an int8 file that LiteRT runs; the same models as in
the tests: that is the table "layers". The others are "networks", whole ones with random weights,
"trained_networks", and "wrong_inputs"; all of them take ten minutes. `--update` writes the tables
between the markers of a file instead of printing them.
"""

import argparse
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tf_keras  # noqa: E402

from converters import to_tflite  # noqa: E402
from quantization_cases import FAMILIES, models  # noqa: E402
from quantization_tools import (  # noqa: E402
    array,
    convert,
    covered,
    float_operators,
    images,
    network,
    randomise,
    relative_difference,
    run,
    snr,
)
from ulsam_keras import ULSAM, quantization  # noqa: E402
from ulsam_keras.surgery import add_ulsam  # noqa: E402


def layers() -> str:
    rows = [
        "| Keras 3 | tf_keras | int8 operators (float ones in *italics*) | parity | int8, steps |",
        "|---|---|---|---|---|",
    ]
    for name, case in covered(models()).items():
        operators = ", ".join(f"*{o}*" if o in case.floats else o for o in case.operators)
        steps = np.abs(case.file - case.trained).max() / case.step
        rows.append(
            f"| {name} | {', '.join(case.parts)} | {operators or 'none'} "
            f"| {case.parity:.0e} | {steps:.0f} |"
        )
    return "\n".join(rows)


def wrong_inputs() -> str:
    from test_bridge import REFUSED
    from test_quantization import BAD_BATCHES, quantized

    rows = ["| given | error |", "|---|---|"]

    def row(given, call):
        try:
            call()
        except (ValueError, OSError) as error:
            text = re.sub(r"[|<>]", " ", str(error)).replace("*", "\\*")
            rows.append(f"| {given} | `{type(error).__name__}`: {text} |")
        else:
            raise AssertionError(f"{given} was taken")

    for name, (make, _) in REFUSED.items():
        row(f"model: {name}", lambda make=make: quantization.quantize_model(make()))
    q = quantized(network())
    for name, (batches, _) in BAD_BATCHES.items():
        row(f"calibration: {name}", lambda b=batches: quantization.calibrate(q, b))
    fresh = quantization.quantize_model(network())
    row("no calibration", lambda: to_tflite(fresh, precision="int8"))
    row("`to_tflite(q)` of another precision", lambda: to_tflite(q, precision="float16"))
    row("`save` as .keras", lambda: quantization.save(q, "q.keras"))
    row("`load` of .keras", lambda: quantization.load("q.keras"))
    row("`load` of no file", lambda: quantization.load("nothing.h5"))
    row("`restore` into another model", lambda: quantization.restore(q, network(num_splits=2)))
    row('`attention="exp"`', lambda: quantization.quantize_model(network(), attention="exp"))
    row(
        '`quantize={"clasifier": False}`',
        lambda: quantization.quantize_model(network(), quantize={"clasifier": False}),
    )
    return "\n".join(rows)


def networks() -> str:
    rows = [
        "| network | parity | float to training | float to file | training to file "
        "| largest difference, steps | top-1 alike |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, options in FAMILIES.items():
        model = randomise(
            getattr(keras.applications, name)(
                weights=None,
                input_shape=(32, 32, 3),
                classes=10,
                classifier_activation=None,
                **options,
            )
        )
        scale = 50.0 if "V3" in name or "Eff" in name else 1.0
        x = images(64, 32, 32, 3, scale=scale)
        parity = relative_difference(quantization.to_tf_keras(model)(x), model(x))
        q = quantization.quantize_model(model)
        quantization.calibrate(q, [x])
        rows.append(row_of(f"{name}, random weights", model, q, x, f"{parity:.0e}"))
    for size in 14, 28, 56:
        image = keras.Input((size, size, 64), name="image")
        block = randomise(keras.Model(image, ULSAM(4, name="ulsam")(image)))
        q = quantization.quantize_model(block)
        x = images(32, size, size, 64)
        quantization.calibrate(q, [x])
        rows.append(row_of(f"ULSAM block, {size}x{size}x64", block, q, x))
    return "\n".join(rows)


def trained_networks() -> str:
    rows = [
        "| network | float to training | float to file | training to file "
        "| largest difference, steps | top-1 alike | right: float, training, file |",
        "|---|---|---|---|---|---|---|",
    ]
    rows.append(trained("small network of the tests", network(classes=10), 16))
    base = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)
    sites = ("block_6_project_BN", "block_13_project_BN")
    model = add_ulsam(base, after=sites, num_splits=4)
    rows.append(trained("MobileNetV2 0.35, 96x96, two ULSAM", model, 96))
    return "\n".join(rows)


def trained(name: str, model: keras.Model, size: int) -> str:
    """Ten classes, each a picture under noise; trained in float, then with quantisation."""
    pictures = np.repeat(np.repeat(images(10, 8, 8, 3, seed=2), size // 8, 1), size // 8, 2)
    labels = np.arange(1280) % 10
    x = pictures[labels] + images(1280, size, size, 3, seed=3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # So that its statistics have settled after a hundred steps.
            layer.momentum = 0.9
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(x[:1024], labels[:1024], batch_size=32, epochs=8, verbose=0)
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [x[:256]])
    q.compile(tf_keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    q.fit(x[:1024], labels[:1024], batch_size=32, epochs=1, verbose=0)
    quantization.restore(q, model)
    return row_of(name, model, q, x[1024:], labels=labels[1024:])


def row_of(name, model, q, x, parity="", labels=None) -> str:
    tflite = convert(q)
    floats = float_operators(tflite)
    file, training, floating = run(tflite, x), array(q(x)), model.predict(x, verbose=0)
    scale = np.ptp(training) / 255 if training.ndim > 2 or parity else 1 / 256
    alike = f"{np.mean(file.argmax(-1) == training.argmax(-1)):.1%}" if file.ndim == 2 else ""
    if labels is not None:
        right = [np.mean(y.argmax(-1) == labels) for y in (floating, training, file)]
        alike += " | {:.1%}, {:.1%}, {:.1%}".format(*right)
    decibels = [snr(floating, training), snr(floating, file), snr(training, file)]
    largest = np.abs(file - training).max() / scale
    cells = [name, *([parity] if labels is None else []), *(f"{d:.1f} dB" for d in decibels)]
    row = "| " + " | ".join([*cells, f"{largest:.1f}", alike]) + " |"
    print(row, floats or "no float operator", file=sys.stderr, flush=True)
    return row


TABLES = {
    "layers": layers,
    "networks": networks,
    "trained_networks": trained_networks,
    "wrong_inputs": wrong_inputs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=[*TABLES], metavar="TABLE")
    parser.add_argument("--update", type=Path)
    options = parser.parse_args()
    for name in options.tables:
        table = TABLES[name]()
        if not options.update:
            print(f"\n{table}")
            continue
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = options.update.read_text().split(start)
        options.update.write_text(f"{before}{start}{table}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
