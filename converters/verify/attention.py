"""The attention of each site, measured in the very file, beside that of a float model.

The residual of the block hides its attention: an output that is right to 1e-4 says little of maps
whose values are near 1 / (H * W).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.data.samples import as_samples
from converters.runtime.result import Accelerator, GpuPrecision
from converters.tflite.flatbuffer import Tflite, TfliteFile
from converters.verify.limits import Limits
from converters.verify.maps import SiteMaps, maps_of
from converters.verify.outputs import centred, decibels, relative_difference
from converters.verify.samples import Side
from converters.verify.sides import Arrays, Block, LeftOutError, NotRunError, file_side, keras_side
from converters.verify.targets import Runner, Target

if TYPE_CHECKING:
    import keras

# Energies are summed over samples: what is rare in one image counts by its share.
SAMPLES = 16
# Maps that vary by less of the largest attention are flat: a constant is as good.
_FLAT = 1e-2
# What may be fused into the block's output, where the attention can still be seen behind it.
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NONE": lambda v: v,
    "RELU": lambda v: np.maximum(v, 0),
    "RELU6": lambda v: np.clip(v, 0, 6),
}


@dataclass(frozen=True)
class AttentionSNR:
    """The attention of one site beside that of the float model.

    Signal-to-noise ratios (SNR) are ten times the logarithm of a ratio of energies, in dB, summed
    over all samples, groups and positions; infinite where nothing differs.

    Attributes:
        site: Name of the ULSAM layer.
        subject: What was run: the precision of a file, or its name.
        runtime: What ran it.
        map_size: Height and width of its maps.
        difference: Largest absolute difference of any value, relative to the largest attention;
            `None` if it did not run. A dead map, all zeros, has 1.
        snr: Energy of the float model's attention over that of the difference, in dB. 0 for an
            attention of zeros.
        pattern_snr: The same with the mean of each map taken off both: what tells positions apart.
            A map that is the same everywhere has 0. `None` where the float model's maps are flat
            to 1 %, or the block's output rounds the pattern away.
        cosine: Cosine between the two.
        zeros: Share of the values that are exactly 0 in the file and not in the float model.
        dead_maps: Share of the maps (one per sample and group) whose sum, 1 in float, is below 0.5.
        softmax_snr: The same as `snr` against the softmax of the file's own scores: what the form
            of the softmax alone loses, without the rounding of the layers before it, in dB. This
            and all below: of files of integers, and of any file in `attention_snr`.
        float_operators: The operators of the softmax that compute in float.
        without_attention_snr: Energy of the block's output over that of the attention's part in
            it, in dB: how near an output without any attention would come.
        rounding_snr: Energy of the block's output over that of its own rounding to integers, a
            step's square over 12, in dB; infinite for a float output.
        multiplier_correlation: Correlation, within each map, of the factor that the file's output
            has over its input at a position with the attention there: what of the attention's
            pattern the next layer gets to see. `None` if the output is behind an activation that
            hides it.
        limit: Largest `difference` that passes; `None` where none is asked for.
        snr_limit: Least `snr` that passes, likewise.
        pattern_limit: Least `pattern_snr` that passes.
        problem: Why it did not run; empty if it did.
    """

    site: str
    subject: str = ""
    runtime: str = ""
    map_size: tuple[int, int] | None = None
    difference: float | None = None
    snr: float | None = None
    pattern_snr: float | None = None
    cosine: float | None = None
    zeros: float | None = None
    dead_maps: float | None = None
    softmax_snr: float | None = None
    float_operators: tuple[str, ...] = ()
    without_attention_snr: float | None = None
    rounding_snr: float | None = None
    multiplier_correlation: float | None = None
    limit: float | None = None
    snr_limit: float | None = None
    pattern_limit: float = 0.0
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the attention is as near as it should be."""
        if self.problem or self.difference is None or self.snr is None:
            return False
        # Written so that a NaN does not pass.
        return (
            (self.limit is None or self.difference <= self.limit)
            and (self.snr_limit is None or self.snr >= self.snr_limit)
            and (self.pattern_snr is None or self.pattern_snr >= self.pattern_limit)
        )

    @property
    def lost_in(self) -> str:
        """Where an attention that does not pass was lost: in the `"softmax"` or the `"features"`.

        With `"features"` the form keeps what its scores say, but these are off, by the rounding of
        the layers before: no other form will help, training with quantisation may. Empty if the
        attention passes, or nothing was measured of it.
        """
        if self.passed or self.snr_limit is None or self.softmax_snr is None:
            return ""
        return "softmax" if self.softmax_snr < self.snr_limit else "features"

    @property
    def visible(self) -> bool | None:
        """Whether the attention's part in the output is above the output's own rounding."""
        if self.without_attention_snr is None or self.rounding_snr is None:
            return None
        return self.without_attention_snr < self.rounding_snr


def attention_snr(
    tflite: Tflite,
    model: "keras.Model",
    data: Any,
    *,
    accelerator: Accelerator = "cpu",
    gpu_precision: GpuPrecision = "float32",
    env: Mapping[str, str | None] | None = None,
) -> list[AttentionSNR]:
    """Measures the attention of every ULSAM inside a `.tflite` file against the float model.

    The inner tensors of the very file become further outputs, its operators and constants stay: a
    second file made for measuring would be calibrated and fused differently.

    Args:
        tflite: The file, of any precision, as bytes, path or `TfliteFile`.
        model: The float Keras model that it was made of.
        data: Samples, as `representative_data` of `converters.to_tflite` takes them.
        accelerator: As in `converters.runtime.run`. Defaults to `"cpu"`.
        gpu_precision: Likewise. Defaults to `"float32"`.
        env: Environment variables for the run, as in `converters.runtime.run`.

    Returns:
        One row per site whose map has more than one position, in the order of the model.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If the file and the model do not belong together, or the model's graph is not
            known (a subclassed model).
    """
    runner = Runner(env=env)
    ours = replace(file_side(TfliteFile.of(tflite), "the file", runner), around=True)
    theirs = keras_side(model, "the model").fitted(ours)
    shapes = {name: tensor.shape for name, tensor in ours.file.graph.given.items()}
    arrays = tuple(as_samples(data, shapes, list(ours.dtypes.values())).values())
    target = Target("", accelerator, gpu_precision)
    count = max(1, runner.samples(ours.file, target, len(arrays[0])))
    try:
        some = [array[:count] for array in arrays]
        rows, _ = compare_attention(ours, theirs, some, target, Limits())
    except LeftOutError as reason:
        raise ValueError(
            "The ULSAM blocks of the file must be those of the model; give the model that the file "
            f"was made of. Received: {reason}"
        ) from None
    return [replace(row, snr_limit=Limits().attention_snr, limit=None) for row in rows]


def compare_attention(
    ours: Side,
    theirs: Side,
    arrays: Arrays,
    target: Target,
    limits: Limits,
    required: bool = False,
) -> tuple[list[AttentionSNR], list[SiteMaps]]:
    """The attention of each site of a side, beside that of one as exact or more, on one target.

    Returns:
        What was measured, a row for each site, and the attention of both sides over a few samples.

    Raises:
        LeftOutError: If a side does not show it, or the sites are others; where these are required
            to be the same, what is missing was lost, and fails.
    """
    row = AttentionSNR(
        "every site",
        subject=ours.precision,
        runtime=target.name,
        limit=limits.attention(ours.precision, target.gpu_precision),
        snr_limit=limits.least_attention_snr(ours.precision),
        pattern_limit=limits.attention_snr,
    )
    try:
        given, wanted = (side.blocks(arrays, target) for side in (ours, theirs))
    except NotRunError as error:
        return [replace(row, problem=str(error))], []
    one, other = ([block.attention.shape[1:] for block in side] for side in (given, wanted))
    if sorted(one) != sorted(other):
        why = (
            f"the maps, (H, W, g), are {', '.join(map(str, one)) or 'none'} in {ours.name} and "
            f"{', '.join(map(str, other)) or 'none'} in {theirs.name}"
        )
        if required:
            return [replace(row, problem=why)], []
        raise LeftOutError(why)
    if not one:
        raise LeftOutError("neither has a ULSAM whose map has more than one position")
    rows, maps = [], []
    for number, (found, right) in enumerate(_pairs(given, wanted), start=1):
        site = found.name or right.name or f"site {number}"
        height, width = found.attention.shape[1:3]
        measured = _measured(found, right.attention.astype("float64"))
        rows.append(replace(row, site=site, map_size=(height, width), **measured))
        maps += [maps_of(theirs, target, site, right), maps_of(ours, target, site, found)]
    return rows, maps


def _pairs(given: list[Block], wanted: list[Block]) -> list[tuple[Block, Block]]:
    """The blocks of one side with those of the other, in the order of the other.

    A converter may run branches in an order of its own: of maps of one shape the nearest are one
    site.
    """
    distances = sorted(
        (float(np.square(a.attention.astype("f8") - b.attention).sum()), i, j)
        for i, a in enumerate(given)
        for j, b in enumerate(wanted)
        if a.attention.shape == b.attention.shape
    )
    partner: dict[int, int] = {}
    for _, i, j in distances:
        if j not in partner and i not in partner.values():
            partner[j] = i
    return [(given[partner[j]], b) for j, b in enumerate(wanted)]


def _measured(block: Block, wanted: np.ndarray) -> dict[str, Any]:
    attention, pattern = block.attention.astype("float64"), centred(wanted, 1, 2)
    measured: dict[str, Any] = {
        # NaN on both sides is equal, and no attention.
        "difference": relative_difference(attention, np.where(np.isnan(wanted), np.inf, wanted)),
        "snr": decibels(wanted, attention - wanted),
        "cosine": cosine(wanted, attention),
        "zeros": float(((attention == 0) & (wanted != 0)).mean()),
        "dead_maps": float((attention.sum((1, 2)) < 0.5).mean()),
    }
    if np.abs(pattern).max() > _FLAT * wanted.max():
        measured["pattern_snr"] = decibels(pattern, centred(attention, 1, 2) - pattern)
    if block.site is None or not block.inside:
        return measured
    # The exact softmax of its scores, in the layout of the attention.
    shape, scores = attention.shape, block.inside["scores"].astype("float64")
    own = scores.reshape(shape[0], -1, shape[3])
    own = np.exp(own - own.max(axis=1, keepdims=True))
    own = (own / own.sum(axis=1, keepdims=True)).reshape(shape)
    measured["softmax_snr"] = decibels(own, attention - own)
    measured["float_operators"] = block.site.float_operators
    activation = _ACTIVATIONS.get(block.site.activation)
    if activation is None:
        return measured | {"pattern_snr": None}
    x, y = (block.inside[part].astype("float64") for part in ("inputs", "outputs"))

    def multiplied(maps: np.ndarray) -> np.ndarray:
        return activation(x * (1 + np.repeat(maps, x.shape[3] // maps.shape[3], axis=3)))

    full, bare = multiplied(wanted), activation(x)
    scales = block.site.outputs.scales
    rounding = np.full_like(full, scales[0] / 12**0.5 if scales else 0.0)
    measured["without_attention_snr"] = decibels(full, full - bare)
    measured["rounding_snr"] = decibels(full, rounding)
    if decibels(full, full - multiplied(wanted - pattern)) >= measured["rounding_snr"]:
        measured["pattern_snr"] = None
    factor = _factor(y, bare, shape[3])
    measured["multiplier_correlation"] = cosine(centred(factor, 1, 2), pattern)
    return measured


def _factor(y: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """What x is multiplied by to get y, by least squares over the channels of each group."""
    parts = (*x.shape[:3], groups, x.shape[3] // groups)
    x, y = x.reshape(parts), y.reshape(parts)
    energy = (x * x).sum(axis=-1)
    return np.divide((x * y).sum(axis=-1), energy, out=np.ones_like(energy), where=energy > 0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between two arrays; 0 where one is all zeros."""
    a, b = a.ravel().astype("float64"), b.ravel().astype("float64")
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length else 0.0
