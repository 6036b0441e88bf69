"""From a checkpoint, program or Keras model to verified `.tflite` files: the way, stage by stage.

TensorFlow and Keras are imported when the first stage needs them.
"""

import os
import re
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.data.calibration import (
    Calibration,
    Source,
    describe_answers,
    load_calibration,
    own_calibration,
)
from converters.data.channels import check_scaling, implausible_scaling
from converters.data.layout import fits, layouts
from converters.model_source import import_sources
from converters.output_folder import OutputFolder
from converters.report.document import File, Report
from converters.report.page import model_card, written
from converters.scratch import scratch_folder
from converters.source import Made, Porting, read_source
from converters.start import start_tensorflow
from converters.tflite.app_metadata import AppMetadata, fitting, read_labels, with_app_metadata
from converters.tflite.marks import mark_attention
from converters.tflite.options import INFERENCE_TYPES, INTEGER_PRECISIONS
from converters.tflite.quiet import without_native_logs
from converters.verify.compare import Judge, Verification, explain
from converters.verify.maps import recorded_maps
from converters.verify.outputs import find_classifiers
from converters.verify.samples import (
    DEFAULT_SIZE,
    Reference,
    Samples,
    load_reference,
    random_samples,
)
from converters.verify.sides import KerasSide, file_side, keras_side
from converters.verify.targets import CPU, Runner, find_targets

if TYPE_CHECKING:
    import keras

    from converters.tflite import Exporter

# How many of the calibration samples are compared on without a reference.
CALIBRATION_CHECKED = 64
# Scales of a Rescaling below it are for pixels of 0 to 255.
_OF_PIXELS = 0.05


@dataclass(frozen=True)
class Request:
    """What `convert` is asked for; the options of `ulsam-keras convert`.

    Attributes:
        source: The checkpoint, the program (`.pt2`), or a `.keras` file.
        output_dir: Where the files go.
        precision: Which `.tflite` files to make.
        input_size: Height and width; `None` takes the model's own, the reference's, or 224.
        reference: An `.npz` file of what PyTorch answers; `None` compares files with Keras only.
        porting: How a checkpoint goes into a model.
        import_files: Python files or modules run first, such as register custom layers.
        name: Stem of the `.tflite` files; `None` takes the source's.
        with_attention: Whether the files give the attention of every ULSAM as further outputs.
        calibration: What the ranges of integer activations are taken from; needed by, and for, the
            precisions `int8` and `int16x8`.
        attention: How the softmax of ULSAM is computed in int8, as `attention` of
            `converters.to_tflite`.
        inference_type: The type of the inputs and outputs of files of integers, as
            `inference_type` of `converters.to_tflite`; those of the other files are float32.
        judge: What the files are judged by.
        runner: What runs them.
        gpu: Whether they are run on a GPU too, where there is a Vulkan driver.
        require_gpu: Whether it is an error that there is none, or that it takes no such file.
        check_with_torch: Whether PyTorch runs a program, and its answers are compared with.
        labels: A text file with the name of each class, one a line, for the files' metadata.
        image_mean: What an app takes off pixels scaled to 0 to 1, per channel or one, likewise.
        image_std: What it then divides them by, likewise. With none of the three nothing is told.
    """

    source: str
    output_dir: str
    precision: Sequence[str] = ("float32", "float16")
    input_size: tuple[int, int] | None = None
    reference: str | None = None
    porting: Porting = field(default_factory=Porting)
    import_files: Sequence[str] = ()
    name: str | None = None
    with_attention: bool = False
    calibration: Source | None = None
    attention: str | None = None
    inference_type: str = "float32"
    judge: Judge = field(default_factory=Judge)
    runner: Runner = field(default_factory=Runner)
    gpu: bool = True
    require_gpu: bool = False
    check_with_torch: bool = False
    labels: str | None = None
    image_mean: Sequence[float] | None = None
    image_std: Sequence[float] | None = None


def convert(request: Request, progress: Callable[[str, int, int], None] | None = None) -> Report:
    """Converts a checkpoint or a Keras model and verifies every file that comes out.

    Args:
        request: What to convert, and how.
        progress: Called before each stage with its name, its number from 0, and how many there
            are; once more at the end.

    Returns:
        The report; `report.passed` says whether every comparison did. The files are written either
        way.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the checkpoint, the model or the data is not fit, or if a GPU is required
            and there is none. Nothing is written.
    """
    _check(request)
    stages = _Stages(progress, 7 + bool(_integers(request)) + 2 * len(request.precision))
    judge, runner = request.judge, request.runner
    with OutputFolder(request.output_dir) as folder, _collected_warnings() as caught:
        with stages("read the files"):
            labels = read_labels(request.labels) if request.labels else ()
            recorded = load_reference(request.reference) if request.reference else None
            source = read_source(request.source, request.porting)
            recorded = recorded or source.reference
            if request.check_with_torch:
                recorded = source.asked(recorded)
        with stages("look for a GPU"):
            targets, adapter = find_targets(request.gpu, request.require_gpu)
        with stages("load TensorFlow"):
            start_tensorflow()
            import_sources(request.import_files)
        with stages("make the model"):
            size = request.input_size or (recorded.image_size() if recorded else None)
            made = source.make(request.porting, size, recorded)
            model = made.model
            _save(model, folder)
        with stages("trace the model"):
            given = made.reference.inputs if made.reference else made.examples
            exporter, ours, attention = _exporter(model, request, size, list(given.values()))
        stem = request.name or stem_of(request.source)
        app = _app(request, labels, stem, exporter, ours)
        floats = [p for p in request.precision if p not in INTEGER_PRECISIONS]
        exporter.begin(floats)
        with stages("run Keras"):
            theirs, samples = _samples(made, ours, exporter)
            found = Verification(notes=() if theirs is None else theirs.notes)
            if theirs is not None:
                found += judge.compare(ours, theirs, samples, attention=False)
                found += explain(ours, theirs, found, judge.limits)
        calibration: Calibration | None = None
        if _integers(request):
            with stages("read the calibration data"):
                calibration = _calibration(request, exporter, ours, theirs, samples)
                spread = _spread(calibration, ours)
                if theirs is None and samples.kind != "example":
                    samples = spread
                calibration = _answered(calibration, spread, ours, judge, samples.labels)
        converted = {}
        for precision in (*floats, *_integers(request)):
            with stages(f"export {precision}"):
                file = exporter.convert(precision, **_options(precision, calibration, request))
                file = mark_attention(file, attention)
                if app is not None:
                    file = with_app_metadata(file, app, attention)
                converted[precision] = file
                with folder.writing(f"{stem}_{precision}.tflite") as path:
                    path.write_bytes(file.content)
        attends = _attends(ours.model)
        for precision in request.precision:
            with stages(f"verify {precision}"):
                side = replace(
                    file_side(converted[precision], precision, runner), precision=precision
                )
                if request.require_gpu:
                    side.refuse_off_gpu()
                side = side.fitted(ours)
                found += judge.compare(side, ours, samples, targets, attention=attends)
                if precision not in floats and samples is not spread:
                    # A reference may be of a sample or two; these are of what it is meant for.
                    found += judge.compare(side, ours, spread, CPU[:1], attention=False)
                if theirs is not None:
                    found += judge.compare(side, theirs, samples, CPU[:1], attention=False)
        if theirs is not None:
            maps = recorded_maps(theirs.layers, found.maps, theirs.modules)
            found += Verification(maps=maps)
        report = Report(
            source=os.path.basename(request.source),
            architecture=made.description,
            input_shapes=exporter.input_shapes,
            output_names=exporter.output_names,
            parameters=int(sum(np.prod(w.shape) for w in model.weights)),
            port_report=made.port_report,
            keys=made.keys,
            files=[File.of(f"{stem}_{p}.tflite", p, converted[p]) for p in request.precision],
            verification=found,
            samples=samples.kind,
            reference=theirs and made.reference and replace(theirs, name=made.reference.name),
            calibration=calibration,
            gpu=adapter,
            threads=runner.threads,
            seconds=stages.seconds,
            warnings=[*caught, *made.warnings],
            app=app,
        )
        with stages("write the report"):
            texts = {"report.html": written(report, ".html"), "model_card.md": model_card(report)}
        texts["report.json"] = written(report, ".json")  # the time of that too
        for file_name, text in texts.items():
            with folder.writing(file_name) as path:
                path.write_text(text, encoding="utf-8")
        folder.commit()
    stages.finish()
    return report


def stem_of(path: str) -> str:
    """The file's name without its suffix, and without both in `model.pth.tar`."""
    name = Path(path)
    if name.suffix.lower() == ".tar" and Path(name.stem).suffix.lower() in (".pth", ".pt", ".ckpt"):
        name = Path(name.stem)
    return name.stem


def _check(request: Request) -> None:
    """Refuses options that do not go together, before anything is read."""
    integers = _integers(request)
    received = f"Received: precision {', '.join(request.precision)}"
    types = {kind for precision in integers for kind in INFERENCE_TYPES[precision]}
    if integers and request.inference_type not in types:
        raise ValueError(
            f"`inference_type` must be one of {', '.join(sorted(types))} with these precisions. "
            f"Received: inference_type={request.inference_type!r}, {', '.join(integers)}"
        )
    given = {
        "`calibration`": (request.calibration is not None, INTEGER_PRECISIONS),
        "`attention`": (request.attention is not None, ("int8",)),
        "`inference_type`": (request.inference_type != "float32", INTEGER_PRECISIONS),
    }
    for option, (there, needed) in given.items():
        if there and not set(needed) & set(integers):
            raise ValueError(
                f"{option} is for the precision {' or '.join(needed)}; leave it out, or ask for "
                f"that. {received}"
            )
    if request.require_gpu and (not request.gpu or "int16x8" in integers):
        raise ValueError(
            "The GPU takes no 16-bit integers; with `require_gpu` leave int16x8 and no `gpu` out. "
            f"{received}"
        )
    scaled = (request.image_mean or (0.0,), request.image_std or (1.0,))
    check_scaling(*scaled)
    confirmed = request.calibration is not None and request.calibration.confirmed
    if (why := implausible_scaling(*scaled)) and not confirmed:
        # Without data there is nothing that could be confirmed.
        way_out = ", or confirm them with `confirm_calibration`" if request.calibration else ""
        raise ValueError(
            f"{why[0].upper()}{why[1:]}: give `image_mean` and `image_std` for pixels of 0 to 1"
            f"{way_out}. Received: image_mean={scaled[0]}, image_std={scaled[1]}"
        )
    if request.attention == "float" and request.inference_type != "float32":
        raise ValueError(
            "`attention` float is converted with float inputs and outputs only; leave "
            "`inference_type` out, or give `attention` log_softmax. "
            f"Received: `inference_type` {request.inference_type}"
        )


def _save(model: "keras.Model", folder: OutputFolder) -> None:
    """Saves beside Keras's own temporary files, so that it is known which disk is full."""
    with scratch_folder("ulsam-saved-") as scratch:
        saved = scratch / "model.keras"
        if 1980 <= time.localtime(time.time()).tm_year <= 2107:
            model.save(saved)
        else:  # what the dates of a zip reach from and to; Keras cannot write it then
            model.save(scratch / "model", zipped=False)
            with zipfile.ZipFile(saved, "w", strict_timestamps=False) as archive:
                for file in sorted(f for f in scratch.glob("model/**/*") if f.is_file()):
                    archive.write(file, file.relative_to(scratch / "model").as_posix())
        with folder.writing("model.keras") as path:
            shutil.copyfile(saved, path)


def _exporter(
    model: "keras.Model",
    request: Request,
    size: tuple[int, int] | None,
    given: Sequence[np.ndarray],
) -> "tuple[Exporter, KerasSide, dict[str, str]]":
    """What makes the files, the float32 model, and the layer of each output that is attention."""
    from converters.tflite import Exporter
    from converters.tflite.inputs import signature_names
    from converters.tflite.rebuild import float32_model
    from ulsam_keras import with_attention

    shapes = _input_shapes(model, request.input_size, size or DEFAULT_SIZE, given)
    if not request.with_attention:
        exporter = Exporter(model, input_shape=shapes)
        return exporter, keras_side(exporter.model, "keras", exporter.output_names), {}
    plain = float32_model(model, shapes)
    further = with_attention(plain)
    exporter = Exporter(further, input_shape=shapes)
    keys = list(further.output)
    # In the signature the keys of a dictionary come in the order in which it is flattened.
    names = dict(zip(sorted(keys), signature_names(sorted(keys), "output"), strict=True))
    own, added = keys[: len(model.outputs)], keys[len(model.outputs) :]
    layers = {names[key]: re.sub(r"_attention(_\d+)?$", "", key) for key in added}
    return exporter, keras_side(plain, "keras", [names[key] for key in own]), layers


def _input_shapes(
    model: "keras.Model",
    asked: tuple[int, int] | None,
    default: tuple[int, int],
    given: Sequence[np.ndarray],
) -> list[tuple[int, ...] | None] | None:
    """The shape of every input, in order: of those whose size is open; `None` for the others.

    A size that is asked for must fit the images whose size is not open; else open sizes are those
    of what is given to the model, and of images without that the default.
    """
    shapes: list[tuple[int, ...] | None] = []
    for position, tensor in enumerate(getattr(model, "inputs", None) or []):
        declared = tuple(tensor.shape)
        shapes.append(None)
        image = len(declared) == 4
        if image and asked and not fits(asked, declared[1:3]):
            raise ValueError(
                f"The model's input has a fixed size of {declared[1:3]}; leave "
                f"`input_size` out, or give that. Received: {asked[0]}x{asked[1]}"
            )
        if None not in declared[1:]:
            continue
        size = (*(asked or default), declared[3]) if image else None
        if not (image and asked) and position < len(given):
            views = layouts(given[position]).values()
            size = next((v.shape[1:] for v in views if fits(v.shape[1:], declared[1:])), size)
        if size is not None:
            shapes[-1] = tuple(have or want for have, want in zip(declared[1:], size, strict=True))
    return shapes if any(shapes) else None


def _samples(made: Made, ours: KerasSide, exporter: "Exporter") -> tuple[Reference | None, Samples]:
    """The reference in the layout of the model, if there is one, and what everything is given."""
    shapes = {name: exporter.input_shapes[name] for name in ours.inputs}
    model = replace(ours, inputs=shapes)
    if made.reference is not None:
        theirs = replace(made.reference.fitted(model), name="pytorch")
        return theirs, theirs
    examples = made.examples
    if set(examples) == set(shapes) and all(
        fits(examples[name].shape[1:], shape[1:]) for name, shape in shapes.items()
    ):
        samples = Samples(examples, "example", name="examples", arranged=True)
        return None, samples.fitted(model)
    return None, random_samples(ours, ours, [shape[1:] for shape in shapes.values()])


def _integers(request: Request) -> list[str]:
    """The precisions that need data for their ranges."""
    return [precision for precision in request.precision if precision in INTEGER_PRECISIONS]


def _calibration(
    request: Request,
    exporter: "Exporter",
    ours: KerasSide,
    theirs: Reference | None,
    samples: Samples,
) -> Calibration:
    """The representative data in the layout of the model."""
    names = exporter.input_shapes
    if request.calibration is None:
        # The files are judged on a reference of the user's: ranges of the same would flatter them.
        if request.reference or samples.kind not in ("reference", "example"):
            raise ValueError(
                "Integer activations need data for their ranges; give `calibration` with a folder "
                "of images or an .npz file with the array inputs. "
                f"Received: precision={_integers(request)[0]!r}"
            )
        # What came with the program.
        return own_calibration({n: samples.inputs[n] for n in names}, names, exporter.input_dtypes)
    source = request.calibration
    scales_itself, pixels = _scales(ours.model)
    if pixels and os.path.isdir(source.path) and source.mean is None and source.std is None:
        source = replace(source, mean=(0.0,), std=(1 / 255,))
    recorded = None if theirs is None else {n: theirs.inputs[n] for n in names}
    with without_native_logs():
        return load_calibration(source, names, exporter.input_dtypes, recorded, scales_itself)


def _app(
    request: Request, labels: tuple[str, ...], name: str, exporter: "Exporter", ours: KerasSide
) -> AppMetadata | None:
    """What the files tell an app, if it fits the model; `None` if nothing is said of it."""
    if not labels and request.image_mean is None and request.image_std is None:
        return None
    # A model that begins with a scale of its own takes pixels.
    plain = (1 / 255,) if _scales(ours.model)[1] else (1.0,)
    mean, std = tuple(request.image_mean or (0.0,)), tuple(request.image_std or plain)
    app = AppMetadata(labels, mean, std, name)
    fitting(app, exporter.input_shapes, ours.outputs, pixels=request.inference_type == "uint8")
    return app


def _attends(model: "keras.Model") -> bool:
    """Whether there is attention to compare."""
    from converters.tflite.rebuild import layers_of
    from ulsam_keras import ULSAM

    return any(isinstance(layer, ULSAM) for layer in layers_of(model))


def _scales(model: "keras.Model") -> tuple[bool, bool]:
    """Whether a model begins with a layer that scales its inputs, and it does so with pixels."""
    import keras

    own = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    if own and isinstance(own[0], keras.layers.Rescaling):
        return True, bool(np.abs(own[0].scale).max() < _OF_PIXELS)
    return bool(own) and isinstance(own[0], keras.layers.Normalization), False


def _spread(calibration: Calibration, ours: KerasSide) -> Samples:
    """Some of the calibration samples, from all over: folders hold one class after the other."""
    count = min(calibration.count, CALIBRATION_CHECKED)
    places = np.linspace(0, calibration.count - 1, count).round().astype(int)
    arrays = {name: calibration.samples[name][places] for name in ours.inputs}
    return Samples(arrays, "calibration")


def _answered(
    calibration: Calibration,
    spread: Samples,
    ours: KerasSide,
    judge: Judge,
    labels: np.ndarray | None,
) -> Calibration:
    """The calibration with the float model's answers to some of its samples in words."""
    outputs = ours.answer(spread.first(spread.count), CPU[0]).outputs or {}
    classifiers = find_classifiers(outputs, labels, judge.classifier)
    return replace(calibration, answers=describe_answers(outputs, classifiers))


def _options(precision: str, calibration: Calibration | None, request: Request) -> dict[str, Any]:
    """What `Exporter.convert` is given beside the precision."""
    if calibration is None or precision not in INTEGER_PRECISIONS:
        return {}
    options: dict[str, Any] = {"representative_data": dict(calibration.samples)}
    if precision == "int8":
        options["attention"] = request.attention
    if request.inference_type != "float32" and _fits(precision, request.inference_type):
        options["inference_type"] = request.inference_type
    return options


def _fits(precision: str, inference_type: str) -> bool:
    """Whether a type of inputs and outputs is one of a precision's."""
    return (precision == "int16x8") == (inference_type == "int16")


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
    """What the user is warned of, one line each, in the order it came and each once.

    Where the conversion fails they are given to whoever shows warnings, as no report will.
    """
    lines: list[str] = []

    def collect(message: Warning | str, *_: object, **__: object) -> None:
        line = " ".join(str(message).split())
        if line not in lines:
            lines.append(line)

    try:
        with warnings.catch_warnings():
            # What frameworks deprecate is no matter of the model.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = collect
            yield lines
    except BaseException:
        for line in lines:
            warnings.warn(line, stacklevel=3)
        raise
