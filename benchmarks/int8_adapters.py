"""Integer models on the CPU's kernels and on GPU adapters, with every form of the attention.

    python benchmarks/int8_adapters.py [--results FILE] [--weights FILE.weights.h5]

Prints one Markdown row per model and form, and in it what each accelerator made of the file: the
SNR of the attention against the float model, of the worst site, in dB; the largest difference of
the output from XNNPACK's, of the largest value; or the outcome, if it did not run. On the GPU
everything must run there: what did not is said.

The blocks have flat scores (a range of 1.5, see int8_attention.py). The digits network is that of
examples/digits; MobileNetV2 (alpha 0.35, 96x96, ULSAM in place of four blocks) is trained here on
scikit-learn's digits for a few minutes, or read from `--weights`, which is written where it is
missing. GPU columns are those of the software drivers in .vulkan that are there
(scripts/vulkan_drivers.sh). With `--results`, what is measured is appended to FILE and not measured
again.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

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
TIMEOUT = 300.0


def accelerators() -> dict[str, dict]:
    """Keyword arguments of `runtime.run` by the name of the column."""
    found = dict(ACCELERATORS)
    for name in ("SwiftShader", "lavapipe"):
        arithmetic, env = adapters.ADAPTERS[name]
        if (adapters.VULKAN / name.lower()).is_dir():
            options = {"accelerator": "gpu", "arithmetic": arithmetic, "env": env}
            found[f"{name} {arithmetic}"] = options
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


def models(weights: Path | None) -> Iterator[tuple]:
    """(name, function that gives the Keras model and its samples, those of the ranges first)."""
    for size in SIZES:

        def block(size=size):
            data = int8_attention.features(size, CHANNELS)
            return int8_attention.block(size, CHANNELS, FLAT, data), data[: CALIBRATION + 2]

        yield f"block {size}x{size}x{CHANNELS}", block

    def digits():
        from converters import load_checkpoint, port_weights

        folder = adapters.ROOT / "examples" / "digits"
        sys.path.insert(0, str(folder))
        import model

        network = model.build()
        port_weights(load_checkpoint(folder / "digits_ulsam.pth"), network)
        images = np.load(folder / "reference.npz")["inputs"]
        return network, images[: CALIBRATION + 8].transpose(0, 2, 3, 1)

    yield "digits network", digits

    def network():
        return mobilenet(weights), np.concatenate(
            [digits_images(96)[0][:CALIBRATION], digits_images(96)[2][:4]]
        )

    yield "MobileNetV2 0.35 96x96", network


def measured(model, data: np.ndarray, form: str, columns: dict[str, dict]) -> Iterator[dict]:
    """What every accelerator makes of the file with this form."""
    from converters import attention_fidelity, to_tflite
    from converters.fidelity import run_float
    from converters.runtime import compare
    from converters.tflite.flatbuffer import read_graphs

    calibration, checked = data[:CALIBRATION], data[CALIBRATION:]
    options = int8_attention.FORMS[form]
    tflite = to_tflite(model, representative_data=calibration, **options)
    [name] = read_graphs(tflite)[0].named_inputs
    first = None
    for column, where in columns.items():
        result = run_float(tflite, {name: checked}, repeats=0, timeout=TIMEOUT, **where)
        row = {"column": column, "outcome": result.outcome, "message": result.message}
        if result.ok:
            first = first or result
            rows = attention_fidelity(tflite, model, checked, **where)
            worst = min(rows, key=lambda r: -1 if r.snr is None else r.snr)
            row |= {
                "whole": result.fully_accelerated or where["accelerator"] != "gpu",
                "difference": max(d.largest for d in compare(result, first).values()),
                "snr": worst.snr,
                "cosine": worst.cosine,
                "problem": worst.problem,
            }
        else:
            row["signal"] = result.signal
        yield row


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
    rows = []
    for name, build in models(arguments.weights):
        built = []
        for form in int8_attention.FORMS:

            def measure(build=build, built=built, form=form):
                built[:] = built or build()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what the GPU will refuse
                    return list(measured(*built, form, columns))

            key = {"what": "adapters", "model": name, "form": form}
            by_column = {row["column"]: row for row in results.measured(key, measure)}
            cells = [cell(by_column[c]) if c in by_column else "not run" for c in columns]
            rows.append([name, f"`{form}`", *cells])
    int8_attention.table(["model", "form", *columns], rows)


if __name__ == "__main__":
    main()
