"""The account of a program's conversion: what every weight and every node became.

Imports the standard library.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class NodeRecord:
    """What became of one node of the program.

    Attributes:
        node: Its name.
        target: Its operator.
        module: The path of its module.
        status: `"converted"`, `"folded"` (the value is only seen in another way), `"constant"`
            (computed at conversion) or `"unused"` (no output needs it).
        detail: The layers and operations that it became, or why it became none.
    """

    node: str
    target: str
    module: str
    status: str
    detail: str


@dataclass(frozen=True)
class PortedWeight:
    """Where a weight of a Keras layer came from.

    Attributes:
        weight: The weight, `layer/weight`.
        keys: The keys that it was computed from.
        how: What was done to it.
    """

    weight: str
    keys: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class WeightRecord:
    """What became of one tensor that the program holds.

    Attributes:
        key: Its key.
        kind: `"parameter"`, `"buffer"` or `"constant"`.
        shape: Its shape.
        dtype: Its dtype in the program.
        status: `"ported"` (a weight of the model), `"constant"` (part of the graph: not trained),
            `"counter"` or `"unused"`.
        weights: The Keras weights that it went to.
        detail: What was done to it, or why it went nowhere.
    """

    key: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    status: str
    weights: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class EndRecord:
    """An input or an output.

    Attributes:
        name: Its name in the Keras model.
        shape: The sizes in PyTorch's order; `None` for open ones.
        order: Which of PyTorch's dimensions each axis in Keras is: `(0, 2, 3, 1)` is channels last.
    """

    name: str
    shape: tuple[int | None, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class ProgramReport:
    """The account that `to_keras` returns.

    Attributes:
        weights: One record per tensor of the program.
        nodes: One record per node, in order.
        inputs: The inputs.
        outputs: The outputs.
        transposes: The nodes that a transpose was emitted for, once for each.
        ulsam: The names of the ULSAM layers.
        warnings: What a user has to know.
    """

    weights: tuple[WeightRecord, ...]
    nodes: tuple[NodeRecord, ...]
    inputs: tuple[EndRecord, ...]
    outputs: tuple[EndRecord, ...]
    transposes: tuple[str, ...] = ()
    ulsam: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Give the counts in one line."""
        weights = _counts(record.status for record in self.weights)
        nodes = _counts(record.status for record in self.nodes)
        return (
            f"{len(self.weights)} tensors: {weights}; {len(self.nodes)} nodes: {nodes}; "
            f"transposes: {len(self.transposes)}; ULSAM: {len(self.ulsam)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the whole report as a dict of JSON types."""
        return {
            "summary": self.summary(),
            **{
                name: [_json(asdict(record)) for record in getattr(self, name)]
                for name in ("weights", "nodes", "inputs", "outputs")
            },
            **{name: list(getattr(self, name)) for name in ("transposes", "ulsam", "warnings")},
        }

    def table(self) -> str:
        """Give the report as text: a row per tensor, then a row per node."""
        rows = [("tensor", "shape", "became", "how")]
        rows += [
            (r.key, _shape(r.shape), ", ".join(r.weights) or r.status, r.detail)
            for r in self.weights
        ]
        lines = _columns(rows)
        nodes = [("node", "operator", "module", "became")]
        nodes += [(r.node, r.target, r.module, f"{r.status}: {r.detail}") for r in self.nodes]
        lines += ["", *_columns(nodes)]
        lines += ["", *self.warnings] if self.warnings else []
        return "\n".join([*lines, "", self.summary()])

    def __str__(self) -> str:
        return self.table()


def _counts(statuses: Iterable[str]) -> str:
    counts = Counter(statuses)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "none"


def _json(record: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in record.items()}


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
