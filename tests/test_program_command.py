"""`ulsam-keras convert net.pt2`: from a PyTorch module to verified files, no line of Keras."""

import json

import keras
import numpy as np
import pytest
import torch

import gpu_drivers
import torch_reference
from converters import export_program
from test_command import assert_one_line

ROUNDING = 1e-5  # relative to PyTorch's largest value: float32 sums in another order


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    gpu_drivers.hide(monkeypatch)


class Net(torch.nn.Module):
    """A classifier with one ULSAM, whose class is known to nobody."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU6()
        )
        self.focus = torch_reference.ULSAM(16, 4)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, image):
        return self.head(self.focus(self.stem(image)).mean((2, 3)))


class Two(torch.nn.Module):
    def forward(self, image, bias):
        return {"maps": torch.nn.functional.gelu(image) * 2, "value": image.mean((1, 2, 3)) + bias}


def randomised(module, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if "var" in name else value.normal_(0, 0.5)
    return module.eval()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A program with what the module answers to 24 pictures inside, and the labels."""
    folder = tmp_path_factory.mktemp("program")
    net = randomised(Net())
    images = torch.rand(24, 3, 16, 16)
    with torch.no_grad():
        labels = net(images).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    export_program(
        net, (images[:2],), folder / "net.pt2", reference=images, labels=labels, layers=True
    )
    return folder / "net.pt2", net, images


def test_a_program_needs_no_option(command, archive, tmp_path):
    path, net, images = archive
    out = tmp_path / "out"
    status, text, _ = command("convert", path, "-o", out)
    assert status == 0, text
    assert "Nothing was compared with PyTorch" not in text
    for name in ("PyTorch (recorded)", "Keras", "float32", "float16"):
        assert any(name in line and "23 of 24" in line for line in text.splitlines()), text
    report = json.loads((out / "report.json").read_text())
    assert report["reference"]["layers"] > 5 and report["reference"]["labels"]
    assert {a["site"] for a in report["attention"]} == {"focus"}
    assert report["port_report"]["ulsam"] == ["focus"]
    model = keras.saving.load_model(out / "model.keras")
    with torch.no_grad():
        wanted = net(images).numpy()
    found = model.predict(images.numpy().transpose(0, 2, 3, 1), verbose=0)
    assert wanted.std(axis=0).min() > 1e-3 * np.abs(wanted).max()
    assert np.abs(found - wanted).max() <= ROUNDING * np.abs(wanted).max()


def test_a_reference_of_ones_own_takes_the_place_of_that_inside(command, archive, tmp_path):
    path, net, images = archive
    with torch.no_grad():
        outputs = net(images[:5]).numpy()
    np.savez(tmp_path / "r.npz", inputs=images[:5].numpy(), outputs=outputs * 1.01)
    options = ("--reference", tmp_path / "r.npz", "--precision", "float32")
    status, text, _ = command("convert", path, "-o", tmp_path / "out", *options)
    assert status == 1 and " 5 " in text
    # Though the reference is wrong: PyTorch is asked anew.
    status, text, _ = command(
        "convert", path, "-o", tmp_path / "out", *options, "--check-with-torch"
    )
    assert status == 0, text


def test_open_sizes_are_those_of_the_example(command, tmp_path):
    sizes = {0: torch.export.Dim("n"), **{n: torch.export.Dim(f"d{n}", min=4) for n in (2, 3)}}
    program = torch.export.export(
        randomised(Net()), (torch.rand(2, 3, 20, 28),), dynamic_shapes=(sizes,)
    )
    torch.export.save(program, tmp_path / "open.pt2")
    arguments = ("convert", tmp_path / "open.pt2", "-o", tmp_path / "out")
    for options, shape, samples in (
        ((), [1, 20, 28, 3], "example"),
        (("--input-size", "24x32"), [1, 24, 32, 3], "random"),
    ):
        status, text, _ = command(*arguments, "--precision", "float32", *options)
        assert status == 0, text
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert (report["input_shapes"]["image"], report["samples"]) == (shape, samples)


def test_integers_are_calibrated_on_what_came_with_it(command, archive, tmp_path):
    # Random weights answer much the same to all pictures: little signal above the rounding.
    options = ("--precision", "int8", "--tolerance", "snr_int8=5")
    status, text, _ = command("convert", archive[0], "-o", tmp_path / "out", *options)
    assert status == 0, text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["calibration"]["description"] == "24 samples that came with it"


def test_two_inputs_and_a_dictionary_without_a_reference(command, tmp_path):
    example = (torch.randn(3, 4, 6, 6), torch.randn(3))
    torch.export.save(torch.export.export(Two().eval(), example), tmp_path / "two.pt2")
    status, text, _ = command("convert", tmp_path / "two.pt2", "-o", tmp_path / "out")
    assert status == 0, text
    head = " ".join(text.partition("Files")[0].split())
    assert "Nothing was compared with PyTorch" in head
    assert "example inputs" in text
    status, text, _ = command(
        "convert", tmp_path / "two.pt2", "-o", tmp_path / "out", "--check-with-torch"
    )
    assert status == 0 and "PyTorch" in text, text


def test_options_of_checkpoints_are_refused(command, archive, tmp_path):
    for option in (("--prefix", "x"), ("--model", "a.keras"), ("--entry", "ema")):
        status, _, err = command("convert", archive[0], "-o", tmp_path / "out", *option)
        assert_one_line(status, err)
        assert option[0] in err and not (tmp_path / "out").exists()
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    status, _, err = command("convert", tmp_path / "w.npz", "-o", tmp_path, "--check-with-torch")
    assert_one_line(status, err)


class Odd(torch.nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x) + 1


def test_an_operator_that_is_not_known(command, tmp_path):
    export_program(Odd(), (torch.randn(2, 3),), tmp_path / "odd.pt2")
    status, _, err = command("convert", tmp_path / "odd.pt2", "-o", tmp_path / "out")
    assert_one_line(status, err)
    assert "aten.special_bessel_j0" in err and "--import" in err and "@converts" in err


def test_inspect(command, archive, tmp_path):
    status, text, _ = command("inspect", archive[0])
    assert status == 0
    assert "focus: 16 channels, 4 splits" in text
    assert "operators refused whatever their arguments: none" in text
    document = json.loads(command("inspect", archive[0], "--json")[1])
    assert document["inputs"][0]["name"] == "image"
    export_program(Odd(), (torch.randn(2, 3),), tmp_path / "odd.pt2")
    assert "aten.special_bessel_j0.default, 1 times" in command("inspect", tmp_path / "odd.pt2")[1]
