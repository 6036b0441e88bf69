"""How much of the attention is left in a `.tflite` file, site by site, measured in the file itself.

Imports `runtime`, `tflite` and NumPy; Keras inside functions.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.runtime import RunResult, run
from converters.runtime.result import Accelerator, GpuPrecision
from converters.tflite.flatbuffer import Graph, read_graphs
from converters.tflite.sites import Site, find_sites
from converters.tflite.tap import with_outputs

if TYPE_CHECKING:
    import keras

# Below, a tenth of the attention's energy is error: it points elsewhere than the model's.
LEAST_SNR = 10.0


@dataclass(frozen=True)
class AttentionFidelity:
    """The attention of one site in a `.tflite` file beside that of the float model.

    Decibels are ten times the logarithm of a ratio of energies, summed over all samples, groups and
    positions; infinite where nothing differs.

    Attributes:
        site: Name of the ULSAM layer.
        map_size: Height and width of its maps.
        snr: Energy of the float model's attention over that of the file's error, in dB. 0 for an
            attention of zeros.
        cosine: Cosine between the two.
        zeros: Share of the values that are exactly 0 in the file and not in the float model.
        dead_maps: Share of the maps (one per sample and group) whose sum, 1 in float, is below 0.5.
        form_snr: The same as `snr` against the softmax of the file's own scores: what the form of
            the softmax alone loses, without the rounding of the layers before it, in dB.
        float_operators: The operators of the softmax that compute in float.
        without_snr: Energy of the block's output over that of the attention's effect on it, in dB:
            how near an output without any attention would come.
        rounding_snr: Energy of the block's output over that of its own rounding to integers, a
            step's square over 12, in dB; infinite for a float output.
        effect_correlation: Correlation, within each map, of the factor that the file's output has
            over its input at a position with the attention there: what of the attention's pattern
            the next layer gets to see. `None` if the output is behind an activation that hides it.
        kernels: What ran the file.
        limit: Smallest `snr` that holds.
        subject: Precision of the file, where it is known.
        problem: Why it did not run; empty if it did.
    """

    site: str
    map_size: tuple[int, int] | None = None
    snr: float | None = None
    cosine: float | None = None
    zeros: float | None = None
    dead_maps: float | None = None
    form_snr: float | None = None
    float_operators: tuple[str, ...] = ()
    without_snr: float | None = None
    rounding_snr: float | None = None
    effect_correlation: float | None = None
    kernels: str = ""
    limit: float = LEAST_SNR
    subject: str = ""
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the attention is alive: its SNR is not below the limit."""
        return not self.problem and self.snr is not None and self.snr >= self.limit

    @property
    def lost_in(self) -> str:
        """Where an attention that does not hold was lost: in the `"softmax"` or the `"features"`.

        With `"features"` the form keeps what its scores say, but these are off, by the rounding of
        the layers before: no other form will help, training with quantisation may. Empty if the
        attention holds, or nothing was measured.
        """
        if self.holds or self.snr is None or self.form_snr is None:
            return ""
        return "softmax" if self.form_snr < self.limit else "features"

    @property
    def visible(self) -> bool | None:
        """Whether the attention's effect on the output is above the output's own rounding."""
        if self.without_snr is None or self.rounding_snr is None:
            return None
        return self.without_snr < self.rounding_snr


def attention_fidelity(
    tflite: bytes | str | os.PathLike[str],
    model: "keras.Model",
    data: Any,
    *,
    accelerator: Accelerator = "cpu",
    gpu_precision: GpuPrecision = "float32",
    limit: float = LEAST_SNR,
    env: Mapping[str, str | None] | None = None,
) -> list[AttentionFidelity]:
    """Measures the attention of every ULSAM inside a `.tflite` file against the float model.

    The file itself is run, with its inner tensors as further outputs: no other file, calibration
    or form stands in for it. An output that is right to 1 % says little of the attention, which
    the residual hides.

    Args:
        tflite: The content of a `.tflite` file made of `model`, or the path of one.
        model: The float model, a functional or built Sequential `keras.Model`.
        data: Inputs as the model takes them, an array, or a dictionary or list of arrays for
            several inputs; the samples first.
        accelerator: What runs the file, as in `runtime.run`. Defaults to `"cpu"`.
        gpu_precision: Likewise. Defaults to `"float32"`.
        limit: Smallest SNR in dB that counts as alive (`AttentionFidelity.holds`). Defaults to 10.
        env: As in `runtime.run`.

    Returns:
        One `AttentionFidelity` per ULSAM whose map has more than one position, in the order of the
        model. If the file did not run, each says why in `problem`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the content is no LiteRT model, if its ULSAM blocks are not those of `model`,
            if `data` does not fit, or if the model's graph is not known (a subclassed model).
    """
    from ulsam_keras import attention_maps

    content = tflite if isinstance(tflite, bytes) else Path(tflite).read_bytes()
    graph = read_graphs(content)[0]
    arrays = _arrays(data, graph)
    given: Any = list(arrays.values())
    given = given[0] if len(given) == 1 else data
    maps = attention_maps(model, given)
    return measure_sites(
        content,
        maps,
        arrays,
        accelerator=accelerator,
        gpu_precision=gpu_precision,
        limit=limit,
        env=env,
    )


def measure_sites(
    content: bytes,
    maps: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    *,
    accelerator: Accelerator = "cpu",
    gpu_precision: GpuPrecision = "float32",
    limit: float = LEAST_SNR,
    env: Mapping[str, str | None] | None = None,
) -> list[AttentionFidelity]:
    """`attention_fidelity` for attention that is there already.

    Args:
        content: The content of the file.
        maps: The float model's attention by site, `(N, H, W, g)`, in the order of the model.
        inputs: The float inputs by signature name, of the same samples.
        accelerator: As in `attention_fidelity`.
        gpu_precision: Likewise.
        limit: Likewise.
        env: Likewise.
    """
    graph = read_graphs(content)[0]
    # The softmax of one position is 1: there is nothing to measure.
    maps = {name: value for name, value in maps.items() if value.shape[1] * value.shape[2] > 1}
    sites = [s for s in find_sites(graph) if s.attention.shape[1] * s.attention.shape[2] > 1]
    _check_pairs(maps, sites)
    parts = [
        {part: getattr(site, part) for part in ("inputs", "scores", "attention", "outputs")}
        for site in sites
    ]
    # One name each: what a block gives, the next may take, and the GPU refuses files that give a
    # tensor twice. And it computes wrongly where an output is the file's own input.
    given = {tensor: name for name, tensor in graph.named_inputs.items()}
    names = {tensor: name for name, tensor in graph.named_outputs.items()}
    tapped = {}
    for number, tensors in enumerate(parts):
        for part, tensor in tensors.items():
            if tensor not in names and tensor not in given:
                names[tensor] = f"site{number}_{part}"
                tapped[names[tensor]] = tensor
    result = run_float(
        with_outputs(content, tapped),
        inputs,
        accelerator=accelerator,
        gpu_precision=gpu_precision,
        repeats=0,
        env=env,
    )
    rows = []
    for site, tensors, (name, wanted) in zip(sites, parts, maps.items(), strict=True):
        row = AttentionFidelity(name, wanted.shape[1:3], limit=limit, kernels=result.adapter)
        if result.outputs is None:
            rows.append(replace(row, problem=f"{result.outcome}: {result.message}"))
            continue
        found = {
            part: result.outputs[names[tensor]]
            if tensor in names
            else tensor.dequantized(tensor.quantized(inputs[given[tensor]]))
            for part, tensor in tensors.items()
        }
        rows.append(replace(row, **_measured(site, wanted.astype("float64"), found)))
    return rows


def run_float(content: bytes, inputs: Mapping[str, np.ndarray], **options: Any) -> RunResult:
    """Runs a file of any input and output types on float inputs, and gives float outputs.

    Args:
        content: The content of the file.
        inputs: Inputs by name, which are rounded to integers where the file takes such.
        **options: Of `runtime.run`.
    """
    graph = read_graphs(content)[0]
    named = {
        name: graph.named_inputs[name].quantized(value) if name in graph.named_inputs else value
        for name, value in inputs.items()
    }
    result = run(content, named, **options)
    if result.outputs is None:
        return result
    ends = graph.named_outputs
    outputs = {
        name: ends[name].dequantized(value) if name in ends else value
        for name, value in result.outputs.items()
    }
    return replace(result, outputs=outputs)


def _arrays(data: Any, graph: Graph) -> dict[str, np.ndarray]:
    names = list(graph.named_inputs)
    if isinstance(data, Mapping):
        pairs = dict(data)
    elif len(names) == 1:
        pairs = {names[0]: data}
    else:
        pairs = dict(zip(names, data, strict=True))
    return {name: _as_taken(np.asarray(value)) for name, value in pairs.items()}


def _as_taken(array: np.ndarray) -> np.ndarray:
    """The array in the float type that files take, as Keras casts what its models are given."""
    return array.astype("float32") if array.dtype.kind == "f" else array


def _check_pairs(maps: Mapping[str, np.ndarray], sites: list[Site]) -> None:
    ours = {name: tuple(map(int, value.shape[1:])) for name, value in maps.items()}
    theirs = [site.attention.shape[1:] for site in sites]
    if list(ours.values()) != theirs:
        raise ValueError(
            "The ULSAM blocks of the file must be those of the model, in the same order; give the "
            "model that the file was made of. "
            f"Received: maps (H, W, g) of {theirs} in the file, {ours} in the model"
        )


def _measured(site: Site, wanted: np.ndarray, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    attention = found["attention"].astype("float64") * site.gain
    x, y = found["inputs"].astype("float64"), found["outputs"].astype("float64")
    repeats = x.shape[3] // wanted.shape[3]
    spread = np.repeat(wanted, repeats, axis=3)
    activation = {
        "NONE": lambda v: v,
        "RELU": lambda v: np.maximum(v, 0),
        "RELU6": lambda v: np.clip(v, 0, 6),
    }.get(site.activation)
    measured: dict[str, Any] = {
        "snr": decibels(wanted, attention - wanted),
        "cosine": cosine(wanted, attention),
        "zeros": float(((attention == 0) & (wanted != 0)).mean()),
        "dead_maps": float((attention.sum((1, 2)) < 0.5).mean()),
        "float_operators": site.float_operators,
    }
    own = _softmax(found["scores"], site)
    measured["form_snr"] = decibels(own, attention - own)
    if activation is not None:
        full, bare = activation(x * (1 + spread)), activation(x)
        step = site.outputs.scales[0] if site.outputs.scales else 0.0
        rounding = np.full_like(full, step / 12**0.5)
        measured["without_snr"] = decibels(full, full - bare)
        measured["rounding_snr"] = decibels(full, rounding)
        factor = _factor(y, bare, wanted.shape[3])
        measured["effect_correlation"] = cosine(_centred(factor), _centred(wanted))
    return measured


def _factor(y: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """What x is multiplied by to get y, by least squares over the channels of each group."""
    parts = (*x.shape[:3], groups, x.shape[3] // groups)
    x, y = x.reshape(parts), y.reshape(parts)
    energy = (x * x).sum(axis=-1)
    return np.divide((x * y).sum(axis=-1), energy, out=np.ones_like(energy), where=energy > 0)


def _centred(maps: np.ndarray) -> np.ndarray:
    return maps - maps.mean(axis=(1, 2), keepdims=True)


def _softmax(scores: np.ndarray, site: Site) -> np.ndarray:
    """The exact softmax of scores, in the layout of the attention."""
    s = scores.astype("float64").reshape(len(scores), -1, site.attention.shape[3])
    e = np.exp(s - s.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).reshape(len(scores), *site.attention.shape[1:])


def decibels(signal: np.ndarray, error: np.ndarray) -> float:
    """Ten times the logarithm of the ratio of two energies; infinite without an error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.square(signal, dtype="float64").sum() / np.square(error, dtype="float64").sum()
        return float(10 * np.log10(ratio))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between two arrays; 0 where one is all zeros."""
    a, b = a.ravel().astype("float64"), b.ravel().astype("float64")
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length else 0.0
