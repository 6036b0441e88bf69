"""The report of a port: where every key went, and where every weight came from.

Imports the standard library.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from converters.pytorch.mismatch import few

PORTED = "ported"
COUNTER = "counter"
LEFT_OVER = "left over"
OUTSIDE = "outside the prefix"
IGNORED = "ignored"


@dataclass(frozen=True)
class SourceRecord:
    """What became of one key of the state dict.

    Attributes:
        key: The key.
        shape: Shape of its tensor.
        dtype: NumPy name of its dtype.
        status: ``"ported"``, ``"counter"`` (a training-step counter, read but without a
            counterpart in Keras), ``"left over"``, ``"outside the prefix"`` or ``"ignored"``.
        weight: The Keras weight that it went to; None unless ported.
        detail: The transform it went through, or why it did not go anywhere.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    status: str
    weight: str | None
    detail: str


@dataclass(frozen=True)
class WeightRecord:
    """Where one Keras weight came from.

    Attributes:
        weight: The weight, as ``layer/weight``; layers in nested models as ``model/layer/weight``.
        shape: Its shape.
        dtype: Its dtype.
        status: ``"ported"`` or ``"left over"`` (it kept its value).
        keys: The keys it came from, several where the groups of a ULSAM are joined.
        detail: The transform, or why it was left over.
    """

    weight: str
    shape: tuple[int, ...]
    dtype: str
    status: str
    keys: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class SettingsRecord:
    """What a layer has of what a state dict does not hold.

    Attributes:
        layer: The layer.
        settings: Its stride, padding, dilation, epsilon and the like, by PyTorch's words.
    """

    layer: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class PortReport:
    """The report that ``port_weights`` returns. ``str()`` of it is a readable table.

    Attributes:
        sources: One record per key of the state dict, in its order.
        weights: One record per weight of the target, in the order of its ``weights``.
        warnings: What was warned of, in order.
        settings: What is not in the checkpoint and was left as the model has it: a record per
            layer that was filled, if there is such. Comparing the outputs with PyTorch's tells
            whether it is right.
    """

    sources: tuple[SourceRecord, ...]
    weights: tuple[WeightRecord, ...]
    warnings: tuple[str, ...] = ()
    settings: tuple[SettingsRecord, ...] = ()

    @property
    def left_over_keys(self) -> tuple[str, ...]:
        """The keys that went nowhere, but not those outside the prefix or ignored."""
        return tuple(record.key for record in self.sources if record.status == LEFT_OVER)

    @property
    def left_over_weights(self) -> tuple[str, ...]:
        """The Keras weights that kept their values."""
        return tuple(record.weight for record in self.weights if record.status == LEFT_OVER)

    def summary(self) -> str:
        """Give the counts in one line."""
        keys = {status: 0 for status in (PORTED, COUNTER, LEFT_OVER, OUTSIDE, IGNORED)}
        for record in self.sources:
            keys[record.status] += 1
        filled = len(self.weights) - len(self.left_over_weights)
        parts = [f"{filled} of {len(self.weights)} weights from {keys[PORTED]} keys"]
        for status, text in (
            (COUNTER, "step counters"),
            (LEFT_OVER, "keys left over"),
            (OUTSIDE, "keys outside the prefix"),
            (IGNORED, "keys ignored"),
        ):
            parts += [f"{text}: {keys[status]}"] if keys[status] else []
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Give the whole port report as a dict of JSON types."""
        return {
            "summary": self.summary(),
            "sources": [_json(asdict(record)) for record in self.sources],
            "weights": [_json(asdict(record)) for record in self.weights],
            "warnings": list(self.warnings),
            "settings": [_json(asdict(record)) for record in self.settings],
        }

    def table(self) -> str:
        """Give the report as text: a row per weight, then what was left over on either side."""
        ported = [
            (r.weight, _shape(r.shape), r.detail, _keys(r.keys))
            for r in self.weights
            if r.status == PORTED
        ]
        lines = _columns([("Keras weight", "shape", "transform", "from"), *ported])
        left = [(r.weight, _shape(r.shape), r.detail) for r in self.weights if r.status != PORTED]
        lines += _section("Keras weights left as they were", left)
        for status in (LEFT_OVER, OUTSIDE, IGNORED):
            rows = [(r.key, _shape(r.shape), r.detail) for r in self.sources if r.status == status]
            lines += _section(f"keys {status}", rows)
        alike: dict[str, list[str]] = {}
        for each in self.settings:
            text = ", ".join(f"{word} {value}" for word, value in each.settings.items())
            alike.setdefault(text, []).append(each.layer)
        told = [(text, few(layers)) for text, layers in alike.items()]
        lines += _section("not in the checkpoint, so as the model has it", told)
        lines += _section("warnings", [(text,) for text in self.warnings])
        return "\n".join([*lines, "", self.summary()])

    def __str__(self) -> str:
        return self.table()


def modules_of(report: PortReport) -> dict[str, str]:
    """PyTorch's path of each layer that was filled, by the layer's name; of nested ones not."""
    paths: dict[str, str] = {}
    for record in report.weights:
        if record.keys:
            layer = record.weight.partition("/")[0]
            # Of a ULSAM the weights are further down, in its subspaces.
            path = re.sub(r"(^|\.)subspaces\.\d+\..*$", "", record.keys[0])
            whole = path == record.keys[0]
            paths.setdefault(layer, record.keys[0].rpartition(".")[0] if whole else path)
    return paths


def _json(record: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in record.items()}


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _keys(keys: tuple[str, ...]) -> str:
    """Give the keys of the groups of a ULSAM as one: ``subspaces.{0..3}.conv_dws.weight``."""
    merged = re.sub(r"(^|\.)subspaces\.0\.", rf"\1subspaces.{{0..{len(keys) - 1}}}.", keys[0])
    return keys[0] if len(keys) == 1 else merged


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in _columns(rows))] if rows else []


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
