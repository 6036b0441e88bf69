"""Samples, which sides are given, and references: what PyTorch or another framework answers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from converters.data.layout import Layout, as_dtype, finite_numbers, fitted, layout_of
from converters.data.npz import load_arrays, matched, of_group, source_name
from converters.runtime import RunResult
from converters.verify.outputs import class_count, count_correct
from converters.verify.sides import Arrays, Block, LeftOutError, Model, numbers
from converters.verify.targets import Target

Kind = Literal["reference", "given", "calibration", "example", "random"]


@dataclass(frozen=True)
class Samples:
    """What sides are given.

    Attributes:
        inputs: Arrays by the input names of a side, in the order of both, the samples first; `""`
            where there is one without a name.
        kind: Where they come from: a reference; a file of the user's; calibration data; the
            example inputs of a program; or random numbers, on which classes say nothing.
        labels: Integer array of shape `(N,)`, the true classes; `None` if they are not known.
        layers: What PyTorch's modules answered, by the path of each; empty if it is not known.
    """

    inputs: Mapping[str, np.ndarray]
    kind: Kind
    labels: np.ndarray | None = None
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    def first(self, count: int) -> tuple[np.ndarray, ...]:
        """The first ones, in the order of the inputs."""
        return tuple(array[:count] for array in self.inputs.values())


@dataclass(frozen=True)
class Reference(Samples):
    """Samples, and what a model answered: a side whose answers are there already.

    Attributes:
        outputs: Arrays by output name, as the inputs.
        name: What it is called.
        modules: The path of the module that a layer of the model was, by the layer's name, as a
            port report gives it. Layers that are not among them go by their names.
        taken_as: Its names of inputs and outputs and the model's for each, where these are others
            and the arrays were taken in order.
        arranged: Whether the arrays are known to be in the model's layout.
    """

    kind: Kind = "reference"
    outputs: Mapping[str, np.ndarray] = field(kw_only=True)
    name: str = "reference"
    modules: Mapping[str, str] = field(default_factory=dict)
    taken_as: tuple[tuple[str, str], ...] = ()
    arranged: bool = False
    precision: ClassVar[str] = "float32"

    def answer(self, arrays: Arrays, target: Target) -> RunResult:
        """As that of a model."""
        return RunResult("ok", {name: v[: len(arrays[0])] for name, v in self.outputs.items()})

    def blocks(self, arrays: Arrays, target: Target) -> list[Block]:
        """None: raises LeftOutError."""
        raise LeftOutError(f"{self.name} is a reference of outputs")

    def samples(self, target: Target, count: int) -> int:
        """All of them."""
        return count

    @property
    def correct(self) -> int | None:
        """How many samples it is right on; `None` without labels."""
        return count_correct(self.outputs, self.outputs, self.labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of it: how it was matched, whether its labels can be meant."""
        notes = []
        if any(theirs for theirs, _ in self.taken_as):
            notes.append(
                "The reference's names are not the model's; its arrays were taken in order: "
                + ", ".join(f"{theirs} as {ours}" for theirs, ours in self.taken_as)
            )
        right = self.correct
        if right is not None and self.labels is not None:
            commonest = int(np.unique(self.labels, return_counts=True)[1].max())
            if right < commonest:
                notes.append(
                    f"The reference itself is right on {right} of {len(self.labels)} labels, and "
                    f"the commonest label is right on {commonest}: they may be in another order, "
                    "or numbered otherwise"
                )
        return tuple(notes)

    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the one input, if it is of maps; of the likelier of its layouts."""
        shapes = [value.shape for value in self.inputs.values()]
        if len(shapes) != 1 or len(shapes[0]) != 4:
            return None
        _, first, second, third = shapes[0]
        # Maps are square more often than not, and PyTorch's layout comes first.
        last = first == second != third or (second != third and third in (1, 3, 4))
        return (first, second) if last else (second, third)

    def fitted(self, model: Model) -> "Reference":
        """The reference under the names, and in the layout and the dtypes, of a model.

        Raises:
            ValueError: If it does not fit the model, or a label is none of its classes.
        """
        named = self.under(list(model.inputs), list(model.outputs), model.ordered)
        ends = [(named.inputs[n], shape, f"inputs.{n}") for n, shape in model.inputs.items()]
        ends += [(named.outputs[n], shape, f"outputs.{n}") for n, shape in model.outputs.items()]
        # What fits in one layout only decides for the rest.
        told: set[Layout | None] = (
            {"model"} if self.arranged else {layout_of(array, shape) for array, shape, _ in ends}
        )
        told -= {None}
        layout = told.pop() if len(told) == 1 else None
        # The layout is one of maps; what else there is finds its own.
        placed = [
            fitted(array, shape, key, self.name, layout if array.ndim == 4 else None)
            for array, shape, key in ends
        ]
        answered = dict(zip(model.outputs, placed[len(model.inputs) :], strict=True))
        self._check_labels(answered)
        given = {
            name: as_dtype(array, model.dtypes[name], self.name)
            for name, array in zip(model.inputs, placed, strict=False)
        }
        return replace(named, inputs=given, outputs=answered)

    def under(
        self, inputs: Sequence[str], outputs: Sequence[str], ordered: bool = True
    ) -> "Reference":
        """The reference under other names; `taken_as` tells of those that were taken in order.

        Raises:
            ValueError: If it has more or fewer, or only some of the names.
        """
        given, of_inputs = matched(self.inputs, inputs, "inputs", self.name, ordered)
        answered, of_outputs = matched(self.outputs, outputs, "outputs", self.name, ordered)
        pairs = of_inputs + of_outputs
        before = {name: theirs for theirs, name in self.taken_as}
        again = {theirs for theirs, _ in pairs}
        taken_as = (
            *(pair for pair in self.taken_as if pair[1] not in again),
            *((before.get(theirs, theirs), name) for theirs, name in pairs),
        )
        return replace(self, inputs=given, outputs=answered, taken_as=taken_as)

    def _check_labels(self, outputs: Mapping[str, np.ndarray]) -> None:
        if self.labels is None:
            return
        classes = max(class_count(value) for value in outputs.values())
        if not classes:
            shapes = {name: value.shape for name, value in outputs.items()}
            raise ValueError(
                "`labels` are for classifiers, which have an output (N, classes), or (N, 1) for "
                f"two; leave them out. Received: {self.name!r} with labels for {shapes}"
            )
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(
                f"`labels` must be classes of the model, 0 to {classes - 1}. Received: "
                f"{self.name!r} with labels from {self.labels.min()} to {self.labels.max()}"
            )


Side = Model | Reference


def load_reference(path: str | os.PathLike[str]) -> Reference:
    """Reads a reference.

    Args:
        path: An `.npz` file with `inputs` or `inputs.NAME`, `outputs` or `outputs.NAME`, and, if
            known, `labels` and `layers.MODULE.PATH`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, or its arrays do not belong together.
    """
    return as_reference(load_arrays(path), source_name(path))


def as_reference(arrays: Mapping[str, np.ndarray], name: str) -> Reference:
    """The reference that arrays are, by the keys of such a file.

    Raises:
        ValueError: If they do not belong together.
    """
    inputs, outputs, layers = (of_group(arrays, key) for key in ("inputs", "outputs", "layers"))
    if not inputs or not outputs:
        raise ValueError(
            "A reference needs the arrays inputs and outputs, or inputs.NAME and outputs.NAME for "
            f"each. Received: {name!r} with {', '.join(sorted(arrays)) or 'none'}"
        )
    labels = arrays.get("labels")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise ValueError(
            "`labels` must be integers of shape (N,), the true classes. "
            f"Received: {name!r} with labels of shape {labels.shape}, dtype {labels.dtype}"
        )
    counts = {}
    for key, value in arrays.items():
        group = key.partition(".")[0]
        numeric = value.dtype.kind in "fiub" and value.ndim > 0
        # A masked logit is an infinity, and equals one.
        if group == "inputs" or (group == "outputs" and not numeric):
            finite_numbers(value, key, name)
        if group in ("inputs", "outputs", "labels", "layers") and value.ndim:
            counts[key] = len(value)
    if len(set(counts.values())) != 1:
        raise ValueError(
            "All arrays of a reference must have the same number of samples. "
            f"Received: {name!r} with {dict(list(counts.items())[:6])}"
        )
    return Reference(
        {key: numbers(value) for key, value in inputs.items()},
        labels=labels,
        layers={key: value.astype("float32") for key, value in layers.items()},
        outputs={key: numbers(value) for key, value in outputs.items()},
        name=name,
    )
