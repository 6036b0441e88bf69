"""Integer models on the CPU's kernels and on GPU adapters, with every form of the attention.

    python benchmarks/int8_adapters.py [--results FILE] [--weights FILE.weights.h5]

Prints two Markdown tables. The first has one row per model and form, and in it what each
accelerator made of the file: the SNR of the attention against the float model, of the worst site,
in dB; the largest difference of the output from XNNPACK's, of the largest value; or the outcome, if
it did not run. On the GPU everything must run there: what did not is said.

The second says what is left of the networks, on XNNPACK, over held-out digits: their answers, their
output, the attention of each site and what of it arrives. There the forms stand beside TFLite's own
conversion, whose softmax is that of "int8 softmax", but whose ranges are not: see
converters/tflite/ranges.py.

The blocks have flat scores (a range of 1.5, see int8_attention.py). The digits network is that of
examples/digits; MobileNetV2 (alpha 0.35, 96x96, ULSAM in place of four blocks) is trained here on
scikit-learn's digits for a few minutes, or read from `--weights`, which is written where it is
missing. GPU columns are those of the software drivers in .vulkan that are there
(scripts/vulkan_drivers.sh). With `--results`, what is measured is appended to FILE and not measured
again.
"""

import argparse
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapters
import int8_attention
import numpy as np

SIZES = (7, 14, 28, 56, 112)
CHANNELS, FLAT = 32, 1.5
ACCELERATORS = {
    "XNNPACK": {"accelerator": "cpu"},
    "built-in": {"accelerator": "cpu_builtin"},
    "reference": {"accelerator": "cpu_reference"},
}
CALIBRATION = 100
TFLITE = "TFLite's own"
TIMEOUT = 300.0


def accelerators() -> dict[str, dict]:
    """Keyword arguments of `runtime.run` by the name of the column."""
    found = dict(ACCELERATORS)
    for name in ("SwiftShader", "lavapipe"):
        gpu_precision, env = adapters.ADAPTERS[name]
        if (adapters.VULKAN / name.lower()).is_dir():
            options = {"accelerator": "gpu", "gpu_precision": gpu_precision, "env": env}
            found[f"{name} {gpu_precision}"] = options
    return found


def digits_images(size: int, count: int | None = None):
    """(images, labels, held-out images) of scikit-learn's digits, 0 to 1, three channels."""
    import tensorflow as tf
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = tf.image.resize(digits.images[..., None] / 16, (size, size))
    images = np.repeat(np.asarray(images, "float32"), 3, axis=3)
    train, held_out = train_test_split(
        np.arange(len(images)), test_size=0.2, stratify=digits.target, random_state=0
    )
    return images[train], digits.target[train], images[held_out], digits.target[held_out]


def mobilenet(weights: Path | None):
    """MobileNetV2 with ULSAM, trained."""
    import keras

    from ulsam_keras.networks import MobileNetV2

    keras.utils.set_random_seed(0)
    model = MobileNetV2(
        (96, 96, 3),
        alpha=0.35,
        classes=10,
        ulsam_instead_of=(12, 13, 15, 16),
        classifier_activation=None,
    )
    if weights is not None and weights.exists():
        model.load_weights(weights)
        return model
    images, labels, held_out, answers = digits_images(96)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # few steps
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 2e-3 * 0.75**epoch)
    model.fit(images, labels, 32, epochs=12, callbacks=[schedule], verbose=0)
    accuracy = model.evaluate(held_out, answers, verbose=0)[1]
    print(f"MobileNetV2 trained: {accuracy:.3f} of the held-out digits", file=sys.stderr)
    if weights is not None:
        model.save_weights(weights)
    return model


@dataclass(frozen=True)
class Subject:
    """A Keras model and its samples.

    Attributes:
        model: The model.
        calibration: Samples for the ranges.
        checked: Further ones.
        labels: Classes of these, for a network.
        on_adapters: How many of these the accelerators are given.
    """

    model: Any
    calibration: np.ndarray
    checked: np.ndarray
    labels: np.ndarray | None = None
    on_adapters: int = 2


def subjects(weights: Path | None) -> Iterator[tuple[str, bool, Callable[[], Subject]]]:
    """(name, whether it is a network, function that gives the subject)."""
    for size in SIZES:

        def block(size=size):
            data = int8_attention.features(size, CHANNELS)
            model = int8_attention.block(size, CHANNELS, FLAT, data)
            return Subject(model, data[:CALIBRATION], data[CALIBRATION:])

        yield f"block {size}x{size}x{CHANNELS}", False, block

    def digits():
        from converters import load_checkpoint, port_weights

        folder = adapters.ROOT / "examples" / "digits"
        sys.path.insert(0, str(folder))
        import model

        network = model.build()
        port_weights(load_checkpoint(folder / "digits_ulsam.pth"), network)
        recorded = np.load(folder / "reference.npz")
        images = recorded["inputs"].transpose(0, 2, 3, 1)
        labels = recorded["labels"][CALIBRATION:]
        return Subject(network, images[:CALIBRATION], images[CALIBRATION:], labels, 8)

    yield "digits network", True, digits

    def network():
        images, _, held_out, labels = digits_images(96)
        return Subject(mobilenet(weights), images[:CALIBRATION], held_out, labels, 4)

    yield "MobileNetV2 0.35 96x96", True, network


def measured(subject: Subject, form: str, columns: dict[str, dict]) -> Iterator[dict]:
    """What every accelerator makes of the file with this form."""
    from converters import attention_snr, to_tflite
    from converters.runtime import run
    from converters.verify.outputs import relative_difference

    model, checked = subject.model, subject.checked[: subject.on_adapters]
    options = int8_attention.FORMS[form]
    tflite = to_tflite(model, representative_data=subject.calibration, **options)
    first = None
    for column, where in columns.items():
        result = run(tflite, checked, repeats=0, timeout=TIMEOUT, **where)  # the ends are floats
        row = {"column": column, "outcome": result.outcome, "message": result.message}
        if result.ok:
            first = first or result.outputs
            rows = attention_snr(tflite, model, checked, **where)
            worst = min(rows, key=lambda r: -1 if r.snr is None else r.snr)
            row |= {
                "whole": result.fully_accelerated or where["accelerator"] != "gpu",
                "difference": max(
                    relative_difference(result.outputs[name], first[name]) for name in first
                ),
                "snr": worst.snr,
                "cosine": worst.cosine,
                "problem": worst.problem,
            }
        else:
            row["signal"] = result.signal
        yield row


def left_of_network(subject: Subject, form: str) -> Iterator[dict]:
    """What an integer file keeps of a network on XNNPACK."""
    from converters import attention_snr, to_tflite
    from converters.runtime import run
    from converters.verify.outputs import decibels

    if form == TFLITE:
        sys.path.insert(0, str(adapters.ROOT / "examples" / "quantization"))
        import int8_models

        tflite = int8_models.tflite_default(subject.model, subject.calibration)
    else:
        options = int8_attention.FORMS[form]
        tflite = to_tflite(subject.model, representative_data=subject.calibration, **options)
    expected = subject.model.predict(subject.checked, verbose=0)
    result = run(tflite, subject.checked, repeats=0, timeout=TIMEOUT)
    if result.outputs is None:
        raise SystemExit(f"{form} did not run: {result.message}")
    [outputs] = result.outputs.values()
    sites = attention_snr(tflite, subject.model, subject.checked)
    answers = outputs.argmax(1)
    yield {
        "images": len(answers),
        "float": float((expected.argmax(1) == subject.labels).mean()),
        "accuracy": float((answers == subject.labels).mean()),
        "agreement": float((answers == expected.argmax(1)).mean()),
        "output": decibels(expected, outputs - expected),
        "largest": float(np.abs(outputs - expected).max() / np.abs(expected).max()),
        "snr": [site.snr for site in sites],
        "softmax_snr": [site.softmax_snr for site in sites],
        "correlation": [site.multiplier_correlation for site in sites],
        "without": [site.without_attention_snr for site in sites],
    }


def cell(row: dict) -> str:
    if row["outcome"] == "ok":
        if row["problem"]:
            return f"runs; with its inner tensors given: {row['problem']}"
        difference = f"{row['difference']:.0e}" if row["difference"] else "0"
        text = f"{row['snr']:.1f} dB, {difference}"
        return text if row["whole"] else f"{text}, NOT wholly on the GPU"
    if row["outcome"] == "crashed":
        return f"crashed: {row['signal'] or 'no signal'}"
    if "INT16" in row["message"]:
        return f"{row['outcome']}: INT16"
    return f"{row['outcome']}: {row['message'].split(': ')[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="JSON lines; what is there is not run again")
    parser.add_argument("--weights", type=Path, help="of MobileNetV2; written if missing")
    arguments = parser.parse_args()
    results, columns = int8_attention.Results(arguments.results), accelerators()
    rows, networks = [], []
    for name, is_network, build in subjects(arguments.weights):
        subject = functools.cache(build)

        def once(what: str, form: str, measure: Callable, name=name, subject=subject):
            def measure_quietly():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what the GPU will refuse
                    return list(measure(subject(), form))

            key = {"what": what, "model": name, "form": form}
            return results.measured(key, measure_quietly)

        for form in int8_attention.FORMS:
            found = once("adapters", form, lambda *of: measured(*of, columns))
            by_column = {row["column"]: row for row in found}
            cells = [cell(by_column[c]) if c in by_column else "not run" for c in columns]
            rows.append([name, f"`{form}`", *cells])
        for form in (TFLITE, *int8_attention.FORMS) if is_network else ():
            [row] = once("network", form, left_of_network)
            networks.append([name, form if form == TFLITE else f"`{form}`", *left(row)])
    int8_attention.table(["model", "form", *columns], rows)
    head = ["network", "form", "right (float)", "as float", "output", "attention", "correlation"]
    int8_attention.table(head, networks)


def left(row: dict) -> list[str]:
    return [
        f"{100 * row['accuracy']:.1f} % ({100 * row['float']:.1f} %)",
        f"{100 * row['agreement']:.1f} %",
        f"{row['output']:.1f}",
        ", ".join(f"{snr:.1f}" for snr in row["snr"]),
        ", ".join("hidden" if c is None else f"{c:.2f}" for c in row["correlation"]),
    ]


if __name__ == "__main__":
    main()
