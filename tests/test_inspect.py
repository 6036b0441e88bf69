"""`ulsam-keras inspect`: checkpoints folded, `.tflite` and `.keras` files, and what is refused."""

import copy
import json
import sys
import zipfile
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers

import torch_reference
from converters.tflite import to_tflite
from recorded_networks import shapes
from ulsam_keras import ULSAM

CHECKPOINT = Path(__file__).parent.parent / "examples" / "digits" / "digits_ulsam.pth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One network as `.keras`, float32 and int8 `.tflite`."""
    folder = tmp_path_factory.mktemp("inspected")
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, name="conv", kernel_regularizer="l2")(inputs)
    x = ULSAM(4, name="att")(x)
    inner = keras.Sequential([keras.Input((14, 14, 8)), ULSAM(2, name="inside")], name="body")
    model = keras.Model(inputs, {"y": layers.ReLU()(inner(x))}, name="net")
    model.save(folder / "net.keras")
    (folder / "net.tflite").write_bytes(to_tflite(model))
    data = np.random.default_rng(0).random((100, 16, 16, 3), "float32")
    (folder / "int8.tflite").write_bytes(
        to_tflite(model, precision="int8", representative_data=data)
    )
    return folder


def test_a_tflite_file(command, folder):
    found = json.loads(command("inspect", folder / "net.tflite", "--json")[1])
    assert found["kind"] == "tflite"
    assert found["inputs"] == [{"name": "image", "shape": [1, 16, 16, 3], "dtype": "float32"}]
    assert found["outputs"] == [{"name": "y", "shape": [1, 14, 14, 8], "dtype": "float32"}]
    assert [(s["channels"], s["num_splits"]) for s in found["ulsam"]] == [(8, 4), (8, 2)]
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(folder / "net.tflite"))._get_ops_details()
    names = Counter(d["op_name"] for d in details if d["op_name"] != "DELEGATE")
    assert found["operators"] == dict(names)
    assert "CONVERSION_METADATA" in found["metadata"]
    text = command("inspect", folder / "net.tflite")[1]
    assert "input image: float32 1x16x16x3\noutput y: float32 1x14x14x8\n" in text
    assert f"{sum(names.values())} operators: " in text and "8 channels, 2 splits" in text
    assert "LOG_SOFTMAX 2" in command("inspect", folder / "int8.tflite")[1]


def without_graphs(model):
    model.subgraphs = []


def without_outputs(model):
    for operator in model.subgraphs[0].operators:
        operator.outputs = []


def without_inputs(model):
    for operator in model.subgraphs[0].operators:
        operator.inputs = []


def without_shapes(model):
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = []


@pytest.mark.parametrize(
    "damage", [without_graphs, without_outputs, without_inputs, without_shapes]
)
def test_a_damaged_tflite_file(folder, tmp_path, damage):
    """Found by fuzzing: each of these ended in a traceback."""
    from converters.inspection import inspect
    from converters.tflite.flatbuffer import TfliteFile, packed

    model = TfliteFile(folder / "net.tflite").changeable()
    model.subgraphs[0].operators = [copy.copy(o) for o in model.subgraphs[0].operators]
    damage(model)
    path = tmp_path / "damaged.tflite"
    path.write_bytes(packed(model).content)
    with pytest.raises(ValueError, match="again. Received: ") as caught:
        inspect(path)
    assert str(caught.value).isprintable()


def test_a_keras_file(command, folder):
    found = json.loads(command("inspect", folder / "net.keras", "--json")[1])
    model = keras.saving.load_model(folder / "net.keras")
    assert (found["kind"], found["network"]) == ("keras", "net")
    assert found["values"] == model.count_params()
    assert sorted(t["shape"] for t in found["tensors"]) == sorted(
        list(w.shape) for w in model.weights
    )
    assert found["inputs"] == [{"name": "image", "shape": [-1, 16, 16, 3], "dtype": "float32"}]
    assert found["ulsam"] == [
        {"name": "att", "channels": 8, "num_splits": 4},
        {"name": "inside", "channels": 8, "num_splits": 2},
    ]
    assert found["operators"] == {"InputLayer": 2, "ULSAM": 2, "Conv2D": 1, "ReLU": 1}


def test_keras_and_tensorflow_are_not_needed(command, folder, monkeypatch):
    for name in ("keras", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("net.keras", "net.tflite"):
        assert command("inspect", folder / name)[0] == 0


def test_a_damaged_keras_file(command, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{")
        archive.writestr("model.weights.h5", "no HDF5")
    status, _, err = command("inspect", tmp_path / "m.keras")
    assert status == 2 and "damaged" in err and err.count("\n") == 1


def test_modules_that_are_alike_are_one_line(command, tmp_path):
    network = shapes("torchvision", 1.0, 10, {14: 4})
    torch.save({k: torch.zeros(shape) for k, shape in network.items()}, tmp_path / "v2.pth")
    status, text, _ = command("inspect", "--summary", tmp_path / "v2.pth")
    lines = text.splitlines()
    state = torch.load(tmp_path / "v2.pth")
    assert status == 0 and len(lines) < len(state) / 2
    # Blocks 8 to 10 of the network are alike.
    [line] = [line for line in lines if line.startswith("features.{8..10}.conv.1.0")]
    values = 3 * state["features.8.conv.1.0.weight"].numel()
    assert line.split()[1:] == [f"{values:,}", "weight", "384x1x3x3"]
    total = sum(tensor.numel() for tensor in state.values())
    counted = sum(
        int(line.split()[1].replace(",", "")) for line in lines if line.startswith(("fe", "cl"))
    )
    assert counted == total and f"{len(state)} tensors, {total:,} values" in lines
    assert lines[-1].startswith("network: ") and "MobileNetV2" in lines[-1]


def test_subspaces_are_one_line(command):
    text = command("inspect", "--summary", CHECKPOINT)[1]
    assert "ulsam1.subspaces.{0..3}.conv_dws " in text and "subspaces.1" not in text
    norm = "weight, bias, running_mean, running_var 16; num_batches_tracked scalar"
    assert norm in text


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    module = torch_reference.ULSAM(8, 2).eval()
    torch.jit.trace(module, torch.zeros(1, 8, 4, 4)).save(folder / "TorchScript.pt")
    with zipfile.ZipFile(folder / "AOTInductor.pt2", "w") as archive:
        archive.writestr("net/data/aotinductor/model/x.wrapper.so", b"\x7fELF")
        archive.writestr("net/archive_format", "pt2")
    (folder / "ExecuTorch.pte").write_bytes(b"\x1c\0\0\0ET12" + bytes(100))
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["TorchScript.pt", "AOTInductor.pt2", "ExecuTorch.pte"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "FILE"),
        ("lint", "FILE"),
        ("convert", "FILE", "-o", "OUT"),
        ("verify", "FILE", "OUT"),
    ],
)
def test_compiled_programs_say_what_to_export(command, compiled, tmp_path, name, arguments):
    places = {"FILE": compiled / name, "OUT": tmp_path / "out"}
    status, _, err = command(*(places.get(a, a) for a in arguments))
    assert status == 2 and err.count("\n") == 1
    assert name.split(".")[0] in err
    assert "torch.export" in err and "state_dict()" in err
