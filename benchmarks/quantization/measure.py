"""What is left of a network in an int8 file: its answers, its logits, its attention.

Shared by the examples of this folder. Imports converters, ulsam_keras, Keras and NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from converters import attention_snr
from converters.runtime import run
from converters.tflite.flatbuffer import TfliteFile
from converters.tflite.sites import find_sites
from converters.tflite.tap import with_outputs
from converters.verify.outputs import decibels, relative_difference
from ulsam_keras import attention_maps

# The attention of so many held-out images is measured.
ATTENTION_IMAGES = 100


@dataclass(frozen=True)
class Row:
    """One model on the held-out images.

    Attributes:
        name: What it is.
        correct: Images it is right on.
        images: Images there are.
        against: Name of the float model that the rest of the row compares with; empty for none.
        changed: Images that it answers otherwise than that model.
        logits_error: Largest difference of a logit, as a share of that model's largest logit.
        logits_snr: Energy of that model's logits over that of the difference, in dB.
        attention_snr: The same for the attention of each site, in dB.
        attention_zeros: Share of the attention that is exactly 0 and is not in that model.
        correlation: Correlation of what each block's output is multiplied by with the attention.
    """

    name: str
    correct: int
    images: int
    against: str = ""
    changed: int | None = None
    logits_error: float | None = None
    logits_snr: float | None = None
    attention_snr: dict[str, float] = field(default_factory=dict)
    attention_zeros: dict[str, float] = field(default_factory=dict)
    correlation: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of the images it is right on."""
        return self.correct / self.images


class HeldOut:
    """Held-out images, and what there is to say of a model on them.

    Args:
        images: `(N, H, W, C)`, as the models take them.
        labels: Their classes, `(N,)`.
        sources: What each was made of, `(N,)`; images of one source are not independent. Defaults
            to `None`, a source for each image.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, sources: np.ndarray | None = None
    ) -> None:
        self.images = images
        self.labels = labels
        self.sources = np.arange(len(images)) if sources is None else sources
        self._right: dict[str, np.ndarray] = {}

    def logits(self, model: keras.Model) -> np.ndarray:
        """The model's logits, `(N, classes)`."""
        return model.predict(self.images, batch_size=100, verbose=0)

    def float_row(
        self, name: str, model: keras.Model, against: tuple[str, keras.Model] | None = None
    ) -> Row:
        """The row of a Keras model.

        Args:
            name: What it is.
            model: The model.
            against: Name and model that it is compared with. Defaults to `None`.
        """
        logits = self.logits(model)
        if against is None:
            return Row(name, self._correct(name, logits), len(self.labels))
        shown = self.images[:ATTENTION_IMAGES]
        wanted = attention_maps(against[1], shown)
        found = attention_maps(model, shown)
        return Row(
            name,
            self._correct(name, logits),
            len(self.labels),
            against[0],
            *_differences(logits, self.logits(against[1])),
            attention_snr={
                site: decibels(wanted[site], maps - wanted[site]) for site, maps in found.items()
            },
            attention_zeros={
                site: float(((maps == 0) & (wanted[site] != 0)).mean())
                for site, maps in found.items()
            },
        )

    def file_row(self, name: str, content: bytes, against: tuple[str, keras.Model]) -> Row:
        """The row of a `.tflite` file.

        Args:
            name: What it is.
            content: The content of the file.
            against: Name and Keras model of the float weights that the file was made of.
        """
        logits = file_logits(content, self.images)
        sites = attention_snr(content, against[1], self.images[:ATTENTION_IMAGES])
        return Row(
            name,
            self._correct(name, logits),
            len(self.labels),
            against[0],
            *_differences(logits, self.logits(against[1])),
            attention_snr={site.site: site.snr for site in sites if site.snr is not None},
            attention_zeros={site.site: site.zeros for site in sites if site.zeros is not None},
            correlation={
                site.site: site.multiplier_correlation
                for site in sites
                if site.multiplier_correlation is not None
            },
        )

    def lost(self, name: str, other: str) -> tuple[float, float]:
        """How far a model with a row is above another one, and the standard error of that.

        Args:
            name: Name of the one.
            other: Name of the other.

        Returns:
            Both in points of accuracy; the error is that of paired answers, summed by source.
        """
        gain = self._right[name].astype("float64") - self._right[other]
        by_source = np.bincount(self.sources, gain - gain.mean())
        return 100 * float(gain.mean()), 100 * float((by_source @ by_source) ** 0.5 / len(gain))

    def _correct(self, name: str, logits: np.ndarray) -> int:
        self._right[name] = logits.argmax(axis=1) == self.labels
        return int(self._right[name].sum())


def _differences(logits: np.ndarray, wanted: np.ndarray) -> tuple[int, float, float]:
    """What `Row` calls `changed`, `logits_error` and `logits_snr`."""
    return (
        int((logits.argmax(axis=1) != wanted.argmax(axis=1)).sum()),
        relative_difference(logits, wanted),
        decibels(wanted, logits - wanted),
    )


def file_logits(content: bytes, images: np.ndarray) -> np.ndarray:
    """The logits of a `.tflite` file with one input and one output, `(N, classes)`."""
    [logits] = _run(content, images).values()
    return logits


def file_attention(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    """The attention inside a `.tflite` file, `(N, H, W, g)` for each site in order."""
    file = TfliteFile(content)
    tensors = {f"site{n}": site.attention for n, site in enumerate(find_sites(file.graph))}
    outputs = _run(with_outputs(file, tensors).content, images)
    # An integer tensor is given as its integers.
    return [tensor.dequantized(outputs[key]) for key, tensor in tensors.items()]


def _run(content: bytes, images: np.ndarray) -> Mapping[str, np.ndarray]:
    result = run(content, images, repeats=0)
    if result.outputs is None:
        raise RuntimeError(f"The file did not run. Received: {result.outcome}: {result.message}")
    return result.outputs


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    sites = list(dict.fromkeys(site for row in rows for site in row.attention_snr))
    head = ["", "correct", "accuracy", "compared with", "other answers", "logits: largest, SNR"]
    lines = [[*head, *(f"attention {site}" for site in sites)]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        cells = [row.name, f"{row.correct} of {row.images}", f"{row.accuracy:.2%}"]
        if row.against:
            logits = f"{row.logits_error:.1%}, {row.logits_snr:.1f} dB"
            cells += [row.against, str(row.changed), logits]
            cells += [_attention(row, site) for site in sites]
        lines.append(cells + [""] * (len(lines[0]) - len(cells)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _attention(row: Row, site: str) -> str:
    parts = [f"{row.attention_snr[site]:.1f} dB"]
    if row.attention_zeros[site] >= 0.005:
        parts.append(f"{row.attention_zeros[site]:.0%} zeros")
    if site in row.correlation:
        parts.append(f"correlation {row.correlation[site]:.2f}")
    return ", ".join(parts)


def write(folder: Path, rows: Sequence[Row], **settings: object) -> None:
    """Writes the rows as `results.json`, with the settings, and as `results.md`."""
    content = {**settings, "rows": [{**asdict(row), "accuracy": row.accuracy} for row in rows]}
    (folder / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(rows), encoding="utf-8")
