"""Operators of Keras's own networks beside those of the same networks from their programs.

    python benchmarks/zoo/by_hand.py FOLDER

Runs in this project's environment and writes `NAME.by_hand.json` in the folder that `convert.py`
filled: what the float32 file of `keras.applications` is made of, weights random. `table.py` sets
the two side by side.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

# The exported network, its name in keras.applications, and why the counts differ.
PAIRS = {
    "mobilenet_v2": ("MobileNetV2", ""),
    "mobilenet_v3_small": ("MobileNetV3Small", ""),
    "mobilenet_v3_large": ("MobileNetV3Large", ""),
    "mobilenetv1_100": ("MobileNet", ""),
    "resnet50": ("ResNet50", ""),
    "densenet121": ("DenseNet121", ""),
    "efficientnet_b0": ("EfficientNetB0", ""),
    "efficientnet_v2_s": ("EfficientNetV2S", ""),
    "inception_v3": ("InceptionV3", ""),
    "convnext_tiny": ("ConvNeXtTiny", ""),
}


def write(folder: Path, name: str) -> None:
    """Writes the row of one network."""
    import inspect

    import keras
    import numpy as np

    from converters import to_tflite
    from converters.tflite.flatbuffer import read_graphs

    build = getattr(keras.applications, PAIRS[name][0])
    _, height, width = json.loads((folder / f"{name}.export.json").read_text())["shape"]
    options = {"weights": None, "classifier_activation": None, "input_shape": (height, width, 3)}
    if "include_preprocessing" in inspect.signature(build).parameters:
        options["include_preprocessing"] = False
    model = build(**options)
    draw = np.random.default_rng(0)
    for weight in model.weights:
        # What a new network has, sums with 0 say, can be left out of a file.
        if weight.path.endswith("variance"):
            weight.assign(draw.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) < 2:
            weight.assign(draw.uniform(-0.5, 0.5, weight.shape))
    file = to_tflite(model, input_shape=(1, height, width, 3))
    kinds = Counter(operator.name for operator in read_graphs(file)[0].operators)
    row = {"name": name, "keras": PAIRS[name][0], "version": keras.__version__, "kinds": kinds}
    (folder / f"{name}.by_hand.json").write_text(json.dumps(row, indent=1))


def section(folder: Path) -> str:
    """The table, as Markdown."""
    rows = []
    for name, (builder, reason) in PAIRS.items():
        ours = Counter(json.loads((folder / f"{name}.convert.json").read_text())["kinds"])
        by_hand = json.loads((folder / f"{name}.by_hand.json").read_text())
        theirs = Counter(by_hand["kinds"])
        apart = [
            f"{ours[kind] - theirs[kind]:+d} {kind}"
            for kind in sorted(ours | theirs)
            if ours[kind] != theirs[kind]
        ]
        counts = f"{ours.total()} | {theirs.total()} | {ours.total() - theirs.total():+d}"
        rows.append(f"| {name} | {builder} | {counts} | {', '.join(apart)} | {reason} |")
    return "\n".join(
        (
            "## Beside networks written by hand",
            "",
            "Operators of the float32 file, of the network from its program and of the one in"
            f" `keras.applications` ({by_hand['version']}), both by `to_tflite`.",
            "",
            "| program | by hand | operators | by hand | | of which | because |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        )
    )


def main() -> None:
    """Writes the rows of all."""
    folder = Path(sys.argv[1])
    for name in PAIRS:
        write(folder, name)
        print(name, flush=True)


if __name__ == "__main__":
    main()
