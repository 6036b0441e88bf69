"""What is compared: a Keras model, a `.tflite` file, or what else answers to samples.

Each says what it takes and gives, and answers on a target: with its outputs, and with the attention
of its ULSAM blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np

from converters.data.layout import Shape, as_dtype, fits
from converters.runtime import RunResult
from converters.tflite.flatbuffer import Tensor, TfliteFile
from converters.tflite.marks import marked_attention
from converters.tflite.options import INTEGER_PRECISIONS
from converters.tflite.precision import precision_of, why_not_on_gpu
from converters.tflite.sites import Site, find_sites
from converters.tflite.tap import with_outputs
from converters.verify.limits import PRECISIONS
from converters.verify.targets import TENSORFLOW, Named, Runner, Target, first_samples, in_batches

BATCH = 32
# What inputs and outputs can be of, by its name in NumPy.
_DTYPES = {
    "bool", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "uint16", "uint32",
    "uint64", "uint8",
}  # fmt: skip
_OF_DTYPE = {"float16": "float16", "bfloat16": "dynamic_range"}  # as many digits

# One for each input, the samples first.
Arrays = Sequence[np.ndarray]


class LeftOutError(Exception):
    """Why the attention cannot be compared."""


class NotRunError(Exception):
    """Why a side did not run."""


@dataclass(frozen=True)
class Block:
    """The tensors of one ULSAM block on some samples.

    Attributes:
        name: The layer; empty where a file does not tell it.
        attention: After the softmax, `(N, H, W, g)`.
        inside: Of a file of integers, what is around it: `inputs`, `scores`, `outputs`.
        site: Where it is in a file.
    """

    name: str
    attention: np.ndarray
    inside: Mapping[str, np.ndarray] = field(default_factory=dict)
    site: Site | None = None


@dataclass(frozen=True)
class Model:
    """A side that computes; once for the same samples.

    Attributes:
        name: What it is called in tables and messages.
        inputs: Input shapes by name, the batch first; `None` stands for any size.
        dtypes: The dtype of each input, by name, in its own order; `"float32"` for one of
            quantized numbers.
        outputs: Output shapes by name; the attention that a file gives beside is not among them.
        precision: How exactly it computes, one of `PRECISIONS`.
        ordered: Whether the names are in an order that the user knows.
        notes: Which ends were taken for which of another model's, where names do not say.
    """

    name: str
    inputs: Mapping[str, Shape]
    dtypes: Mapping[str, str]
    outputs: Mapping[str, Shape]
    precision: str = "float32"
    ordered: ClassVar[bool] = True
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    _kept: dict[str, Any] = field(default_factory=dict, kw_only=True, repr=False)

    def answer(self, arrays: Arrays, target: Target) -> RunResult:
        """The outputs on some samples."""
        result = self._once(target.name, arrays, lambda: self._run(arrays, target))
        if result.outputs is None:
            return result
        return replace(result, outputs={name: result.outputs[name] for name in self.outputs})

    def blocks(self, arrays: Arrays, target: Target) -> list[Block]:
        """The ULSAM blocks whose maps have more than one position.

        LeftOutError tells that it does not show them, NotRunError that it does not run.
        """
        raise NotImplementedError

    def samples(self, target: Target, count: int) -> int:
        """How many of `count` samples it is given on a target; NotRunError if none."""
        return count

    def fitted(self, other: "Model") -> Self:
        """This model with its inputs and outputs in the order of another's.

        They are known by their names. Names that differ are no matter where the shapes leave one
        way to pair them; else they are taken in order, if the shapes agree so, and if it is an
        order that users know. Where there is a doubt they are refused.
        """
        inputs, of_inputs = self._ordered(other, "inputs")
        outputs, of_outputs = self._ordered(other, "outputs")
        for one, same in zip(other.inputs.values(), inputs.values(), strict=True):
            if not fits(one[1:], same[1:]):
                raise ValueError(
                    "Both models must take inputs of one shape. "
                    f"Received: {other.name!r} with {one} and {self.name!r} with {same}"
                )
        return replace(self, inputs=inputs, outputs=outputs, notes=of_inputs + of_outputs)

    def _ordered(
        self, other: "Model", what: Literal["inputs", "outputs"]
    ) -> tuple[Mapping[str, Shape], tuple[str, ...]]:
        """Its ends in the order of another model's, and a note where names do not tell it."""
        ours, theirs = getattr(other, what), getattr(self, what)
        if set(ours) == set(theirs):
            return {name: theirs[name] for name in ours}, ()
        if len(ours) == len(theirs) == 1:
            return theirs, ()
        pairs = list(zip(ours, theirs, strict=False))
        fitting = [[n for n in theirs if fits(one[1:], theirs[n][1:])] for one in ours.values()]
        only = [names[0] for names in fitting if len(names) == 1]
        if len(set(only)) == len(ours) == len(theirs):
            found, how = only, "by their shapes"
        elif (
            len(ours) == len(theirs)
            and (self.ordered and other.ordered)
            and all(one == same for one, same in pairs if one in theirs or same in ours)
            and all(same in names for (_, same), names in zip(pairs, fitting, strict=True))
        ):
            found, how = list(theirs), "in order"
        else:
            raise ValueError(
                f"Both models must have the same {what}, under the same names where shapes and "
                f"order do not tell which is which; rename them. Received: {other.name!r} with "
                f"{dict(ours)} and {self.name!r} with {dict(theirs)}"
            )
        told = ", ".join(f"{same} as {one}" for one, same in zip(ours, found, strict=True))
        note = f"The {what} of {self.name} have other names and were taken {how}: {told}"
        return {name: theirs[name] for name in found}, (note,)

    def _run(self, arrays: Arrays, target: Target) -> RunResult:
        """The outputs, and whatever else is given beside them."""
        raise NotImplementedError

    def _named(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Samples under the names and in the dtypes of the inputs."""
        return {
            name: as_dtype(array, self.dtypes[name], "inputs")
            for name, array in zip(self.inputs, arrays, strict=True)
        }

    def _once(self, what: str, arrays: Arrays, compute: Callable[[], RunResult]) -> RunResult:
        """What is computed of samples, or the first of it if it was of more of the same."""
        kept, result = self._kept.get(what, (None, None))
        if kept is None or not all(map(_begins_with, kept, arrays)):
            # The arrays are kept, so that no other gets their place in memory.
            kept, result = self._kept[what] = arrays, compute()
        return first_samples(result, len(arrays[0]), len(kept[0]))


def _begins_with(whole: np.ndarray, part: np.ndarray) -> bool:
    """Whether an array is the first samples of another: the same memory, read in the same way."""
    one, other = ((a.__array_interface__["data"], a.strides, a.dtype) for a in (whole, part))
    return one == other and whole.shape[1:] == part.shape[1:] and len(whole) >= len(part)


@dataclass(frozen=True)
class KerasSide(Model):
    """A Keras model.

    Attributes:
        model: The model.
        gives: The names of its outputs, as they are flattened.
    """

    model: Any = field(kw_only=True)
    gives: tuple[str, ...] = field(kw_only=True)

    def answer(self, arrays: Arrays, target: Target) -> RunResult:
        return super().answer(arrays, TENSORFLOW)

    def blocks(self, arrays: Arrays, target: Target) -> list[Block]:
        from ulsam_keras import attention_maps

        def maps(packed: Any, batch: int) -> dict[str, np.ndarray]:
            try:
                return attention_maps(self.model, packed, batch)
            except ValueError as error:
                reason = str(error).partition(" Received: ")[0]
                raise LeftOutError(f"{self.name}: {reason.rstrip('.')}") from error

        found = self._once("maps", arrays, lambda: self._computed(arrays, maps)).outputs or {}
        return [Block(name, value) for name, value in found.items() if _spatial(value)]

    def _run(self, arrays: Arrays, target: Target) -> RunResult:
        import keras

        from converters.tflite.quiet import without_native_logs

        def predicted(packed: Any, batch: int) -> dict[str, np.ndarray]:
            with without_native_logs():
                outputs = keras.tree.flatten(self.model.predict(packed, batch, verbose=0))
            return {n: numbers(np.asarray(v)) for n, v in zip(self.gives, outputs, strict=True)}

        return self._computed(arrays, predicted)

    def _computed(
        self, arrays: Arrays, compute: Callable[[Any, int], dict[str, np.ndarray]]
    ) -> RunResult:
        """What is computed of the first argument of the model's call and a batch size."""
        import keras

        from converters.tflite.inputs import call_argument

        named, count = self._named(arrays), len(arrays[0])
        # Batches of one size: for another the graph is traced again.
        batch = self.model.inputs[0].shape[0] or -(-count // -(-count // BATCH))

        def computed(whole: Named) -> RunResult:
            values = [whole[name] for name in self.dtypes]
            try:
                packed = keras.tree.pack_sequence_as(call_argument(self.model), values)
                return RunResult("ok", compute(packed, batch))
            except LeftOutError:
                raise
            # Whatever a layer makes of values that it is not for: an embedding of large numbers.
            except Exception as error:
                told = ", ".join(f"{name} of {value.dtype}" for name, value in named.items())
                raise ValueError(
                    "The Keras model cannot run on these inputs; give some that it takes, with "
                    f"`inputs` or `reference`. Received: {told}, {type(error).__name__}: "
                    f"{_reason(error)}"
                ) from error

        return in_batches(named, batch, computed)


@dataclass(frozen=True)
class FileSide(Model):
    """A `.tflite` file.

    Attributes:
        file: The file.
        runner: What runs it.
        around: Whether its blocks are measured with the tensors around the attention too, which
            tell where it is lost.
    """

    file: TfliteFile = field(kw_only=True)
    runner: Runner = field(kw_only=True)
    around: bool = field(kw_only=True)
    ordered: ClassVar[bool] = False  # a signature lists its names in alphabetical order

    def refuse_off_gpu(self) -> None:
        """Raises ValueError if no GPU takes the file."""
        if why := why_not_on_gpu(self.file.graph):
            raise ValueError(
                f"With `require_gpu` files must be for the GPU, and {why}. Received: {self.name!r}"
            )

    def samples(self, target: Target, count: int) -> int:
        if target.accelerator == "gpu" and (why := why_not_on_gpu(self.file.graph)):
            raise NotRunError(f"{self.name} not run on the GPU: {why}")
        if some := self.runner.samples(self.file, target, count):
            return some
        raise NotRunError(f"{target.name} was not run: one sample would last beyond the time limit")

    def blocks(self, arrays: Arrays, target: Target) -> list[Block]:
        graph, inputs = self.file.graph, self._named(arrays)
        sites, parts, tapped, file = self._opened
        if not sites:
            return []
        result = self.runner.run(file, inputs, replace(target, repeats=0))
        if result.outputs is None:
            raise NotRunError(result.problem)
        values = {t: t.dequantized(t.quantized(inputs[n])) for n, t in graph.named_inputs.items()}
        values |= {t: result.outputs[n] for n, t in (graph.named_outputs | tapped).items()}
        inside = ({part: values[getattr(site, part)] for part in parts} for site in sites)
        return [
            Block("", values[site.attention] * site.scale, around, site)
            for site, around in zip(sites, inside, strict=True)
        ]

    @cached_property
    def _opened(self) -> tuple[list[Site], Sequence[str], dict[str, Tensor], TfliteFile]:
        """Its sites, what is measured around them, and the file with all that as outputs."""
        graph = self.file.graph
        sites = [site for site in find_sites(graph) if _spatial(site.attention)]
        if sites and not graph.named_inputs:
            raise LeftOutError(f"{self.name} has no signature")
        parts = ("inputs", "scores", "outputs") if self.around else ()
        # One name each: what a block gives, the next may take, and the GPU refuses files that give
        # a tensor twice. And it computes wrongly where an output is the file's own input.
        ends = {*graph.named_inputs.values(), *graph.named_outputs.values()}
        inner = dict.fromkeys(getattr(s, part) for s in sites for part in ("attention", *parts))
        tapped = {f"inner{n}": tensor for n, tensor in enumerate(inner) if tensor not in ends}
        return sites, parts, tapped, with_outputs(self.file, tapped)

    def _run(self, arrays: Arrays, target: Target) -> RunResult:
        return self.runner.run(self.file, self._named(arrays), target)


def keras_side(model: Any, name: str, output_names: Sequence[str] = ()) -> KerasSide:
    """A Keras model as a side, under the names that an exported file of it has.

    Those of its outputs may be given, in the order in which they are flattened.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "A Keras model to be compared must know its inputs: build it with keras.Input. "
            f"Received: {name!r}"
        )
    import keras

    from converters.tflite import export
    from converters.tflite.inputs import dtype_of, signature_names
    from converters.tflite.rebuild import layers_of

    takes = dict(
        zip(signature_names([t.name for t in model.inputs], "input"), model.inputs, strict=True)
    )
    # A Sequential model that was not called has no `output`.
    sequential = isinstance(model, keras.Sequential)
    structure = model.outputs[0] if sequential else model.output
    called = output_names or export.output_names(model, structure)
    precisions = {_OF_DTYPE.get(layer.compute_dtype, "float32") for layer in layers_of(model)}
    return KerasSide(
        name,
        {name: tuple(tensor.shape) for name, tensor in takes.items()},
        {name: dtype_of(tensor) for name, tensor in takes.items()},
        {n: tuple(t.shape) for n, t in zip(called, model.outputs, strict=True)},
        max(precisions, key=PRECISIONS.index),
        model=model,
        gives=tuple(called),
    )


def file_side(file: TfliteFile, name: str, runner: Runner) -> FileSide:
    """A `.tflite` file as a side; of a file without a signature by the names of its tensors."""
    graph = file.graph
    inputs, outputs = graph.given, graph.answered
    attention, precision = marked_attention(file), precision_of(graph)
    ends = (*inputs.items(), *outputs.items())
    strange = [
        f"{end!r} {t.dtype.lower()} {t.shape} of {len(t.scales)} scales"
        for end, t in ends
        if t.dtype.lower() not in _DTYPES or 0 in t.shape or t.scales[1:] or not end.isprintable()
    ]
    if not inputs or not outputs or strange:
        raise ValueError(
            "A file to be compared has inputs and outputs of real numbers, each tensor with one "
            "scale and a name that can be printed; convert it again. Received: "
            + ", ".join((f"{name!r} with {len(inputs)} inputs, {len(outputs)} outputs", *strange))
        )
    if len(inputs) < len(graph.inputs) or len(outputs) < len(graph.outputs):
        raise ValueError(
            "A file whose tensors have one name, or that has outputs beside its signature, cannot "
            f"be compared whole; convert it with a signature. Received: {name!r} with inputs "
            f"{[t.name for t in graph.inputs]} and outputs {[t.name for t in graph.outputs]}"
        )
    return FileSide(
        name,
        {n: t.shape[:1] + t.open_shape[1:] for n, t in inputs.items()},
        {n: "float32" if t.scales else t.dtype.lower() for n, t in inputs.items()},
        {n: t.shape[:1] + t.open_shape[1:] for n, t in outputs.items() if n not in attention},
        precision,
        file=file,
        runner=runner,
        around=precision in INTEGER_PRECISIONS,
    )


def numbers(array: np.ndarray) -> np.ndarray:
    """Floats as files take and give them; whole numbers stay what they are."""
    return array if array.dtype.kind in "iub" else array.astype("float32")


def _spatial(attention: np.ndarray | Tensor) -> bool:
    """Whether an attention, `(N, H, W, g)`, has more than one position; the softmax of one is 1."""
    return attention.shape[1:3] != (1, 1)


def _reason(error: Exception) -> str:
    """The line of TensorFlow's many that says what is wrong: the last that names no operation."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in reversed(lines) if line and line[0] != "["), "")
    return said.replace("Received: ", "received ")[:200]
