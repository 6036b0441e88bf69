"""What a program is, for `inspect`: as data and as lines of text. May import this package."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from converters.program.program import Dimension, End, Program


@dataclass(frozen=True)
class EndSummary:
    """An input or output.

    Attributes:
        name: As its user knows it.
        shape: Its sizes, in PyTorch's layout; `None` for a number.
        dtype: NumPy's or ml_dtypes' name; `None` for a number.
    """

    name: str
    shape: tuple[Dimension, ...] | None
    dtype: str | None


@dataclass(frozen=True)
class Summary:
    """A program in short.

    Attributes:
        name: What it is called.
        torch_version: The PyTorch that wrote it; empty where it does not say.
        inputs: In order.
        outputs: In order.
        dynamic: The dynamic dimensions, with least and largest size.
        examples: The inputs of which the file holds examples.
        reference: Keys of the recorded arrays.
        weights: Number of tensors and of values in them, by kind; tied ones count once.
        tied: Keys that are another key's tensor.
        operators: Calls by operator, the most frequent first.
        modules: Classes by path, in the order of the calls.
        ulsam: Where ULSAM was found, a line each; `None` if nobody looked.
        obstacles: Operators that are refused whatever their arguments, a line each; `None` if
            nobody looked.
    """

    name: str
    torch_version: str
    inputs: tuple[EndSummary, ...]
    outputs: tuple[EndSummary, ...]
    dynamic: Mapping[str, tuple[int, int | None]]
    examples: tuple[str, ...]
    reference: tuple[str, ...]
    weights: Mapping[str, tuple[int, int]]
    tied: Mapping[str, str]
    operators: Mapping[str, int]
    modules: Mapping[str, str]
    ulsam: tuple[str, ...] | None
    obstacles: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Give the summary as plain data for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Give the summary as lines of text."""
        layers = sum(key.startswith("layers.") for key in self.reference)
        arrays = [key for key in self.reference if not key.startswith("layers.")]
        return [
            f"{self.name}: a program of PyTorch {self.torch_version or '(no version given)'}",
            *_table("inputs", ((e.name, _type(e)) for e in self.inputs)),
            *_table("outputs", ((e.name, _type(e)) for e in self.outputs)),
            *_table("dynamic dimensions", ((n, _range(*r)) for n, r in self.dynamic.items())),
            f"example inputs: {', '.join(self.examples) or 'none'}",
            "reference: "
            + (", ".join(arrays + ([f"{layers} layers"] if layers else [])) or "none"),
            *_table(
                "weights",
                ((kind, f"{n:,} ({size:,} values)") for kind, (n, size) in self.weights.items()),
            ),
            *_table("tied", ((key, f"is {other}") for key, other in self.tied.items())),
            *_counts("operators", self.operators),
            *_counts("modules", Counter(self.modules.values())),
            *_found("ULSAM", self.ulsam),
            *_found("operators refused whatever their arguments", self.obstacles),
        ]


def summarise(
    program: Program,
    *,
    ulsam: Sequence[str] | None = None,
    obstacles: Sequence[str] | None = None,
) -> Summary:
    """Say in short what a program is; no weight is read.

    Args:
        program: The program.
        ulsam: Where ULSAM was found in it, a line each.
        obstacles: Operators that are refused whatever their arguments, a line each.
    """
    held = {weight.key: weight.kind for weight in program.weights.values()}
    sizes = {w.key: math.prod(program.values[n].hint) for n, w in program.weights.items()}
    weights = {
        f"{kind}s": (len(keys), sum(sizes[key] for key in keys))
        for kind in ("parameter", "buffer", "constant")
        if (keys := [k for k, own in held.items() if own == kind and k not in program.aliases])
    }
    return Summary(
        name=program.name,
        torch_version=program.torch_version,
        inputs=tuple(_ends(program, program.inputs)),
        outputs=tuple(_ends(program, program.outputs)),
        dynamic=dict(program.dynamic),
        examples=tuple(program.examples),
        reference=tuple(program.reference),
        weights=weights,
        tied=dict(program.aliases),
        operators=dict(Counter(node.target for node in program.nodes).most_common()),
        modules={m.path: m.kind for node in program.nodes for m in node.modules},
        ulsam=None if ulsam is None else tuple(ulsam),
        obstacles=None if obstacles is None else tuple(obstacles),
    )


def _ends(program: Program, ends: Iterable[End]) -> Iterator[EndSummary]:
    for end in ends:
        meta = program.values.get(end.value) if isinstance(end.value, str) else None
        if meta is None:
            yield EndSummary(end.name, None, None)
        else:
            yield EndSummary(end.name, meta.shape, meta.dtype)


def _type(end: EndSummary) -> str:
    if end.shape is None:
        return "a number"
    return f"{end.dtype} ({', '.join(map(str, end.shape))})"


def _range(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else f"{least} to {most}"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return [title, *(f"  {name:{width}}  {text}" for name, text in rows)] if rows else []


def _counts(title: str, counts: Mapping[str, int]) -> list[str]:
    rows = sorted(counts.items(), key=lambda item: -item[1])
    return [f"{title} ({sum(counts.values())})", *(f"  {n:4}  {name}" for name, n in rows)]


def _found(title: str, found: Sequence[str] | None) -> list[str]:
    if found is None:
        return []
    return [title, *(f"  {line}" for line in found)] if found else [f"{title}: none"]
