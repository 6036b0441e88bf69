"""What is fuzzed: for each format its reader, its mutator, its files and what is its header."""

import contextlib
import json
import os
import random
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz import lines, mutation, verification

ROOT = Path(__file__).parent.parent
_CHECKPOINT = ROOT / "converters" / "checkpoint"
_SHARED = [_CHECKPOINT / f"{name}.py" for name in ("entries", "leftovers", "folding")]
# Read by every format, each of which has its own lines in them: counted over all formats.
COMMON = (_CHECKPOINT / "files.py", _CHECKPOINT / "content.py", ROOT / "converters" / "formats.py")
# What is of Keras models alone, of conversions, or of the GPU that there is.
_OF_OTHERS = (
    *("KerasSide", "keras_side", "_reason", "_rebuilt"),
    *("_padded_at_the_end", "_padded_on_both_sides", "_of_keras_epsilon"),
    *("recalled", "Reference.image_size", "attention_snr", "find_targets"),
    *("Model.blocks", "Model._run"),  # abstract
)
_PICKLE = [
    _CHECKPOINT / f"{name}.py"
    for name in ("unpickler", "torch_tensors", "numpy_globals", "spans", "modules")
]
_ZIP = [_CHECKPOINT / "archive.py", ROOT / "converters" / "zip_directory.py"]


@dataclass(frozen=True)
class Target:
    """A format.

    Attributes:
        read: Reads a file; ValueError and OSError are what it may raise.
        mutate: Changes content inside its structure.
        past_header: Whether content is of the format, as far as its header tells.
        files: The source of its reader.
        ending: Of the file's name.
        beyond: Functions and classes of these files that no such file gets to.
    """

    read: Callable[[str], None]
    mutate: Callable[[bytes, random.Random], bytes]
    past_header: Callable[[bytes], bool]
    files: tuple[Path, ...]
    ending: str
    beyond: tuple[str, ...] = ()

    def lines(self) -> dict[str, set[int]]:
        """The lines of its reader, by the file."""
        return {str(file): lines.executable(file, self.beyond) for file in self.files}


def _load(path: str) -> None:
    from converters.checkpoint import list_tensors, load_checkpoint

    # What is asked for is drawn from the content: an input does the same each time.
    drawn = os.path.getsize(path) % 8
    entry = {1: "ema", 2: "."}.get(drawn)
    read = {3: list_tensors, 4: _inspected}.get(drawn, load_checkpoint)
    try:
        read(path, entry=entry)
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 6000, str(error)[:300]


def _inspected(path: str, entry: str | None = None) -> None:
    """What the command prints of it."""
    from converters.cli.inspect import _lines
    from converters.inspection import inspect

    found = inspect(path, entry=entry)
    for summary in (True, False):
        for _ in _lines(found, summary):
            pass


def _load_npz(path: str) -> None:
    from converters.checkpoint import read_npz

    _load(path)
    read_npz(path)


def _program(path: str) -> None:
    from converters.inspection import inspect_program
    from converters.program import read_program, summarise

    program = read_program(path)
    summary = summarise(program)
    assert summary.lines() and json.dumps(summary.to_dict())
    assert all(isinstance(node.module, str) for node in program.nodes)
    for arrays in (program.tensors, program.examples, program.reference):
        assert "" not in arrays or arrays[""] is not None
        for key in arrays:
            arrays[key]
    if os.path.getsize(path) % 2 == 0:
        inspect_program(path)


def _tflite(path: str) -> None:
    from converters.tflite import lint
    from converters.tflite.app_metadata import AppMetadata, app_metadata, with_app_metadata
    from converters.tflite.flatbuffer import TfliteFile
    from converters.tflite.marks import mark_attention, marked_attention
    from converters.tflite.sites import find_sites, float_operators, site_names
    from converters.tflite.static_check import grouped

    with contextlib.suppress(ValueError):
        _inspected(path)
    file = TfliteFile(path)
    findings = lint(file)
    assert sum(count for _, count, _ in grouped(findings)) == len(findings)
    for finding in findings:
        assert str(finding).isprintable(), str(finding)
    sites = find_sites(file.graph)
    site_names(sites)
    for site in sites:
        assert isinstance(site.float_operators, tuple)
    float_operators(file.graph)
    marked_attention(mark_attention(file, {"y": "att"}))
    classes = [tensor.shape[1] for tensor in file.graph.answered.values() if len(tensor.shape) == 2]
    labels = tuple(f"é{number}" for number in range(min([3, *classes])))
    made = with_app_metadata(file, AppMetadata(labels, (0.5,), (0.25,), "é"), {"a": "att"})
    assert app_metadata(made) is not None


def _rewritten(path: str) -> None:
    from converters.tflite.flatbuffer import TfliteFile
    from converters.tflite.rewrites import rewritten

    rewritten(TfliteFile(path))


def _has(ending: bytes, magic: bytes = b"") -> Callable[[bytes], bool]:
    """Whether there is a member of such a name in the directory, and so begun."""

    def check(data: bytes) -> bool:
        end = data.rfind(b"PK\x05\x06")
        return end > 0 and ending in data[data.find(b"PK\x01\x02") : end] and magic in data

    return check


def _has_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _is_tflite(data: bytes) -> bool:
    return data[4:8] == b"TFL3"


def _changed(data: bytes, draw: random.Random) -> bytes:
    from fuzz import graphs

    return graphs.changed(data, draw)


def _sources(folder: str, names: str) -> tuple[Path, ...]:
    return tuple(ROOT / "converters" / folder / f"{name}.py" for name in names.split())


TARGETS = {
    "zip": Target(
        _load,
        mutation.zipped(mutation.member),
        _has(b"data.pkl"),
        (*_SHARED, *_PICKLE, *_ZIP, _CHECKPOINT / "torch_zip.py"),
        ".pth",
    ),
    "legacy": Target(
        _load,
        mutation.legacy,
        lambda data: data.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."),
        (*_PICKLE, _CHECKPOINT / "torch_legacy.py"),
        ".pth",
    ),
    "safetensors": Target(
        _load,
        mutation.safetensors,
        lambda data: _has_json(data[8 : 8 + int.from_bytes(data[:8], "little")]),
        (_CHECKPOINT / "safetensors_file.py", _CHECKPOINT / "json_header.py"),
        ".safetensors",
    ),
    "sharded": Target(
        _load,
        mutation.json_text,
        _has_json,
        (_CHECKPOINT / "sharded.py", _CHECKPOINT / "json_header.py"),
        ".safetensors.index.json",
    ),
    "npz": Target(
        _load_npz,
        mutation.zipped(mutation.member),
        _has(b".npy", b"\x93NUMPY"),
        (_CHECKPOINT / "npz_file.py",),
        ".npz",
    ),
    "pt2": Target(
        _program,
        mutation.zipped(mutation.member),
        _has(b".json", b"{"),
        tuple(sorted((ROOT / "converters" / "program").glob("*.py"))),
        ".pt2",
    ),
    "tflite": Target(
        _tflite,
        _changed,
        _is_tflite,
        _sources(
            "tflite",
            "flatbuffer integrity view pads rule static_check gpu_rules sites app_metadata marks",
        ),
        ".tflite",
        ("read_labels",),  # a text file
    ),
    "rewrites": Target(
        _rewritten,
        _changed,
        _is_tflite,
        _sources(
            "tflite/rewrites", "__init__ edit padding parts products ranks roots softmax strides"
        ),
        ".tflite",
    ),
    "verified": Target(
        verification.stood_in,
        _changed,
        _is_tflite,
        (
            *_sources("tflite", "tap precision"),
            *_sources(
                "verify",
                "attention causes compare limits maps outputs samples sides targets",
            ),
        ),
        ".tflite",
        _OF_OTHERS,
    ),
    "native": Target(verification.native, _changed, _is_tflite, (), ".tflite"),
}


def beside(seeds: Path, name: str) -> dict[str, bytes]:
    """What lies in the folder of a format's inputs, by name."""
    return {file.name: file.read_bytes() for file in (seeds / "beside" / name).glob("*")}


# The corpus of each: those of a `.tflite` file share one.
SEEDS = {name: name for name in TARGETS} | dict.fromkeys(
    ("rewrites", "verified", "native"), "tflite"
)


class Runner:
    """Reads one input after another as a file.

    Args:
        target: The format.
        others: Files by name that lie in the folder too, as shards do.
    """

    def __init__(self, target: Target, others: dict[str, bytes] | None = None):
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._path = os.path.join(self._folder.name, f"input{target.ending}")
        self._target = target
        for name, content in (others or {}).items():
            Path(self._folder.name, name).write_bytes(content)

    def __call__(self, data: bytes) -> None:
        """Reads an input; whatever is raised but ValueError and OSError is a finding."""
        with open(self._path, "wb") as file:
            file.write(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._target.read(self._path)
            except (ValueError, OSError) as error:
                assert type(error) is not UnicodeDecodeError and str(error).isprintable(), error
