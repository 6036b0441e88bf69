"""Files that are damaged, empty or something else, wherever one is given: one line, one cause."""

import json

import keras
import numpy as np
import pytest

import gpu_drivers
from converters import export_program, to_tflite
from test_command import assert_one_line


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    gpu_drivers.hide(monkeypatch)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The content of a small file of every kind, by its suffix."""
    import torch
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("good")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.save(folder / "m.keras")
    x = np.zeros((2, 4), "float32")
    arrays = {"inputs": x, "outputs": model.predict(x, verbose=0)}
    np.savez(folder / "m.npz", **arrays)
    np.savez_compressed(folder / "c.npz", **arrays)
    net = torch.nn.Linear(4, 3)
    state = net.state_dict()
    torch.save(state, folder / "m.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file({key: value.numpy() for key, value in state.items()}, folder / "m.safetensors")
    (folder / "m.tflite").write_bytes(to_tflite(model))
    export_program(net, torch.zeros(2, 4), folder / "m.pt2", reference=torch.zeros(2, 4))
    weights = {"weight_map": {key: "m-00001.safetensors" for key in state}}
    (folder / "m.safetensors.index.json").write_text(json.dumps(weights))
    (folder / "names.json").write_text('{"dense": "fc"}')
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flipped(share):
    def flip(content):
        content, place = bytearray(content), int(len(content) * share)
        content[place : place + 4] = bytes(255 - b for b in content[place : place + 4])
        return bytes(content)

    return flip


DAMAGE = {
    "nothing": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "head": lambda content: content[:12],
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"this is a text file, and no model\n" * 9,
    "JSON": lambda content: b'{"a": [1, 2]}',
    "page": lambda content: b"<!DOCTYPE html><html>not found</html>",
    **{f"flipped at {share}": flipped(share) for share in (0.01, 0.2, 0.5, 0.8, 0.97)},
}
MODELS = ("m.pth", "old.pth", "m.safetensors", "m.safetensors.index.json", "m.pt2", "m.keras")
FEW = ("--precision", "float32", "--timeout", "60")
# What takes the file, in place of FILE.
USES = {
    **{f"convert {name}": (name, "convert", "FILE", "-o", "out", *FEW) for name in MODELS},
    "inspect": ("m.pth", "inspect", "FILE"),
    "inspect program": ("m.pt2", "inspect", "FILE"),
    "inspect tflite": ("m.tflite", "inspect", "FILE"),
    "lint": ("m.tflite", "lint", "FILE"),
    "verify": ("m.tflite", "verify", "FILE", "m.keras"),
    "verify keras": ("m.keras", "verify", "m.tflite", "FILE"),
    "verify reference": ("m.npz", "verify", "m.keras", "FILE"),
    "inputs": ("c.npz", "verify", "m.tflite", "m.tflite", "--inputs", "FILE"),
    "verify compressed reference": ("c.npz", "verify", "m.keras", "FILE"),
    "model": ("m.keras", "convert", "m.pth", "-o", "out", "--model", "FILE"),
    "names": ("names.json", "convert", "m.pth", "-o", "out", "--name-map", "FILE"),
}


@pytest.mark.parametrize("use", USES)
def test_a_bad_file_is_one_line_with_one_cause(command, good, tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    for name, content in good.items():
        (tmp_path / name).write_bytes(content)
    name, *arguments = USES[use]
    bad = f"bad{name[name.index('.') :]}"
    refused = 0
    for damage, change in DAMAGE.items():
        (tmp_path / bad).write_bytes(change(good[name]))
        status, _, err = command(*(bad if a == "FILE" else a for a in arguments))
        # A byte of a weight may be any other.
        if status not in (0, 1) or not damage.startswith("flipped"):
            assert_one_line(status, err)
            assert err.count("Received: ") == 1, (damage, err)
            refused += 1
    assert refused >= len(DAMAGE) - 5
    (tmp_path / bad).unlink()
    (tmp_path / bad).mkdir()
    for place in (bad, f"no{bad}"):
        status, _, err = command(*(place if a == "FILE" else a for a in arguments))
        assert_one_line(status, err)
        assert err.count("Received: ") == 1, (place, err)


QUOTED = {
    "function": "def build(): raise ValueError('No. Received: 3')",
    "module": "raise ValueError('No. Received: 3')",
}


@pytest.mark.parametrize("name", QUOTED)
def test_what_others_say_is_quoted_in_one_line_of_ours(command, good, tmp_path, name):
    (tmp_path / "m.pth").write_bytes(good["m.pth"])
    (tmp_path / "own.py").write_text(QUOTED[name])
    options = ("-o", tmp_path / "out", "--model", f"{tmp_path / 'own.py'}:build")
    status, _, err = command("convert", tmp_path / "m.pth", *options)
    assert_one_line(status, err)
    assert err.count("Received: ") == 1 and "No. received 3" in err
