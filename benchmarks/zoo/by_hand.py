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

STRIDE = "strided convolutions are padded on both sides, Keras's after the map"
HEAD = "Keras's head is a convolution"
# The exported network, its name in keras.applications, and why the operators differ.
PAIRS = {
    "mobilenet_v2": ("MobileNetV2", STRIDE),
    "mobilenet_v3_small": ("MobileNetV3Small", f"{STRIDE}; {HEAD}"),
    "mobilenet_v3_large": ("MobileNetV3Large", f"{STRIDE}; {HEAD}"),
    "mobilenetv1_100": ("MobileNet", f"{STRIDE}; {HEAD}"),
    "resnet50": ("ResNet50", "3x3 convolutions are strided, and padded; Keras's 1x1"),
    "densenet121": ("DenseNet121", ""),
    "efficientnet_b0": ("EfficientNetB0", STRIDE),
    "efficientnet_v2_s": ("EfficientNetV2S", STRIDE),
    "inception_v3": (
        "InceptionV3",
        "average pools count the padding, Keras's do not; such pools are depthwise convolutions, "
        "as the GPU delegate computes others wrongly",
    ),
    "convnext_tiny": (
        "ConvNeXtTiny",
        "Keras's depthwise convolutions are grouped ones, which the GPU delegate computes wrongly",
    ),
}

HEAD_OF_SECTION = """## Beside networks written by hand

Operators of the float32 file: of the network from its program, and of the one in
`keras.applications` of Keras {version}, both by `to_tflite`. XNNPACK makes a `PAD` part of the
convolution after it. A network written in Keras with PyTorch's padding has it too:
`ulsam_keras.networks.MobileNetV2` has as many operators as the program's.

| program | by hand | operators | by hand | more | which | because |
|---|---|---|---|---|---|---|
"""


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


def section(by_hand: dict[str, dict], networks: dict[str, dict]) -> str:
    """The table, as Markdown, of the rows of this file and of `convert.py`, by network."""
    rows = []
    for name, (builder, reason) in PAIRS.items():
        ours = Counter(networks[name]["kinds"])
        theirs = Counter(by_hand[name]["kinds"])
        apart = [
            f"{ours[kind] - theirs[kind]:+d} {kind}"
            for kind in sorted(ours | theirs)
            if ours[kind] != theirs[kind]
        ]
        counts = f"{ours.total()} | {theirs.total()} | {ours.total() - theirs.total():+d}"
        rows.append(f"| {name} | {builder} | {counts} | {', '.join(apart)} | {reason} |")
    return HEAD_OF_SECTION.format(version=by_hand["mobilenet_v2"]["version"]) + "\n".join(
        (*rows, "")
    )


def main() -> None:
    """Writes the rows of all."""
    folder = Path(sys.argv[1])
    for name in PAIRS:
        write(folder, name)
        print(name, flush=True)


if __name__ == "__main__":
    main()
