"""How much of the attention's effect a half-precision output has left: docs/half_precision.md.

    python benchmarks/half_precision.py [--update docs/half_precision.md]

The effect of the attention is `y - x = x * a`, here in float64 from the layer's own attention. What
is left of it is how far the change found in the rounded output goes its way,
`<y - x, x * a> / <x * a, x * a>`: 1 is all of it, 0 nothing.
"""

import argparse
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from ulsam_keras import ULSAM  # noqa: E402

SIZES = (7, 14, 28, 56, 112)
CHANNELS = 32
GROUPS = 4
HALF = ("bfloat16", "float16")
# The scale of the scores' norm, which is 1 in a new layer: how far attention is from uniform.
GAMMAS = {"flat": 0.1, "new layer": 1.0, "peaked": 3.0}


def left(y: np.ndarray, x: np.ndarray, a: np.ndarray) -> float:
    effect = x * a
    return float(((y - x) * effect).sum() / (effect**2).sum())


def row(size: int, name: str, gamma: float) -> str:
    keras.utils.set_random_seed(0)
    single = ULSAM(GROUPS)
    shape = (4, size, size, CHANNELS)
    single.build(shape)
    single.pointwise_norm.gamma.assign(np.full(GROUPS, gamma))
    given = np.random.default_rng(size).normal(size=shape)
    peaks, cells = "", []
    for half in HALF:
        layer = ULSAM(GROUPS, dtype=f"mixed_{half}")
        layer.build(shape)
        layer.set_weights(single.get_weights())
        x = keras.ops.cast(given, half)
        x64 = _float64(x)
        # The attention of float32 on the same values; training, so that the scores have a spread.
        _, a = single(keras.ops.cast(x, "float32"), training=True, return_attention_scores=True)
        a64 = np.repeat(_float64(a), CHANNELS // GROUPS, -1)
        cells.append(f"{left(_float64(layer(x, training=True)), x64, a64):.2f}")
        if half == "float16":
            # As the GPU delegate computes it in float16: 1 + a is a tensor of its own.
            multiplier = (np.float16(1) + a64.astype("float16")).astype("float16")
            first = x64.astype("float16") * multiplier
            cells.append(f"{left(first.astype('float64'), x64, a64):.2f}")
            peaks = f"{a64.max() * size * size:.0f}"
    return f"| {size} x {size} | {name} | {peaks} | {' | '.join(cells)} |"


def _float64(x) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")), "float64")


def table() -> str:
    head = [
        "| map | attention | its largest value, times uniform | bfloat16 | float16 "
        "| float16, `1 + a` rounded too |",
        "|---|---|---|---|---|---|",
    ]
    rows = [row(size, *gamma) for gamma in GAMMAS.items() for size in SIZES]
    return "\n".join(head + rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", type=Path)
    options = parser.parse_args()
    if options.update is None:
        print(table())
        return
    ends = "<!-- effect -->", "<!-- end of effect -->"
    text = options.update.read_text()
    new = re.sub(f"{ends[0]}.*{ends[1]}", f"{ends[0]}\n{table()}\n{ends[1]}", text, flags=re.S)
    options.update.write_text(new)


if __name__ == "__main__":
    main()
