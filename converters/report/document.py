"""Reports as data: of a conversion, as written to `report.json`, and of a comparison.

docs/report.md explains every field. Imports `data`, `tflite` and `verify`.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from converters.data.calibration import Calibration
from converters.tflite.app_metadata import AppMetadata
from converters.tflite.flatbuffer import Tensor, TfliteFile
from converters.tflite.sites import float_operators
from converters.tflite.static_check import Finding, lint
from converters.verify.compare import Verification
from converters.verify.samples import Reference
from converters.versions import installed

# Raised whenever a field changes its name or its meaning.
SCHEMA = 1
TOOL = "ulsam-keras"


@dataclass(frozen=True)
class End:
    """An input or output of a file.

    Attributes:
        shape: Its shape, the batch first.
        dtype: Its dtype, `"float32"` for example.
        scale: What a step of its integers stands for; `None` for floats and plain integers.
        zero_point: The integer that stands for 0, likewise.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    @classmethod
    def of(cls, tensor: Tensor) -> "End":
        """Describes a tensor."""
        if not tensor.scales:
            return cls(tensor.shape, tensor.dtype.lower())
        return cls(tensor.shape, tensor.dtype.lower(), tensor.scales[0], tensor.zero_points[0])


@dataclass(frozen=True)
class File:
    """A `.tflite` file of the report.

    Attributes:
        name: File name.
        precision: What its weights are stored in.
        size: Size in bytes.
        sha256: Digest of the content.
        operators: Number of LiteRT operators.
        float_operators: Names of the operators that compute in float; all of them in the files
            that are not of integers.
        inputs: What each input takes, by its name.
        outputs: What each output gives, by its name.
        operator_counts: How many operators of each name it has, the most frequent first.
        findings: What some runtimes refuse or compute wrongly, as `ulsam-keras lint` finds it.
    """

    name: str
    precision: str
    size: int
    sha256: str
    operators: int
    float_operators: tuple[str, ...] = ()
    inputs: Mapping[str, "End"] = field(default_factory=dict)
    outputs: Mapping[str, "End"] = field(default_factory=dict)
    operator_counts: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, name: str, precision: str, file: TfliteFile) -> "File":
        """Describes a `.tflite` file."""
        graph = file.graph
        counts = Counter(operator.name for each in file.graphs for operator in each.operators)
        return cls(
            name,
            precision,
            len(file.content),
            hashlib.sha256(file.content).hexdigest(),
            counts.total(),
            tuple(sorted({name for each in file.graphs for name in float_operators(each)})),
            {name: End.of(tensor) for name, tensor in graph.named_inputs.items()},
            {name: End.of(tensor) for name, tensor in graph.named_outputs.items()},
            dict(counts.most_common()),
            tuple(lint(file)),
        )


@dataclass(frozen=True)
class Report:
    """All that a conversion did and measured.

    Attributes:
        source: File name of what was converted.
        architecture: What the Keras model is, in words.
        input_shapes: Static input shapes by signature name.
        output_names: Signature names of the outputs.
        parameters: Number of weights of the Keras model, statistics included.
        port_report: Where every key went and every weight came from; `None` without a checkpoint.
        keys: Number of PyTorch's tensors that were accounted for.
        files: The `.tflite` files.
        verification: What was compared.
        samples: Where the samples came from that everything was compared on.
        reference: What PyTorch answered; `None` if it was not asked.
        calibration: What the ranges of integer activations were taken from; `None` without.
        gpu: Name of the GPU adapter; `None` if there is no Vulkan driver, or none was wanted.
        threads: Number of CPU threads of every run.
        seconds: Time of each stage.
        warnings: What the user should know, one line each.
        app: What the files tell an app: labels, and the mean and deviation of pixels scaled to 0
            to 1; `None` if nothing was said of it.
    """

    source: str
    architecture: str
    input_shapes: Mapping[str, tuple[int, ...]]
    output_names: list[str]
    parameters: int
    port_report: dict[str, Any] | None
    keys: int
    files: list[File]
    verification: Verification
    samples: str
    reference: Reference | None
    calibration: Calibration | None
    gpu: str | None
    threads: int
    seconds: dict[str, float]
    warnings: list[str]
    app: AppMetadata | None = None

    @property
    def passed(self) -> bool:
        """Whether everything that was compared is as near as it should be."""
        return self.verification.passed

    @property
    def reference_correct(self) -> int | None:
        """How many samples the reference is right on; `None` without labels."""
        return None if self.reference is None else self.reference.correct

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        reference, calibration = self.reference, self.calibration
        return _document(
            "conversion",
            self.verification,
            source=self.source,
            architecture=self.architecture,
            input_shapes=self.input_shapes,
            output_names=self.output_names,
            parameters=self.parameters,
            keys=self.keys,
            files=[asdict(file) for file in self.files],
            samples=self.samples,
            reference=reference
            and {
                "name": reference.name,
                "samples": reference.count,
                "labels": reference.labels is not None,
                "correct": self.reference_correct,
                "layers": len(reference.layers),
                "taken_in_order": dict(reference.taken_as),
            },
            calibration=calibration
            and {
                "description": calibration.description,
                "samples": calibration.count,
                "channels": [asdict(channel) for channel in calibration.channels],
                "reference_channels": [asdict(c) for c in calibration.reference_channels],
                "answers": calibration.answers,
            },
            gpu=self.gpu,
            threads=self.threads,
            port_report=self.port_report,
            seconds=self.seconds,
            warnings=self.warnings,
            app=self.app and asdict(self.app),
        )


@dataclass(frozen=True)
class Compared:
    """A comparison of two sides, as `verify` makes it.

    Attributes:
        verification: What was found.
        gpu: Name of the GPU adapter; `None` if there is none, or none was wanted.
        threads: Number of CPU threads of every run.
    """

    verification: Verification
    gpu: str | None
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        first = self.verification.comparisons[0]
        return _document(
            "comparison",
            self.verification,
            names=[first.subject, first.reference],
            precision=first.precision,
            samples=first.data,
            gpu=self.gpu,
        )


def versions() -> dict[str, str | None]:
    """Versions of what took part."""
    packages = ("ulsam-keras", "keras", "tensorflow", "ai-edge-litert")
    return {name: installed(name) for name in packages}


def _document(kind: str, verification: Verification, **fields: Any) -> dict[str, Any]:
    """A report's fields, with what all have; numbers that are not finite are given as words."""
    return _finite(
        {
            "tool": TOOL,
            "schema": SCHEMA,
            "kind": kind,
            "passed": verification.passed,
            "notes": list(verification.notes),
            **fields,
            "comparisons": [
                {
                    **asdict(row),
                    "difference": row.difference,
                    "snr": row.snr,
                    "top1": row.top1,
                    "undecided": row.undecided,
                    "passed": row.passed,
                    "failures": row.failures,
                }
                for row in verification.comparisons
            ],
            "attention": [
                {**asdict(row), "visible": row.visible, "passed": row.passed}
                for row in verification.attention
            ],
            "versions": versions(),
        }
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
