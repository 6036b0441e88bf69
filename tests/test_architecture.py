"""ARCHITECTURE.md is true: every file is in a room, and imports what its room may."""

import ast
import os
import subprocess
import sys

import pytest

import imports

TABLE = imports.rooms()


def test_every_file_is_in_a_room_and_every_room_is_there():
    assert len(TABLE) > 20
    for room in TABLE:
        assert (imports.ROOT / room.path).exists(), room.path
    homeless = [
        file.relative_to(imports.ROOT).as_posix()
        for package in ("converters", "ulsam_keras")
        for file in (imports.ROOT / package).glob("**/*.py")
        if imports.room_of(file.relative_to(imports.ROOT).as_posix(), TABLE) is None
    ]
    assert homeless == ["converters/__init__.py"]  # whose names load on first use


def test_rooms_import_what_the_table_lets_them():
    wrong = []
    for found in imports.imports(TABLE):
        room = imports.room_of(found.file, TABLE)
        if room is not None and found.name not in (room.inside if found.inside else room.above):
            wrong.append(f"{found.file} imports {found.name} {'in a function' * found.inside}")
    assert wrong == []


def test_the_table_lets_rooms_import_nothing_that_they_do_not():
    """A permission that nobody uses is no description."""
    used = {
        (imports.room_of(i.file, TABLE).path, i.name)
        for i in imports.imports(TABLE)
        if imports.room_of(i.file, TABLE)
    }
    unused = [
        (room.path, name) for room in TABLE for name in room.inside if (room.path, name) not in used
    ]
    assert unused == []


def test_the_library_does_not_know_the_converters():
    names = {i.name for i in imports.imports(TABLE) if i.file.startswith("ulsam_keras/")}
    assert "converters" not in names and "verify" not in names
    report = {i.file for i in imports.imports(TABLE) if i.name == "report"}
    assert all(file.startswith(("converters/cli/", "converters/convert.py")) for file in report)


def test_a_wrong_import_is_seen(tmp_path, monkeypatch):
    for folder in ("converters/verify", "ulsam_keras"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "converters/verify/x.py").write_text(
        "import torch\nfrom converters.verify import y\ndef f():\n    import keras\n"
    )
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    found = {(i.name, i.inside) for i in imports.imports(TABLE)}
    assert found == {("PyTorch", False), ("Keras", True)}


def test_limits_and_options_need_the_standard_library_only():
    script = (
        "import sys; import converters.verify.limits, converters.tflite.options;"
        "print('numpy' in sys.modules, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_tensorflow_is_left_alone_on_another_back_end(backend):
    script = """if True:
        import sys, numpy, keras, converters, ulsam_keras
        from converters import load_checkpoint, port_weights, to_keras
        from ulsam_keras import quantization
        layer = ulsam_keras.ULSAM(2)
        layer(numpy.zeros((1, 4, 4, 4), "float32"))
        print({"tensorflow", "tf_keras", "ai_edge_litert"} & {*sys.modules})
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_nothing_of_keras_or_tensorflow_is_private():
    private = ("keras.src", "tensorflow.python", "tensorflow.lite.python", "tf_keras.src")
    for file in [
        *imports.ROOT.glob("converters/**/*.py"),
        *imports.ROOT.glob("ulsam_keras/**/*.py"),
    ]:
        for node in ast.walk(ast.parse(file.read_text())):
            module = getattr(node, "module", None) or ""
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "asname")]
            for name in (module, *names):
                assert not str(name).startswith(private), (file, name)
