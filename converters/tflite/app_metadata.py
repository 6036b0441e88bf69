"""What an app needs to know of a file: the scale of its pixels, its labels, in TFLite's metadata.

The form is that of TensorFlow Lite's metadata schema (`metadata_schema.fbs`, identifier M001), a
flatbuffer inside the file, with the labels as a zip archive behind it: what MediaPipe's tasks and
Android Studio read. Imports the flatbuffer reader, NumPy and LiteRT's flatbuffers.
"""

import io
import os
import zipfile
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.data.channels import check_scaling
from converters.data.layout import Shape
from converters.tflite.flatbuffer import TfliteFile, packed

NAME = "TFLITE_METADATA"
LABELS = "labels.txt"
_IDENTIFIER = b"M001"
# Of the schema: AssociatedFileType.TENSOR_AXIS_LABELS, ContentProperties and ProcessUnitOptions.
_AXIS_LABELS, _FEATURE, _IMAGE, _NORMALIZATION = 2, 1, 2, 1
_COLOURS = {1: 2, 3: 1, 4: 1}  # channels: ColorSpaceType
_AXES = ("batch", "height", "width", "channels")
_PIXEL = 255.0


@dataclass(frozen=True)
class AppMetadata:
    """What an app is told.

    Attributes:
        labels: The name of each class, in order; empty for none.
        mean: What is taken off pixels scaled to 0 to 1, per channel or one.
        std: What they are then divided by, likewise.
        name: What the model is called.
    """

    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    name: str = ""


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The labels of a text file, one a line.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no text in UTF-8, or a line is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The labels must be a text file in UTF-8. Received: {os.fspath(path)!r}, {error}"
        ) from None
    labels = tuple(line.strip() for line in lines)
    while labels and not labels[-1]:
        labels = labels[:-1]
    if not labels or "" in labels:
        where = f"an empty line {labels.index('') + 1}" if labels else "no label"
        raise ValueError(
            f"The labels are a text file with one label a line. Received: {os.fspath(path)!r}, "
            f"{where}"
        )
    return labels


def fitting(
    app: AppMetadata,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    *,
    pixels: bool,
    attention: Container[str] = (),
) -> tuple[str, str]:
    """The input that is the image, and the output that the labels are of; empty without labels.

    Args:
        app: What the app is told.
        inputs: Shapes by name, the batch first.
        outputs: Likewise.
        pixels: Whether the image is given as integers that are scaled.
        attention: The outputs that are attention.

    Raises:
        ValueError: If there is not one input, an image of 1, 3 or 4 channels; if the mean or the
            deviation is not one number or one a channel, or not one for integers, or nothing to
            scale with; or if there is not one output of as many classes as labels.
    """
    check_scaling(app.mean, app.std)
    image, shape = next(iter(inputs.items()), ("", ()))
    if len(inputs) != 1 or len(shape) != 4 or shape[3] not in _COLOURS:
        raise ValueError(
            "The metadata of an app are of a model with one input, an image of 1, 3 or 4 channels. "
            f"Received: {_told(inputs)}"
        )
    if not {len(app.mean), len(app.std)} <= {1, shape[3]}:
        raise ValueError(
            "The mean and deviation of an image are one number, or one a channel. Received: "
            f"mean {app.mean}, deviation {app.std}, {shape[3]} channels"
        )
    if pixels and max(len(set(app.mean)), len(set(app.std))) > 1:
        raise ValueError(
            "An input of uint8 has one scale: give one mean and one deviation for all channels, or "
            f"an `inference_type` of float32. Received: mean {app.mean}, deviation {app.std}"
        )
    if not app.labels:
        return image, ""
    found = [n for n, size in outputs.items() if len(size) == 2 and n not in attention]
    if len(found) != 1:
        raise ValueError(
            "Labels are of a model with one output of classes, (N, classes). "
            f"Received: {_told(outputs)}"
        )
    classes = outputs[found[0]][1]
    if classes not in (None, len(app.labels)):
        raise ValueError(
            "The labels must be as many as the classes of the output; give one a line. "
            f"Received: {len(app.labels)} labels, {classes} classes"
        )
    return image, found[0]


def _told(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name!r} {shape}" for name, shape in shapes.items())


def with_app_metadata(
    file: TfliteFile, app: AppMetadata, attention: Mapping[str, str] | None = None
) -> TfliteFile:
    """The file with the metadata; of integer pixels the scale is then that of the metadata.

    An app gives an input of `uint8` the pixels as they are, so that one step must be a pixel.

    Args:
        file: A `.tflite` file.
        app: What the app is told.
        attention: The layer by the name of each output that is attention.

    Raises:
        ValueError: As `fitting`.
    """
    graph, attention = file.graph, attention or {}
    shapes = [{name: t.shape for name, t in ends.items()} for ends in (graph.given, graph.answered)]
    pixels = any(t.dtype == "UINT8" and t.scales for t in graph.given.values())
    image, classes = fitting(app, *shapes, pixels=pixels, attention=attention)
    if pixels:
        file = _with_pixels(file, image, app)
    content = _metadata(app, file, image, classes, attention)
    from ai_edge_litert import schema_py_generated as schema

    model = file.changeable()
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(content)
    entry.name, entry.buffer = NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    written = packed(model).content
    if not app.labels:
        return TfliteFile(written)
    archive = io.BytesIO(written)
    # Behind the flatbuffer, whose offsets stay. Fixed dates: the same files are the same bytes.
    with zipfile.ZipFile(archive, "a") as members:
        member = zipfile.ZipInfo(LABELS, (1980, 1, 1, 0, 0, 0))
        members.writestr(member, "\n".join(app.labels) + "\n")
    return TfliteFile(archive.getvalue())


def app_metadata(file: TfliteFile) -> AppMetadata | None:
    """The metadata of a file; `None` if it has none.

    Raises:
        ValueError: If it is damaged.
    """
    content = file.metadata.get(NAME)
    if content is None:
        return None
    try:
        found = _read(bytes(content))
        try:
            with zipfile.ZipFile(io.BytesIO(file.content)) as members:
                info = members.getinfo(LABELS)
                if info.file_size > len(file.content):
                    raise ValueError("labels larger than the file")
                labels = tuple(members.read(info).decode("utf-8").splitlines())
        except (zipfile.BadZipFile, KeyError):
            labels = ()
    except Exception as error:  # whatever the reader of damaged bytes runs into
        raise ValueError(
            f"The metadata of the file is damaged; write it again. Received: {NAME}, {error}"
        ) from error
    return replace(found, labels=labels)


def _with_pixels(file: TfliteFile, image: str, app: AppMetadata) -> TfliteFile:
    """The file with one step of its integer input a pixel."""
    model = file.changeable()
    tensor = model.subgraphs[0].tensors[file.graph.given[image].index]
    tensor.quantization.scale = [1 / (_PIXEL * app.std[0])]
    tensor.quantization.zeroPoint = [min(max(round(_PIXEL * app.mean[0]), 0), 255)]
    return packed(model)


def _metadata(
    app: AppMetadata, file: TfliteFile, image: str, classes: str, attention: Mapping[str, str]
) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    write = _Writer(builder)
    graph = file.graph
    floats = graph.given[image].dtype == "FLOAT32"
    pixels = [write.floats([_PIXEL * value for value in values]) for values in (app.mean, app.std)]
    normalization = write.table(offset=dict(enumerate(pixels)))
    unit = write.table(byte={0: _NORMALIZATION}, offset={1: normalization})
    colours = write.table(sbyte={0: _COLOURS[graph.given[image].shape[3]]})
    content = write.table(byte={0: _IMAGE}, offset={1: colours})
    mean, std = (np.asarray(values) for values in (app.mean, app.std))
    ends = ((1 - mean) / std, -mean / std) if floats else ([255.0], [0.0])
    stats = write.table(offset={n: write.floats(values) for n, values in enumerate(ends)})
    given = write.table(
        offset={
            0: write.text(image),
            1: write.text("Image to be classified." if classes else "Image."),
            2: write.offsets([write.text(axis) for axis in _AXES]),
            3: content,
            4: write.offsets([unit]),
            5: stats,
        }
    )
    answers = []
    for name in graph.answered:
        parts = {0: write.text(name)}
        if name in attention:
            parts[1] = write.text(f"Attention of {attention[name]}, (N, H, W, groups).")
        feature = write.table()
        parts[3] = write.table(byte={0: _FEATURE}, offset={1: feature})
        if name == classes:
            label = write.table(
                offset={0: write.text(LABELS), 1: write.text("One label a line.")},
                sbyte={2: _AXIS_LABELS},
            )
            parts[6] = write.offsets([label])
        answers.append(write.table(offset=parts))
    subgraph = write.table(offset={2: write.offsets([given]), 3: write.offsets(answers)})
    root = write.table(
        offset={
            0: write.text(app.name),
            3: write.offsets([subgraph]),
            7: write.text("1.3.0"),  # of the schema's parsers, the first that knows all of this
        }
    )
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


class _Writer:
    """Tables by the numbers of their fields, as the schema has them."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def text(self, value: str) -> int:
        # A file's name may hold bytes that are no text.
        return self._builder.CreateString(value, errors="replace")

    def floats(self, values: Sequence[float]) -> int:
        return self._builder.CreateNumpyVector(np.asarray(values, "<f4"))

    def offsets(self, values: Sequence[int]) -> int:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependUOffsetTRelative(value)
        return self._builder.EndVector()

    def table(
        self,
        offset: Mapping[int, int] | None = None,
        byte: Mapping[int, int] | None = None,
        sbyte: Mapping[int, int] | None = None,
    ) -> int:
        fields = {**(offset or {}), **(byte or {}), **(sbyte or {})}
        self._builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in (offset or {}).items():
            self._builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        for slot, value in (byte or {}).items():
            self._builder.PrependUint8Slot(slot, value, 0)
        for slot, value in (sbyte or {}).items():
            self._builder.PrependInt8Slot(slot, value, 0)
        return self._builder.EndObject()


def _read(content: bytes) -> AppMetadata:
    import flatbuffers
    from flatbuffers import number_types

    def field(table: Any, slot: int) -> int:
        return table.Offset(4 + 2 * slot)

    def child(table: Any, slot: int) -> Any:
        place = field(table, slot)
        return place and flatbuffers.table.Table(content, table.Indirect(place + table.Pos))

    def first(table: Any, slot: int) -> Any:
        place = field(table, slot)
        if not place or not table.VectorLen(place):
            return None
        return flatbuffers.table.Table(content, table.Indirect(table.Vector(place)))

    def floats(table: Any, slot: int) -> tuple[float, ...]:
        place = field(table, slot)
        if not place:
            return ()
        values = table.GetVectorAsNumpy(number_types.Float32Flags, place)
        return tuple(float(value) for value in values)

    def text(table: Any, slot: int) -> str:
        place = field(table, slot)
        return table.String(place + table.Pos).decode("utf-8") if place else ""

    start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
    root = flatbuffers.table.Table(content, start)
    subgraph = first(root, 3)
    given = subgraph and first(subgraph, 2)
    unit = given and first(given, 4)
    options = unit and child(unit, 1)
    mean, std = (floats(options, slot) if options else () for slot in (0, 1))
    return AppMetadata(
        mean=tuple(value / _PIXEL for value in mean) or (0.0,),
        std=tuple(value / _PIXEL for value in std) or (1.0,),
        name=text(root, 0),
    )
