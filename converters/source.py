"""What is converted: a checkpoint, a program or a Keras model, and the Keras model that it becomes.

Keras is imported inside functions, once TensorFlow is started.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.checkpoint import load_checkpoint
from converters.data.layout import fits
from converters.formats import format_of
from converters.verify.samples import Reference, as_reference

if TYPE_CHECKING:
    import keras

    from converters.program import Program
    from converters.pytorch.graph.report import EndRecord


@dataclass(frozen=True)
class Porting:
    """How a checkpoint goes into a model; as the options of the command.

    Attributes:
        model: The user's architecture, as in `converters.architecture.resolve`.
        sites: Where the ULSAM of a recognised network are, likewise.
        prefix: The module within the checkpoint.
        entry: Which state dict of a training checkpoint.
        name_map: Names of Keras layers to paths of PyTorch modules; `None` for a path leaves the
            layer as it is.
        ignore_keys: Shell patterns of keys that are left out on purpose.
    """

    model: str | None = None
    sites: str | None = None
    prefix: str = ""
    entry: str | None = None
    name_map: Mapping[str, str | None] | None = None
    ignore_keys: Sequence[str] = ()

    def refuse(self, source: str, what: str) -> None:
        """Raises ValueError if anything is asked for; `what` says why it cannot be."""
        for name, value in vars(self).items():
            if value:
                raise ValueError(
                    f"`{name}` is for checkpoints, and {what}; leave it out. Received: {source!r}"
                )


@dataclass(frozen=True)
class Made:
    """A Keras model, and where it came from.

    Attributes:
        model: The model, with its weights.
        description: What it is, in words.
        port_report: Where every key went, as JSON takes it; `None` without PyTorch.
        keys: Number of tensors that were accounted for.
        reference: What PyTorch answered, in the layout of the model where that is known.
        examples: Inputs that came with the source, by name, in the layout of the model.
        warnings: What is to be known of it, one line each.
    """

    model: "keras.Model"
    description: str
    port_report: dict[str, Any] | None = None
    keys: int = 0
    reference: Reference | None = None
    examples: Mapping[str, np.ndarray] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Something that can be converted, read without TensorFlow.

    Attributes:
        path: Its file.
        reference: What PyTorch answers, where the file holds it.
    """

    path: str
    reference: Reference | None = None

    def asked(self, reference: Reference | None) -> Reference:
        """What PyTorch answers now, to the inputs of a reference or to those that came with it.

        Raises:
            ValueError: If this is no program, or PyTorch cannot run it.
        """
        raise ValueError(
            "`check_with_torch` runs a program (.pt2) in PyTorch; of anything else record what "
            f"PyTorch answers with converters.record. Received: {self.path!r}"
        )

    def make(
        self, porting: Porting, size: tuple[int, int] | None, reference: Reference | None
    ) -> Made:
        """The Keras model.

        Args:
            porting: How a checkpoint goes into it.
            size: Height and width where they are open.
            reference: What PyTorch answers.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If there is no such model, or it does not fit.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class _KerasFile(Source):
    def make(
        self, porting: Porting, size: tuple[int, int] | None, reference: Reference | None
    ) -> Made:
        from converters.architecture import of_keras_file

        architecture = of_keras_file(self.path)
        return Made(architecture.model, architecture.description, reference=reference)


@dataclass(frozen=True)
class _Checkpoint(Source):
    state: Mapping[str, np.ndarray] = field(kw_only=True)

    def make(
        self, porting: Porting, size: tuple[int, int] | None, reference: Reference | None
    ) -> Made:
        from converters.architecture import resolve
        from converters.pytorch import modules_of, port_weights

        architecture = resolve(
            self.state,
            source=porting.model,
            input_size=size,
            prefix=porting.prefix,
            sites=porting.sites,
        )
        report = port_weights(
            self.state,
            architecture.target,
            prefix=architecture.prefix,
            name_map=porting.name_map or architecture.name_map,
            ignore_keys=porting.ignore_keys,
        )
        return Made(
            architecture.model,
            architecture.description,
            report.to_dict(),
            len(report.sources),
            reference and replace(reference, modules=modules_of(report)),
        )


@dataclass(frozen=True)
class _ProgramFile(Source):
    program: "Program" = field(kw_only=True)

    def asked(self, reference: Reference | None) -> Reference:
        from converters.recording.asking import ask_program

        names = [end.name for end in self.program.inputs]
        name = "PyTorch's answers"
        if reference is None:
            inputs = dict(self.program.examples)
            answers = ask_program(self.path, self.program, inputs)
            return Reference(inputs, outputs=answers, name=name)
        named = reference.under(names, list(reference.outputs))
        answers = ask_program(self.path, self.program, named.inputs)
        return replace(named, outputs=answers, name=name)

    def make(
        self, porting: Porting, size: tuple[int, int] | None, reference: Reference | None
    ) -> Made:
        from converters.pytorch.graph import convert_program

        model, report = convert_program(self.program)
        examples = self.program.examples
        arranged = {}
        for end, record in zip(self.program.inputs, report.inputs, strict=False):
            if end.name in examples:
                arranged[record.name] = _arranged(examples[end.name], record)
        return Made(
            model,
            f"the program of {Path(self.path).name} (PyTorch {self.program.torch_version})",
            report.to_dict(),
            len(report.weights),
            reference=reference and _in_layout(reference, report.inputs, report.outputs),
            examples=arranged if len(arranged) == len(report.inputs) else {},
            warnings=report.warnings,
        )


def read_source(path: str, porting: Porting) -> Source:
    """Reads what is to be converted, told by its content.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is nothing that can be converted, or `porting` is not for it.
    """
    with open(path, "rb") as file:
        kind = format_of(file)
    if kind == "keras" or Path(path).suffix.lower() == ".h5":
        porting.refuse(path, "a Keras model has its architecture and weights")
        return _KerasFile(path)
    if kind == "program":
        from converters.program import read_program

        porting.refuse(path, "a program says all that is computed")
        program = read_program(path)
        arrays = dict(program.reference)
        reference = as_reference(arrays, Path(path).name) if arrays else None
        return _ProgramFile(path, reference, program=program)
    return _Checkpoint(path, state=load_checkpoint(path, entry=porting.entry, checksums=True))


def _in_layout(
    reference: Reference, inputs: "Sequence[EndRecord]", outputs: "Sequence[EndRecord]"
) -> Reference:
    """A reference in PyTorch's layout in that of the model, whose axes the program tells.

    One that is not in the program's shapes is left as it is: it may be in Keras's layout.
    """
    named = reference.under([end.name for end in inputs], [end.name for end in outputs])
    arrays = [named.inputs[end.name] for end in inputs]
    arrays += [named.outputs[end.name] for end in outputs]
    shapes = [end.shape[1:] for end in (*inputs, *outputs)]
    if not all(fits(array.shape[1:], shape) for array, shape in zip(arrays, shapes, strict=True)):
        return reference
    return replace(
        named,
        inputs={end.name: _arranged(named.inputs[end.name], end) for end in inputs},
        outputs={end.name: _arranged(named.outputs[end.name], end) for end in outputs},
        arranged=True,
    )


def _arranged(array: np.ndarray, end: "EndRecord") -> np.ndarray:
    if array.ndim != len(end.order):
        return array
    return np.ascontiguousarray(array.transpose(end.order))
