"""Models and custom layers that the user names, as Python files and `.keras` files."""

import sys

import keras
import numpy as np
import pytest

from converters.architecture import of_keras_file
from converters.model_source import import_sources, load_model

DATACLASS = """
from __future__ import annotations
import dataclasses
import keras
from blocks import WIDTH

@dataclasses.dataclass
class Config:
    width: dataclasses.InitVar[int]
    kind: dataclasses.KW_ONLY
    depth: int = 1

def build():
    from late import DEPTH
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(WIDTH, 1)(inputs)
    return keras.Model(inputs, x, name="d%d" % DEPTH)
"""


@pytest.fixture
def restored(monkeypatch):
    """The path and the modules are those of before, afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("converters.model_source._folders", [])
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if getattr(sys.modules[name], "__file__", None) and "pytest-of" in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def source(folder, width, name="model.py", text=DATACLASS):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / "blocks.py").write_text(f"WIDTH = {width}")
    (folder / "late.py").write_text(f"DEPTH = {width}")
    return f"{folder / name}:build"


def test_a_python_file_is_run_as_python_runs_it(tmp_path, restored):
    """Dataclasses with postponed annotations, neighbours, and two files with like neighbours."""
    for width in (5, 7):
        model = load_model(source(tmp_path / str(width), width))
        assert (model.output_shape[-1], model.name) == (width, f"d{width}")


def test_a_file_never_stands_in_for_a_module_of_others(tmp_path, restored):
    import types

    load_model(source(tmp_path, 4, "types.py"))
    assert sys.modules["types"] is types


def test_a_file_that_fails_is_one_line(tmp_path, restored):
    place = source(tmp_path, 4, text="import no_such_module_anywhere")
    with pytest.raises(ValueError, match="cannot be imported.*no_such_module_anywhere") as error:
        load_model(place)
    assert "\n" not in str(error.value)


CUSTOM = """
import keras

@keras.saving.register_keras_serializable("test_model_source")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_custom_layers_are_imported_before(tmp_path, restored):
    (tmp_path / "custom.py").write_text(CUSTOM)
    import_sources([str(tmp_path / "custom.py")])
    layer = keras.saving.get_registered_object("test_model_source>Doubled")
    inputs = keras.Input((3,))
    keras.Model(inputs, layer(name="d")(inputs)).save(tmp_path / "m.keras")
    assert np.all(load_model(str(tmp_path / "m.keras"))(np.ones((1, 3))) == 2)
    del keras.saving.get_custom_objects()["test_model_source>Doubled"]
    del sys.modules["custom"]
    with pytest.raises(ValueError, match="needs 'Doubled'; register.*`import_file`.*m.keras"):
        load_model(str(tmp_path / "m.keras"))
    import_sources([str(tmp_path / "custom.py")])
    assert of_keras_file(str(tmp_path / "m.keras")).target.layers[-1].name == "d"
    del keras.saving.get_custom_objects()["test_model_source>Doubled"]


def test_a_lambda_is_not_run(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="Lambda layer.*module:function. Received") as error:
        load_model(str(tmp_path / "m.keras"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 350


def test_no_file_to_import(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such Python file"):
        import_sources([str(tmp_path / "none.py")])
    with pytest.raises(ValueError, match="cannot be imported"):
        import_sources(["no_such_module_anywhere"])
