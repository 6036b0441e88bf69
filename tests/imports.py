"""What the files of the two packages import, and what ARCHITECTURE.md lets them."""

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What the table calls the packages of others.
WORDS = {
    "ai_edge_litert": "LiteRT",
    "click": "click",
    "flatbuffers": "LiteRT",
    "jinja2": "Jinja2",
    "keras": "Keras",
    "matplotlib": "Matplotlib",
    "ml_dtypes": "ml_dtypes",
    "numpy": "NumPy",
    "PIL": "Pillow",
    "rich": "rich",
    "tensorflow": "TensorFlow",
    "tensorflow_model_optimization": "tfmot",
    "tf_keras": "tf_keras",
    "torch": "PyTorch",
}


@dataclass(frozen=True)
class Import:
    """One import: the file, what it imports as the table calls it, and whether in a function."""

    file: str
    name: str
    inside: bool


@dataclass(frozen=True)
class Room:
    """One row of the table: a file or folder, and what may be imported above and in functions."""

    path: str
    above: frozenset[str]
    inside: frozenset[str]


def rooms():
    """The rows of ARCHITECTURE.md that are about the two packages."""
    found = []
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        path = re.fullmatch(r"`((?:converters|ulsam_keras)/[^`]*)`", cells[0])
        if path is None or len(cells) != 3:
            continue
        above, _, inside = cells[2].partition("; inside functions ")
        found.append(Room(path[1], _names(above), _names(above) | _names(inside)))
    return sorted(found, key=lambda room: -len(room.path))


def _names(text):
    words = [word.strip(" `") for word in re.split(r",| and ", text)]
    return frozenset(word for word in words if word and word != "standard library")


def room_of(path, table):
    """The innermost room that a file or a folder is in."""
    return next(
        (r for r in table if path == r.path or (r.path[-1] == "/" and path.startswith(r.path))),
        None,
    )


def imports(table):
    """Every import of the two packages from another room or package."""
    for file in sorted([*ROOT.glob("converters/**/*.py"), *ROOT.glob("ulsam_keras/**/*.py")]):
        path = file.relative_to(ROOT).as_posix()
        own = room_of(path, table)
        for module, inside in _modules(ast.parse(file.read_text())):
            for name in _called(module, table):
                if own is None or name != _short(own.path):
                    yield Import(path, name, inside)


def _modules(tree, inside=False):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (found for part in node.orelse for found in _modules(part, inside))
        elif isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            yield from ((f"{node.module}.{alias.name}", inside) for alias in node.names)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _modules(node, inside or function)


def _called(module, table):
    top, *rest = module.split(".")
    if top in ("converters", "ulsam_keras"):
        parts = [top, *rest]
        # Of `from converters.tflite import lint` the last part may be a name in the module.
        for count in range(len(parts), 1, -1):
            stem = "/".join(parts[:count])
            room = room_of(f"{stem}.py", table) if (ROOT / f"{stem}.py").exists() else None
            room = room or (room_of(f"{stem}/", table) if (ROOT / stem).is_dir() else None)
            if room is not None:
                return [_short(room.path)]
        return [top]
    return [] if top in sys.stdlib_module_names else [WORDS.get(top, top)]


def _short(path):
    """What a room is called in the table: its path in its package, without slash and suffix."""
    return path.partition("/")[2].removesuffix("/").removesuffix(".py") or path.rstrip("/")
