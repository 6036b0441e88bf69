"""`export_program` and what it records: PyTorch loads the file and answers the same."""

import base64
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import export_program, read_program
from converters.recording import recorded_arrays
from program_tools import members, run, write

DATA = Path(__file__).parent / "data"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, image):
        x = self.relu(self.norm(self.conv(image)))
        return self.head(self.drop(self.relu(x)).mean((2, 3)))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(4, 2, 1)

    def forward(self, left, right=None, *, more=()):
        y = self.mix(torch.cat([left, right], 1))
        return {"mask": y, "scores": [y.mean((2, 3)), y.flatten(1) * more[0]]}


class Fixed(nn.Module):
    def forward(self, x):
        x = x.reshape(4, -1)
        return x * torch.full((), 2.0).item()  # a size that only running it tells is not the batch


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net().train()
    net.norm.eval()
    nn.init.uniform_(net.norm.running_var, 0.5, 2)
    return net


def answers(module, *inputs):
    with torch.no_grad():
        return module.eval()(*inputs)


def test_file_and_module(net, tmp_path):
    images = torch.randn(40, 3, 8, 8)
    labels = np.arange(40) % 5
    export_program(net, images[:1], tmp_path / "n.pt2", reference=images, labels=labels)
    assert net.training and not net.norm.training and net.conv.training
    program = read_program(tmp_path / "n.pt2")
    assert list(program.reference) == ["inputs", "outputs", "labels"]
    np.testing.assert_array_equal(program.reference["inputs"], images)
    np.testing.assert_array_equal(program.reference["labels"], labels)
    wanted = answers(net, images).numpy()
    # Batches of 32 and one of 40 differ by how threads split the sums.
    np.testing.assert_allclose(program.reference["outputs"], wanted, rtol=1e-5, atol=1e-6)
    (end,) = program.inputs
    batch = program.values[end.value].shape[0]
    assert end.name == "image" and program.dynamic[batch][1] is None
    assert program.values[program.outputs[0].value].shape == (batch, 5)
    found = run(program, {"image": images.numpy()})["output"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    loaded = torch.export.load(tmp_path / "n.pt2").module()
    np.testing.assert_allclose(loaded(images).detach(), wanted, rtol=1e-5, atol=1e-6)


def test_examples_are_answered(net, tmp_path):
    image = torch.randn(3, 3, 8, 8)
    export_program(net, (image,), tmp_path / "n.pt2")
    program = read_program(tmp_path / "n.pt2")
    assert program.reference["outputs"].shape == (3, 5)
    np.testing.assert_array_equal(program.examples["image"], image)


def test_layers(net, tmp_path):
    images = torch.randn(2, 3, 8, 8)
    export_program(net, images, tmp_path / "n.pt2", layers=True)
    reference = read_program(tmp_path / "n.pt2").reference
    layers = {key for key in reference if key.startswith("layers.")}
    assert layers == {f"layers.{n}" for n in ("conv", "norm", "relu", "relu@1", "drop", "head")}
    conv = answers(net.conv, images)
    # What the module answered, before the ReLU after it wrote into it.
    np.testing.assert_array_equal(reference["layers.norm"], answers(net.norm, conv))
    np.testing.assert_array_equal(reference["layers.head"], reference["outputs"])
    assert reference["layers.norm"].min() < 0 <= reference["layers.relu"].min()
    assert not net.conv._forward_hooks


def test_names_are_those_of_the_program(tmp_path):
    inputs = {
        "left": torch.randn(2, 3, 4, 4),
        "right": torch.randn(2, 1, 4, 4),
        "more": (torch.randn(2, 1),),
    }
    export_program(Two(), inputs, tmp_path / "t.pt2")
    program = read_program(tmp_path / "t.pt2")
    names = [end.name for end in program.inputs], [end.name for end in program.outputs]
    assert names == (["left", "right", "more_0"], ["mask", "scores_0", "scores_1"])
    assert set(program.reference) == {
        *(f"inputs.{name}" for name in names[0]),
        *(f"outputs.{name}" for name in names[1]),
    }
    found = run(program, {n: program.reference[f"inputs.{n}"] for n in names[0]})
    for name, value in found.items():
        np.testing.assert_allclose(program.reference[f"outputs.{name}"], value, rtol=1e-6)


def test_batch_can_be_fixed(net, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        export_program(net, torch.randn(1, 3, 8, 8), tmp_path / "n.pt2", dynamic_batch=False)
    program = read_program(tmp_path / "n.pt2")
    assert not program.dynamic and program.values["image"].shape == (1, 3, 8, 8)


def test_batch_that_the_module_fixes(tmp_path):
    samples = torch.randn(8, 3)
    with pytest.warns(UserWarning, match="the batch is fixed to 4") as caught:
        export_program(Fixed(), samples[:4], tmp_path / "f.pt2", reference=samples)
    assert "\n" not in str(caught[0].message)
    program = read_program(tmp_path / "f.pt2")
    assert program.values["x"].shape == (4, 3) and not program.dynamic
    np.testing.assert_array_equal(program.reference["outputs"], samples.numpy() * 2)


def test_half_precision_and_data_parallel(tmp_path):
    export_program(nn.DataParallel(Net().bfloat16()), torch.randn(2, 3, 8, 8).bfloat16(),
                   tmp_path / "h.pt2")  # fmt: skip
    program = read_program(tmp_path / "h.pt2")
    assert program.values["image"].dtype == "bfloat16"
    assert program.tensors["conv.weight"].dtype.name == "bfloat16"
    assert program.reference["outputs"].dtype == np.float32


def test_recorded_arrays(net):
    images = np.random.default_rng(0).normal(size=(70, 3, 8, 8)).astype("float32")
    arrays = recorded_arrays(net, images, list(range(70)), True)
    assert {key: len(array) for key, array in arrays.items()} == dict.fromkeys(arrays, 70)
    whole = answers(net, torch.from_numpy(images))
    np.testing.assert_allclose(arrays["outputs"], whole, rtol=1e-5, atol=1e-6)


def test_without_this_project(net, tmp_path):
    """The lines of the documentation for a machine where only PyTorch is."""
    images, labels, path = torch.randn(6, 3, 8, 8), torch.arange(6), tmp_path / "net.pt2"

    def text(array):
        stream = io.BytesIO()
        np.save(stream, array)
        return base64.b64encode(stream.getvalue()).decode()

    net.eval()
    with torch.no_grad():
        free = ({0: torch.export.Dim.AUTO},)
        program = torch.export.export(net, (images[:2],), dynamic_shapes=free)
        arrays = {"inputs": images, "outputs": net(images), "labels": labels}
    files = {f"reference/{key}.npy": text(array.numpy()) for key, array in arrays.items()}
    torch.export.save(program, path, extra_files=files)

    reference = read_program(path).reference
    assert {key: len(array) for key, array in reference.items()} == dict.fromkeys(arrays, 6)
    np.testing.assert_array_equal(reference["outputs"], arrays["outputs"])
    # Up to 2.7 PyTorch has another folder for them.
    contents = members(DATA / "torch_2.4.1_net.pt2")
    contents |= {f"extra_files/{name}": data.encode() for name, data in files.items()}
    reference = read_program(write(tmp_path / "old.pt2", contents)).reference
    np.testing.assert_array_equal(reference["outputs"], arrays["outputs"])


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: export_program(Net(), torch.zeros(1, 3, 8, 8), p / "n.pt"), "ends in .pt2"),
        (
            lambda p: recorded_arrays(Net(), torch.zeros(2, 3, 8, 8), [1]),
            "one label for each of 2 samples",
        ),
        (
            lambda p: recorded_arrays(Two(), (torch.zeros(2, 3, 4, 4), torch.zeros(3, 1, 4, 4))),
            "as many in each",
        ),
        (lambda p: recorded_arrays(Transposed(), torch.zeros(40, 2)), "first axis of every output"),
    ],
)
def test_one_line(tmp_path, call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value) and "Received: " in str(caught.value)
