"""What sides are given: data, random numbers, or a reference's inputs with what it answers."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from converters.data.layout import Layout, Shape, as_dtype, finite_numbers, fitted, layout_of
from converters.data.npz import load_arrays, matched, of_group, source_name
from converters.runtime import RunResult
from converters.tflite.flatbuffer import Tensor
from converters.verify.outputs import class_count, count_correct
from converters.verify.sides import Arrays, Block, FileSide, LeftOutError, Model, numbers
from converters.verify.targets import Target

Kind = Literal["reference", "given", "calibration", "example", "random"]
# Samples of random numbers where there is no data.
RANDOM_SAMPLES = 4
# Numbers of all of them together: a quarter of a gigabyte.
_MOST_RANDOM = 1 << 26
DEFAULT_SIZE = (224, 224)
_PIXELS = (0, 255)


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
        outputs: What a reference answers, by output name; empty for others.
        name: What they are called in messages.
        taken_as: Their names of inputs and outputs and the model's for each, where these are others
            and the arrays were taken in order.
        arranged: Whether the arrays are known to be in the model's layout.
    """

    inputs: Mapping[str, np.ndarray]
    kind: Kind
    labels: np.ndarray | None = None
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = "samples"
    taken_as: tuple[tuple[str, str], ...] = ()
    arranged: bool = False

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of them: how they were matched."""
        told = ", ".join(f"{theirs} as {ours}" for theirs, ours in self.taken_as)
        start = f"The names in {self.name} are not the model's; its arrays were taken in order"
        return (f"{start}: {told}",) if any(theirs for theirs, _ in self.taken_as) else ()

    def first(self, count: int) -> tuple[np.ndarray, ...]:
        """The first ones, in the order of the inputs."""
        return tuple(array[:count] for array in self.inputs.values())

    def fitted(self, model: Model) -> Self:
        """The samples under the names, and in the layout and the dtypes, of a model."""
        named = self.under(list(model.inputs), list(model.outputs), model.ordered)
        ends = [(named.inputs[n], shape, f"inputs.{n}") for n, shape in model.inputs.items()]
        ends += [(v, model.outputs[n], f"outputs.{n}") for n, v in named.outputs.items()]
        # What fits in one layout only decides for the rest.
        told = {layout_of(array, shape) for array, shape, _ in ends} - {None}
        layout: Layout | None = told.pop() if len(told) == 1 else None
        # The layout is one of maps; what else there is finds its own.
        placed = []
        for array, shape, key in ends:
            known = "model" if self.arranged else layout if array.ndim == 4 else None
            placed.append(fitted(array, shape, key, self.name, known))
        given = {
            name: as_dtype(array, model.dtypes[name], self.name)
            for name, array in zip(model.inputs, placed, strict=False)
        }
        answered = dict(zip(named.outputs, placed[len(given) :], strict=True))
        return replace(named, inputs=given, outputs=answered)

    def under(self, inputs: Sequence[str], outputs: Sequence[str], ordered: bool = True) -> Self:
        """The samples under other names; `taken_as` tells of those that were taken in order."""
        given, pairs = matched(self.inputs, inputs, "inputs", self.name, ordered)
        answered = self.outputs
        if answered:
            answered, of_outputs = matched(answered, outputs, "outputs", self.name, ordered)
            pairs += of_outputs
        return replace(self, inputs=given, outputs=answered, taken_as=self.taken_as + pairs)


@dataclass(frozen=True)
class Reference(Samples):
    """Samples, and what a model answered: a side whose answers are there already.

    Attributes:
        modules: The path of the module that a layer of the model was, by the layer's name, as a
            port report gives it. Layers that are not among them go by their names.
    """

    kind: Kind = "reference"
    name: str = "reference"
    modules: Mapping[str, str] = field(default_factory=dict)
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
        right = self.correct
        if right is None or self.labels is None:
            return super().notes
        commonest = int(np.unique(self.labels, return_counts=True)[1].max())
        doubt = (
            f"The reference itself is right on {right} of {len(self.labels)} labels, and the "
            f"commonest label is right on {commonest}: they may be in another order, or numbered "
            "otherwise"
        )
        return (*super().notes, doubt) if right < commonest else super().notes

    def fitted(self, model: Model) -> Self:
        """The reference fitted to a model, whose classes its labels must be."""
        found = super().fitted(model)
        if found.labels is None:
            return found
        least, most = found.labels.min(), found.labels.max()
        classes = max(map(class_count, found.outputs.values()))
        if least < 0 or most >= classes:
            shapes = {name: value.shape for name, value in found.outputs.items()}
            known = f"0 to {classes - 1}" if classes else "of which it has none; leave them out"
            raise ValueError(
                f"`labels` must be classes of an output (N, classes), or (N, 1) for two, {known}. "
                f"Received: {self.name!r} with labels from {least} to {most} for {shapes}"
            )
        return found

    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the one input, if it is of maps; of the likelier of its layouts."""
        shapes = [value.shape for value in self.inputs.values()]
        if len(shapes) != 1 or len(shapes[0]) != 4:
            return None
        _, first, second, third = shapes[0]
        # Maps are square more often than not, and PyTorch's layout comes first.
        last = first == second != third or (second != third and third in (1, 3, 4))
        return (first, second) if last else (second, third)


Side = Model | Reference


def load_reference(path: str | os.PathLike[str]) -> Reference:
    """Reads a reference, an `.npz` file of the keys that docs/references.md explains."""
    return as_reference(load_arrays(path), source_name(path))


def load_samples(path: str | os.PathLike[str]) -> Samples:
    """Reads what models are given: such a file, of which inputs and layers are taken."""
    name = source_name(path)
    return Samples(kind="given", name=name, **_groups(load_arrays(path), name, "inputs", "layers"))


def as_reference(arrays: Mapping[str, np.ndarray], name: str) -> Reference:
    """The reference that arrays are, by the keys of such a file."""
    groups = _groups(arrays, name, "inputs", "outputs", "layers", "labels")
    labels = groups.pop("labels").get("")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise ValueError(
            "`labels` must be integers of shape (N,), the true classes. "
            f"Received: {name!r} with labels of shape {labels.shape}, dtype {labels.dtype}"
        )
    return Reference(name=name, labels=labels, **groups)


def _groups(arrays: Mapping[str, np.ndarray], name: str, *wanted: str) -> dict[str, Any]:
    """The groups that are wanted of a file's arrays, each by name, as samples hold them."""
    groups = {group: of_group(arrays, group) for group in wanted}
    needed = [group for group in ("inputs", "outputs") if group in wanted]
    if not all(map(groups.__getitem__, needed)):
        raise ValueError(
            f"The file must have the arrays {' and '.join(needed)}, or {needed[0]}.NAME for each. "
            f"Received: {name!r} with {', '.join(sorted(arrays)) or 'none'}"
        )
    counts = {}
    for group, members in groups.items():
        for member, value in members.items():
            key = f"{group}.{member}" if member else group
            # A masked logit is an infinity, and equals one.
            masked = group == "outputs" and value.dtype.kind in "fiub" and value.ndim > 0
            if group in needed and not masked:
                finite_numbers(value, key, name)
            if value.ndim:
                counts[key] = len(value)
            if group in ("outputs", "layers"):
                members[member] = numbers(value)
    if len(set(counts.values())) != 1:
        raise ValueError(
            "All arrays of a file must have the same number of samples. "
            f"Received: {name!r} with {dict(list(counts.items())[:6])}"
        )
    return groups


def common_samples(
    a: Side, b: Side, path: str | None, input_size: tuple[int, int] | None
) -> tuple[Model, Side, Samples]:
    """A model, what it is compared with, fitted to it, and what both are given."""
    if isinstance(a, Reference):
        a, b = b, a
    if isinstance(a, Reference):
        raise ValueError(
            "At least one side must be a model, a .keras or .tflite file. "
            f"Received: {b.name!r} and {a.name!r}"
        )
    if isinstance(b, Reference) and path is not None:
        raise ValueError(
            "A reference has its inputs; leave `inputs` out, or compare two models. "
            f"Received: {b.name!r} and `inputs` {path}"
        )
    b = b.fitted(a)
    if isinstance(b, Reference):
        return a, b, b
    # The shape of each input that both take, the batch open.
    shapes = [
        (None, *(y if x is None else x for x, y in zip(one[1:], other[1:], strict=True)))
        for one, other in zip(a.inputs.values(), b.inputs.values(), strict=True)
    ]
    if path is not None:
        both = replace(a, inputs=dict(zip(a.inputs, shapes, strict=True)))
        return a, b, load_samples(path).fitted(both)
    filled = [_filled(shape, input_size or DEFAULT_SIZE) for shape in shapes]
    return a, b, random_samples(a, b, filled)


def random_samples(a: Model, b: Model, shapes: Sequence[tuple[int, ...]]) -> Samples:
    """Random inputs that both models take, of these shapes without the samples."""
    if sum(map(math.prod, shapes)) * RANDOM_SAMPLES > _MOST_RANDOM:
        raise ValueError(
            "Inputs as large as these are not made of random numbers; give some with `inputs`. "
            f"Received: shapes {', '.join(map(str, shapes))}"
        )
    rng = np.random.default_rng(0)
    arrays = {}
    for sizes, *names in zip(shapes, a.inputs, b.inputs, strict=True):
        ends = list(zip((a, b), names, strict=True))
        whole = [dtype for side, name in ends if "float" not in (dtype := side.dtypes[name])]
        steps = [tensor for end in ends if (tensor := _quantized(*end)) is not None]
        shape = (RANDOM_SAMPLES, *sizes)
        if steps and not whole:
            arrays[names[0]] = _in_range(rng, shape, steps[0])
        else:
            arrays[names[0]] = _draw(rng, shape, whole[0] if whole else "float32")
    return Samples(arrays, "random")


def _filled(shape: Shape, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of a random sample: open sizes of images are those asked for."""
    image = len(shape) == 4
    whole = [n or size[i] if image and i < 2 else n for i, n in enumerate(shape[1:])]
    if None in whole:
        raise ValueError(
            "Open dimensions that are no image's have no size of random numbers; give some with "
            f"`inputs`. Received: an input of shape {shape}"
        )
    return tuple(n for n in whole if n is not None)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random values as an input of the dtype has them: standard normal floats, or pixels.

    Integers of 8 bits are all that there are, negative ones too.
    """
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" not in dtype:
        drawn = np.empty(shape, "float32")
        for number in range(len(drawn)):  # one at a time is in memory as float64
            drawn[number] = rng.normal(size=shape[1:])
        return drawn
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if limits.bits == 8 else _PIXELS
    return rng.integers(low, high, shape, dtype, endpoint=True)


def _quantized(side: Model, name: str) -> Tensor | None:
    """The integers that an input of a file of integers becomes, which have a range."""
    if not isinstance(side, FileSide):
        return None
    graph = side.file.graph
    tensor = graph.given[name]
    if tensor.scales:
        return tensor
    readers = [o for o in graph.operators if o.name == "QUANTIZE" and tensor in o.inputs]
    steps = [reader.outputs[0] for reader in readers if len(reader.outputs[0].scales) == 1]
    return steps[0] if steps else None


def _in_range(rng: np.random.Generator, shape: tuple[int, ...], tensor: Tensor) -> np.ndarray:
    """Random numbers in the range of integers, and such that these hold them exactly.

    Images are smooth: normal numbers on a grid of 4 x 4, stretched to their size. Numbers without a
    neighbourhood, or such as fill the range, take the layers behind beyond their own ranges.
    """
    limits = np.iinfo(tensor.dtype.lower())
    ends = tensor.dequantized(np.array([limits.min, limits.max]))
    image = len(shape) == 4
    numbers = rng.normal(size=(shape[0], 4, 4, shape[3]) if image else shape)
    if image:
        # How near each place of a line is to each of the four.
        places = (np.linspace(0, 3, size)[:, None] for size in shape[1:3])
        rows, columns = (np.maximum(1 - np.abs(line - np.arange(4)), 0) for line in places)
        numbers = np.einsum("hi,wj,nijc->nhwc", rows, columns, numbers)
    spread = np.ptp(ends) / (4 if image else 8)
    return tensor.dequantized(tensor.quantized(ends.mean() + spread * numbers))
