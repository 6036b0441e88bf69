"""The report of a conversion, as written to `report.json`. Imports `fidelity`."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from converters.fidelity import AttentionFidelity
from converters.report.comparison import AttentionComparison, Comparison

if TYPE_CHECKING:
    from converters.tflite.flatbuffer import Tensor

_VERSIONS = ("ulsam-keras", "keras", "tensorflow", "ai-edge-litert")


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
    def of(cls, tensor: "Tensor") -> "End":
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
    """

    name: str
    precision: str
    size: int
    sha256: str
    operators: int
    float_operators: tuple[str, ...] = ()
    inputs: Mapping[str, "End"] = field(default_factory=dict)
    outputs: Mapping[str, "End"] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, precision: str, content: bytes) -> "File":
        """Describes the content of a `.tflite` file."""
        from converters.tflite.flatbuffer import read_graphs
        from converters.tflite.sites import float_operators

        digest = hashlib.sha256(content).hexdigest()
        graphs = read_graphs(content)
        operators = sum(len(graph.operators) for graph in graphs)
        floats = tuple(sorted({name for graph in graphs for name in float_operators(graph)}))
        inputs, outputs = (
            {name: End.of(tensor) for name, tensor in ends.items()}
            for ends in (graphs[0].named_inputs, graphs[0].named_outputs)
        )
        return cls(name, precision, len(content), digest, operators, floats, inputs, outputs)


@dataclass(frozen=True)
class Report:
    """All that a conversion did and measured.

    Attributes:
        checkpoint: File name of the checkpoint.
        architecture: What the Keras model is, in words.
        input_shapes: Static input shapes by signature name.
        output_names: Signature names of the outputs.
        parameters: Number of weights of the Keras model, statistics included.
        port_report: Where every key went and every weight came from.
        files: The `.tflite` files.
        comparisons: What was compared, with limits.
        attention: The attention of each site, likewise.
        fidelity: The attention of each site inside the files of integers, likewise.
        calibration: What the ranges of integer activations were taken from; `None` without.
        gpu: Name of the GPU adapter; `None` if no Vulkan driver was found.
        not_on_gpu: Why files were not run on it, by precision.
        recorded_correct: How many samples the recorded outputs classify right; `None` without.
        real_inputs: Whether the inputs were a recording's rather than noise.
        seconds: Time of each stage.
        warnings: What the user should know, one line each.
    """

    checkpoint: str
    architecture: str
    input_shapes: Mapping[str, tuple[int, ...]]
    output_names: list[str]
    parameters: int
    port_report: dict[str, Any]
    files: list[File]
    comparisons: list[Comparison]
    attention: list[AttentionComparison]
    fidelity: list[AttentionFidelity]
    calibration: str | None
    gpu: str | None
    not_on_gpu: dict[str, str]
    recorded_correct: int | None
    real_inputs: bool
    seconds: dict[str, float]
    warnings: list[str]

    @property
    def holds(self) -> bool:
        """Whether every comparison holds."""
        checks = (self.comparisons, self.attention, self.fidelity)
        return all(check.holds for group in checks for check in group)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON takes it; numbers that are not finite are given as words."""
        document = {
            "holds": self.holds,
            "versions": {name: version(name) for name in _VERSIONS},
            **asdict(self),
        }
        for entry, comparison in zip(document["comparisons"], self.comparisons, strict=True):
            entry["holds"] = comparison.holds
        for entry, site in zip(document["attention"], self.attention, strict=True):
            entry["holds"] = site.holds
        for entry, inside in zip(document["fidelity"], self.fidelity, strict=True):
            entry.update(holds=inside.holds, visible=inside.visible)
        return _finite(document)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
