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

from fuzz import mutation

ROOT = Path(__file__).parent.parent
_CHECKPOINT = ROOT / "converters" / "checkpoint"
_SHARED = [_CHECKPOINT / f"{name}.py" for name in ("entries", "leftovers", "folding")]
# Read by every format, each of which has its own lines in them: counted over all formats.
COMMON = (_CHECKPOINT / "files.py", _CHECKPOINT / "content.py", ROOT / "converters" / "formats.py")
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
    """

    read: Callable[[str], None]
    mutate: Callable[[bytes, random.Random], bytes]
    past_header: Callable[[bytes], bool]
    files: tuple[Path, ...]
    ending: str


def _load(path: str) -> None:
    from converters.checkpoint import list_tensors, load_checkpoint

    # What is asked for is drawn from the content: an input does the same each time.
    drawn = os.path.getsize(path) % 8
    entry = {1: "ema", 2: "."}.get(drawn)
    try:
        (list_tensors if drawn == 3 else load_checkpoint)(path, entry=entry)
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 6000, str(error)[:300]


def _load_npz(path: str) -> None:
    from converters.checkpoint import read_npz

    _load(path)
    read_npz(path)


def _program(path: str) -> None:
    from converters.program import read_program, summarise

    program = read_program(path)
    summarise(program).lines()
    for arrays in (program.tensors, program.examples, program.reference):
        for key in arrays:
            arrays[key]


def _lint(path: str) -> None:
    from converters.inspection import inspect
    from converters.tflite import lint

    with open(path, "rb") as file:
        content = file.read()
    for function, given in ((lint, content), (inspect, path)):
        with contextlib.suppress(ValueError):
            function(given)


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
        _lint,
        mutation.flip,
        lambda data: data[4:8] == b"TFL3",
        tuple(
            ROOT / "converters/tflite" / f"{n}.py" for n in ("flatbuffer", "static_check", "sites")
        ),
        ".tflite",
    ),
}


def beside(seeds: Path, name: str) -> dict[str, bytes]:
    """What lies in the folder of a format's inputs, by name."""
    return {file.name: file.read_bytes() for file in (seeds / "beside" / name).glob("*")}


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
        self.inputs = self.past_header = 0

    def __call__(self, data: bytes) -> None:
        """Reads an input; whatever is raised but ValueError and OSError is a finding."""
        self.inputs += 1
        self.past_header += self._target.past_header(data)
        with open(self._path, "wb") as file:
            file.write(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._target.read(self._path)
            except (ValueError, OSError) as error:
                assert type(error) is not UnicodeDecodeError and str(error).isprintable(), error
