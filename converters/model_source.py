"""Keras models that the user names: a `.keras` file, or a function of a module or of a Python file.

Keras is imported inside the functions.
"""

import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# The folders of the Python files that were run, whose neighbours may be in sys.modules.
_folders: list[str] = []


def load_model(source: str) -> "keras.Model":
    """The Keras model of a `.keras` file, `module:function` or `file.py:function`.

    A Python file is run as `python file.py` runs it: modules beside it can be imported.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no such model.
    """
    import ulsam_keras  # noqa: F401  registers the layers that the file may hold

    if os.path.isdir(source):
        raise IsADirectoryError(
            f"A model is a .keras file or module:function. Received: {source!r}, a folder"
        )
    if Path(source).suffix.lower() in (".keras", ".h5"):
        return _of_file(source)
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ValueError(
            "A model is given as a .keras file, as module:function or as file.py:function. "
            f"Received: {source!r}"
        )
    module = import_source(place)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{place!r} has no function {name!r}. Received: {source!r}")
    import keras

    try:
        model = function()
    except (Exception, SystemExit) as error:  # the user's own code
        raise ValueError(
            f"The model's function must run without arguments. "
            f"Received: {source!r}, which raised {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"The model's function must return a keras.Model. "
            f"Received: {source!r}, which returned {type(model).__name__}"
        )
    return model


def import_sources(places: Iterable[str]) -> None:
    """Imports what registers custom layers, each a module's name or a Python file.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If one cannot be imported.
    """
    for place in places:
        import_source(place)


def import_source(place: str) -> ModuleType:
    """Imports a module by its name, or runs a Python file as a module of its name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it cannot be imported.
    """
    if not place.endswith(".py"):
        # As `python -m` does, modules of the current folder are found too.
        _import_from(os.getcwd())
        with _import_errors(place):
            return importlib.import_module(place)
    path = Path(place).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"No such Python file. Received: {place!r}")
    _import_from(str(path.parent))
    with _import_errors(place):
        # Never in the place of a module that others use: a file may be called `types.py`.
        name = path.stem if path.stem not in sys.modules else f"{path.stem} of {path.parent}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses and pickles look their module up.
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _import_from(folder: str) -> None:
    """Puts a folder first on the path, and forgets what was imported from the others."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        home = os.path.dirname(os.path.abspath(file)) if file else folder
        if home != folder and home in _folders:
            del sys.modules[name]
    if folder not in _folders:
        _folders.append(folder)
    # It stays there: functions of the file may import when they are called.
    sys.path[:] = [folder, *(entry for entry in sys.path if entry not in _folders)]
    importlib.invalidate_caches()


@contextmanager
def _import_errors(place: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"The Python source cannot be imported. "
            f"Received: {place!r}, {type(error).__name__}: {_line(error)}"
        ) from error


def _of_file(source: str) -> "keras.Model":
    import keras

    suffix = Path(source).suffix.lower()
    if not os.path.exists(source):
        raise FileNotFoundError(f"No such model file. Received: {source!r}")
    if suffix == ".keras" and not zipfile.is_zipfile(source):
        raise ValueError(
            f"The file is not a .keras file; save the model with model.save. Received: {source!r}"
        )
    if suffix == ".keras" and _holds_python(source):
        raise ValueError(
            "The model holds Python code of a Lambda layer, and code from a model file is not run; "
            "write the Lambda as a layer of its own, or build the model in Python and give it as "
            f"module:function. Received: {source!r}"
        )
    try:
        if source.endswith(suffix):
            return keras.saving.load_model(source, compile=False)
        # Keras tells the format by the suffix, in small letters.
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(source, Path(folder, f"model{suffix}"))
            return keras.saving.load_model(copy, compile=False)
    except Exception as error:  # whatever a damaged or foreign file makes of Keras
        if unknown := re.search(r"Could not locate (?:class|function) '([^']+)'", str(error)):
            raise ValueError(
                f"The model needs {unknown[1]!r}; register it with "
                "keras.saving.register_keras_serializable in a Python file, and import that before "
                f"(`import_file`). Received: {source!r}"
            ) from error
        raise ValueError(
            f"The model file cannot be loaded by Keras. Received: {source!r}, {_line(error)}"
        ) from error


def _holds_python(path: str) -> bool:
    """Whether the configuration of a `.keras` file holds marshalled functions."""

    def within(value: object) -> bool:
        if isinstance(value, dict):
            return value.get("class_name") == "__lambda__" or any(map(within, value.values()))
        return isinstance(value, list) and any(map(within, value))

    try:
        with zipfile.ZipFile(path) as archive:
            return within(json.loads(archive.read("config.json")))
    except Exception:  # Keras says what is wrong with it
        return False


def _line(error: BaseException) -> str:
    """What an error says in one line, within another that says what was received."""
    return " ".join(str(error).split()).replace("Received: ", "received ")[:300]
