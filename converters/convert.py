"""From a checkpoint to verified `.tflite` files: the whole way, stage by stage.

TensorFlow and Keras are imported when the first stage needs them.
"""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.checkpoint import load_checkpoint
from converters.fidelity import AttentionFidelity
from converters.output_folder import OutputFolder
from converters.recorded import Recorded, as_dtype, load_recorded
from converters.report.comparison import AttentionComparison, Comparison
from converters.report.document import File, Report
from converters.start import start_tensorflow
from converters.tflite import INTEGER_PRECISIONS
from converters.tflite.flatbuffer import read_graphs
from converters.tflite.precision import why_not_on_gpu
from converters.tflite.quiet import without_native_logs
from converters.verification import (
    CPU,
    Tolerances,
    check_attention,
    check_fidelity,
    check_keras,
    check_tflite,
    find_gpu,
    gpu_targets,
    keras_outputs,
    noise,
)

if TYPE_CHECKING:
    import keras

    from converters.architecture import Architecture
    from converters.tflite import Exporter

PRECISIONS = ("float32", "float16")
# How many of the calibration samples the files of integers are compared on without a recording.
CALIBRATION_CHECKED = 64


@dataclass(frozen=True)
class Request:
    """What `convert` is asked for; the options of `ulsam-keras convert`.

    Attributes:
        checkpoint: The checkpoint file.
        output_dir: Where the files go.
        precisions: Which `.tflite` files to make.
        input_size: Height and width; `None` takes the model's own, or the default.
        reference: An `.npz` recording to compare with; `None` compares Keras and `.tflite` only.
        model: The user's architecture, as in `converters.architecture.resolve`.
        sites: How ambiguous sites are read, as in `converters.architecture.resolve`.
        prefix: The module within the checkpoint.
        entry: Which state dict of a training checkpoint.
        name_map: Names of Keras layers to paths of PyTorch modules.
        name: Stem of the `.tflite` files; `None` takes the checkpoint's.
        with_attention: Whether the files give the attention of every ULSAM as further outputs.
        calibration: A folder of images or an `.npz` file that the ranges of integer activations
            are taken from; needed by, and for, the precisions `int8` and `int16x8`.
        image_mean: What is taken off images of a folder, scaled to 0 to 1, per channel or one.
        image_std: What they are then divided by, likewise.
        attention_form: How the softmax of ULSAM is computed in int8, as `attention` of
            `converters.to_tflite`.
        inference_type: The type of the inputs and outputs of int8 files, as `inference_type` of
            `converters.to_tflite`; those of the other files are float32.
        require_gpu: Whether it is an error that no Vulkan driver is there.
        tolerances: What holds.
    """

    checkpoint: str
    output_dir: str
    precisions: Sequence[str] = PRECISIONS
    input_size: tuple[int, int] | None = None
    reference: str | None = None
    model: str | None = None
    sites: str | None = None
    prefix: str = ""
    entry: str | None = None
    name_map: Mapping[str, str] | None = None
    name: str | None = None
    with_attention: bool = False
    calibration: str | None = None
    image_mean: Sequence[float] = (0.0,)
    image_std: Sequence[float] = (1.0,)
    attention_form: str | None = None
    inference_type: str = "float32"
    require_gpu: bool = False
    tolerances: Tolerances = field(default_factory=Tolerances)


def convert(request: Request, progress: Callable[[str, int, int], None] | None = None) -> Report:
    """Converts a checkpoint and verifies every file that comes out.

    Args:
        request: What to convert, and how.
        progress: Called before each stage with its name, its number from 0, and how many there
            are; once more at the end.

    Returns:
        The report; `report.holds` says whether every comparison held. The files are written
        either way.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the checkpoint, the model or the recording is not fit, or if a GPU is
            required and there is none. Nothing is written.
    """
    _check_calibration(request)
    stages = _Stages(progress, 6 + bool(request.calibration) + 2 * len(request.precisions))
    with OutputFolder(request.output_dir) as folder, _collected_warnings() as caught:
        with stages("read the checkpoint"):
            recorded = load_recorded(request.reference) if request.reference else None
            state = load_checkpoint(request.checkpoint, entry=request.entry)
        with stages("look for a GPU"):
            adapter = find_gpu(request.require_gpu)
            targets = CPU + gpu_targets(adapter)
        with stages("load TensorFlow"):
            start_tensorflow()
        with stages("port the weights"):
            architecture, port_report = _ported(state, request)
            model = architecture.model
            model.save(folder.path("model.keras"))
        with stages("trace the model"):
            exporter, probe = _exporters(model, request)
            if recorded is not None:
                recorded = _fit(recorded, exporter, model)
        with stages("run Keras"):
            inputs: Mapping[str, np.ndarray] = noise(exporter.input_shapes, exporter.input_dtypes)
            if recorded is not None:
                inputs = _recorded_inputs(recorded, exporter)
            expected = keras_outputs(exporter.model, inputs, exporter.output_names)
            comparisons: list[Comparison] = []
            attention: list[AttentionComparison] = []
            if recorded is not None:
                comparisons.append(check_keras(expected, recorded, request.tolerances))
        calibration: Calibration | None = None
        if request.calibration:
            with stages("read the calibration data"):
                calibration = _calibration(request, exporter)
        fidelity: list[AttentionFidelity] = []
        files = []
        not_on_gpu: dict[str, str] = {}
        name_stem = request.name or stem(request.checkpoint)
        for precision in request.precisions:
            data = calibration if precision in INTEGER_PRECISIONS else None
            with stages(f"export {precision}"):
                content = exporter.convert(precision, **_options(precision, data, request))
                name = f"{name_stem}_{precision}.tflite"
                folder.path(name).write_bytes(content)
                files.append(File.of(name, precision, content))
            refusal = why_not_on_gpu(read_graphs(content)[0])
            on = CPU if refusal else targets
            if refusal:
                not_on_gpu[precision] = refusal
            with stages(f"verify {precision}"):
                given: Mapping[str, np.ndarray] = inputs
                wanted: Mapping[str, np.ndarray] = expected
                if data is not None and recorded is None:
                    # Noise is beyond the ranges of images.
                    given, wanted = data.inputs, data.outputs
                comparisons += check_tflite(
                    content, precision, given, wanted, request.tolerances, recorded, on
                )
                if data is not None:
                    # The samples of a recording are not those that the ranges were taken from.
                    fidelity += check_fidelity(
                        content, precision, exporter.model, given, request.tolerances, on
                    )
                elif probe is not None:
                    attention += check_attention(probe, precision, inputs, request.tolerances, on)
        report = Report(
            checkpoint=os.path.basename(request.checkpoint),
            architecture=architecture.description,
            input_shapes=exporter.input_shapes,
            output_names=exporter.output_names,
            parameters=int(sum(np.prod(w.shape) for w in model.weights)),
            port_report=port_report.to_dict(),
            files=files,
            comparisons=comparisons,
            attention=attention,
            fidelity=fidelity,
            calibration=None if calibration is None else calibration.description,
            gpu=adapter,
            not_on_gpu=not_on_gpu,
            recorded_correct=None if recorded is None else recorded.correct,
            real_inputs=recorded is not None,
            seconds=stages.seconds,
            warnings=caught,
        )
        document = json.dumps(report.to_dict(), indent=1, allow_nan=False)
        folder.path("report.json").write_text(document + "\n", encoding="utf-8")
        folder.commit()
    stages.finish()
    return report


def _recorded_inputs(recorded: Recorded, exporter: "Exporter") -> dict[str, np.ndarray]:
    [name], [dtype] = exporter.input_shapes, exporter.input_dtypes
    return {name: as_dtype(recorded.inputs, dtype, recorded.name)}


def _ported(state: Mapping[str, np.ndarray], request: Request) -> "tuple[Architecture, Any]":
    """The Keras model with the checkpoint's weights in it, and the port report."""
    from converters.architecture import resolve
    from converters.pytorch import port_weights

    architecture = resolve(
        state,
        source=request.model,
        input_size=request.input_size,
        prefix=request.prefix,
        sites=request.sites,
    )
    port_report = port_weights(
        state,
        architecture.target,
        prefix=architecture.prefix,
        name_map=request.name_map or architecture.name_map,
    )
    return architecture, port_report


def stem(path: str) -> str:
    """The file's name without its suffix, and without both in `model.pth.tar`."""
    name = Path(path)
    if name.suffix.lower() == ".tar" and Path(name.stem).suffix.lower() in (".pth", ".pt", ".ckpt"):
        name = Path(name.stem)
    return name.stem


@dataclass(frozen=True)
class Calibration:
    """Representative data, and what Keras answers to the first of it.

    Attributes:
        samples: All samples, by input.
        inputs: The first of them.
        outputs: Keras's outputs for these, by name.
        description: What the data is, in words.
    """

    samples: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    description: str


def _runs_on_gpu(precision: str, request: Request) -> bool:
    """Whether the GPU delegate will take the file of a precision, as `why_not_on_gpu` says after.

    It takes no 16-bit integers and no log-softmax.
    """
    if precision == "int8":
        return request.attention_form in ("softmax", "float")
    return precision != "int16x8"


def _check_calibration(request: Request) -> None:
    integers = [p for p in request.precisions if p in INTEGER_PRECISIONS]
    if integers and not request.calibration:
        raise ValueError(
            "Integer activations need data for their ranges; give --calibration with a folder of "
            f"images or an .npz file with the array inputs. Received: precision {integers[0]}"
        )
    if request.calibration and not integers:
        raise ValueError(
            f"--calibration is for the precisions {' and '.join(INTEGER_PRECISIONS)}; leave it "
            f"out, or ask for one of them. Received: precisions {', '.join(request.precisions)}"
        )
    refused = [p for p in integers if not _runs_on_gpu(p, request)]
    if refused and request.require_gpu:
        raise ValueError(
            "The GPU takes no 16-bit integers and no log-softmax; with --require-gpu give "
            f"--attention float, and not int16x8. Received: precision {refused[0]}"
        )
    given = {
        "--attention": request.attention_form is not None,
        "--inference-type": request.inference_type != "float32",
    }
    if any(given.values()) and "int8" not in integers:
        name = next(name for name, there in given.items() if there)
        raise ValueError(
            f"{name} is for the precision int8; leave it out, or ask for that. "
            f"Received: precisions {', '.join(request.precisions)}"
        )
    if all(given.values()) and request.attention_form == "float":
        raise ValueError(
            "--attention float is converted with float inputs and outputs only; leave "
            "--inference-type out, or give --attention log_softmax. "
            f"Received: --inference-type {request.inference_type}"
        )


def _calibration(request: Request, exporter: "Exporter") -> Calibration:
    """The representative data in the layout of the model."""
    from converters.tflite import load_images, representative_samples
    from converters.tflite.representative import image_shape

    path = str(request.calibration)
    shapes = exporter.input_shapes
    data: Any = path
    how = "as recorded"
    if os.path.isdir(path):
        shape = image_shape(shapes)
        with without_native_logs():
            data = load_images(
                path,
                (shape[1], shape[2]),
                channels=shape[3],
                mean=request.image_mean,
                std=request.image_std,
            )
        mean, std = (
            "(" + ", ".join(f"{v:g}" for v in values) + ")" if len(values) > 1 else f"{values[0]:g}"
            for values in (request.image_mean, request.image_std)
        )
        how = f"images, (pixel / 255 - {mean}) / {std}"
    samples = representative_samples(data, shapes, exporter.input_dtypes)
    count = len(next(iter(samples.values())))
    batch = next(iter(shapes.values()))[0]
    # Whole batches, as the files take them.
    first = max(batch, min(count, CALIBRATION_CHECKED) // batch * batch)
    inputs = {
        name: np.take(value, range(first), axis=0, mode="wrap") for name, value in samples.items()
    }
    return Calibration(
        samples=samples,
        inputs=inputs,
        outputs=keras_outputs(exporter.model, inputs, exporter.output_names),
        description=f"{count} samples of {os.path.basename(os.path.normpath(path))}, {how}",
    )


def _options(precision: str, calibration: Calibration | None, request: Request) -> dict[str, Any]:
    """What `Exporter.convert` is given beside the precision."""
    if calibration is None:
        return {}
    options: dict[str, Any] = {"representative_data": dict(calibration.samples)}
    if precision == "int8":
        options |= {
            "attention": request.attention_form,
            "inference_type": request.inference_type,
        }
    return options


def _exporters(model: "keras.Model", request: Request) -> "tuple[Exporter, Exporter | None]":
    """What makes the files, and what makes those that the attention is compared on."""
    from converters.architecture import DEFAULT_INPUT_SIZE
    from converters.tflite import Exporter
    from ulsam_keras import ULSAM, with_attention

    size = request.input_size or (DEFAULT_INPUT_SIZE, DEFAULT_INPUT_SIZE)
    shapes = _input_shapes(model, size, request.input_size is not None)
    try:
        probe = with_attention(model)
    except ValueError:
        # A subclassed model's graph is not known; a model without ULSAM has nothing to show.
        if request.with_attention:
            raise
        if any(isinstance(layer, ULSAM) for layer in model.layers):
            warnings.warn(
                f"The attention inside of {model.name!r} cannot be compared: its graph is not "
                "known, as it is a subclassed model.",
                stacklevel=2,
            )
        return Exporter(model, input_shape=shapes), None
    attention = Exporter(probe, input_shape=shapes)
    if request.with_attention:
        return attention, attention
    return Exporter(model, input_shape=shapes), attention


def _input_shapes(
    model: "keras.Model", size: tuple[int, int], asked: bool
) -> list[tuple[int, ...] | None] | None:
    """The shape of every input, in order: of images whose size is open; `None` for the others.

    An asked-for size must fit the images whose size is not open.
    """
    shapes: list[tuple[int, ...] | None] = []
    for tensor in getattr(model, "inputs", None) or []:
        declared = tuple(tensor.shape)
        shapes.append(None)
        if len(declared) != 4:
            continue
        if asked and any(
            own not in (None, want) for own, want in zip(declared[1:3], size, strict=True)
        ):
            raise ValueError(
                f"The model's input has a fixed size of {declared[1:3]}; leave "
                f"--input-size out, or give that. Received: {size[0]}x{size[1]}"
            )
        if None in declared[1:3]:
            shapes[-1] = (declared[1] or size[0], declared[2] or size[1], declared[3])
    return shapes if any(shapes) else None


def _fit(recorded: Recorded, exporter: "Exporter", model: "keras.Model") -> Recorded:
    """The recording in the layout of the model."""
    plain = [name for name in exporter.output_names if not name.endswith("_attention")]
    if len(exporter.input_shapes) > 1 or len(plain) > 1:
        raise ValueError(
            "A recording holds one input and one output, and the model has more; leave "
            f"--reference out. Received: inputs {sorted(exporter.input_shapes)}, outputs "
            f"{exporter.output_names}"
        )
    [shape] = exporter.input_shapes.values()
    return recorded.fitted((None, *shape[1:]), model.compute_output_shape(shape))


class _Stages:
    """Times the stages and tells of each before it starts."""

    def __init__(self, progress: Callable[[str, int, int], None] | None, count: int) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress or (lambda name, number, count: None)
        self._count = count

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._progress(name, len(self.seconds), self._count)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)

    def finish(self) -> None:
        self._progress("done", self._count, self._count)


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """What the user is warned of, one line each, in the order it came and each once."""
    lines: list[str] = []

    def collect(message: Warning | str, *_: object, **__: object) -> None:
        line = " ".join(str(message).split())
        if line not in lines:
            lines.append(line)

    with warnings.catch_warnings():
        # What frameworks deprecate is no matter of the model.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = collect
        yield lines
