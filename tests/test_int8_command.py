"""`ulsam-keras convert --precision int8`: files, reports, and every way to ask for it wrongly."""

import json

import numpy as np
import pytest
import torch

import gpu_drivers
import parity
from converters.tflite.flatbuffer import read_graphs
from converters.tflite.sites import float_operators
from test_command import CHECKPOINT, DIGITS, MODEL, RECORDING

# Of 360 held-out images: what 8 bits may cost.
MOST_LOST = 2


@pytest.fixture(scope="module")
def training_images(tmp_path_factory):
    """The digits that the network was trained on, as an .npz file: (path, images NCHW)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear")
    images = images.round().div(255).repeat(1, 3, 1, 1).numpy()
    train, held_out = train_test_split(
        np.arange(len(images)), test_size=0.2, stratify=digits.target, random_state=0
    )
    # The reference is of the other part.
    assert np.abs(images[held_out] - np.load(RECORDING)["inputs"]).max() <= 1.01 / 255
    path = tmp_path_factory.mktemp("calibration") / "digits.npz"
    np.savez(path, inputs=images[train[:200]])
    return path, images[train[:120]]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")


def digits(command, out, *more):
    arguments = ("--model", MODEL, "--reference", RECORDING, "--output-dir", out)
    return command("convert", CHECKPOINT, *arguments, *more)


def test_digits_in_int8(command, training_images, tmp_path, monkeypatch):
    gpu_drivers.hide(monkeypatch)
    out = tmp_path / "out"
    data, _ = training_images
    status, text, err = digits(command, out, "--precision", "int8", "--calibration", data)
    assert (status, err) == (0, ""), text
    content = (out / "digits_ulsam_int8.tflite").read_bytes()
    assert float_operators(read_graphs(content)[0]) == []

    report = json.loads((out / "report.json").read_text())
    assert report["passed"] and report["files"][0]["float_operators"] == []
    assert report["calibration"]["description"] == "200 samples of digits.npz, as stored"
    recorded = np.load(RECORDING)
    float_correct = int((recorded["outputs"].argmax(1) == recorded["labels"]).sum())
    (row,) = [
        c
        for c in report["comparisons"]
        if (c["subject"], c["reference"], c["runtime"]) == ("int8", "keras", "XNNPACK")
        and c["data"] == "reference"
    ]
    assert row["samples"] == 360 and row["correct"] >= float_correct - MOST_LOST
    sites = [r for r in report["attention"] if r["runtime"] == "XNNPACK"]
    assert [r["site"] for r in sites] == ["ulsam1", "ulsam2", "ulsam3"]
    for r in sites:
        assert r["passed"] and r["snr"] > 20 and r["cosine"] > 0.99 and r["zeros"] < 0.05
        assert r["float_operators"] == []
    assert "Float operators in digits_ulsam_int8.tflite: none." in text
    assert f"{row['correct']} of 360" in text
    for site in ("ulsam1", "ulsam2", "ulsam3"):
        assert site in text


@pytest.mark.slow
def test_digits_with_a_folder_of_images_a_float_island_and_16_bits(
    command, training_images, tmp_path, monkeypatch
):
    import tensorflow as tf

    gpu_drivers.hide(monkeypatch)
    _, images = training_images
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(images):
        pixels = np.round(image.transpose(1, 2, 0) * 255).astype("uint8")
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    options = ("--precision", "int8,int16x8", "--calibration", folder, "--attention", "float")
    status, text, _ = digits(command, tmp_path / "out", *options)
    assert status == 0, text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    calibration = report["calibration"]
    assert calibration["description"] == "120 samples of pictures, images, (pixel / 255 - 0) / 1"
    files = {file["precision"]: file for file in report["files"]}
    assert files["int8"]["float_operators"] == ["DIV", "EXP", "REDUCE_MAX", "SUB", "SUM"]
    assert files["int16x8"]["float_operators"] == []
    snr = {r["subject"]: r["snr"] for r in report["attention"] if r["runtime"] == "XNNPACK"}
    assert snr["int16x8"] > snr["int8"] > 20


@pytest.fixture(scope="module")
def flat_block(tmp_path_factory):
    """A checkpoint of a ULSAM with nearly flat scores, and features to calibrate it with."""
    folder = tmp_path_factory.mktemp("flat")
    module = parity.oracle(2, 16, seed=0).float()
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if "conv_point.weight" in key:
                value.mul_(0.05)
    torch.save(module.state_dict(), folder / "flat.pth")
    features = np.random.default_rng(0).normal(size=(100, 16, 56, 56)).astype("float32")
    np.savez(folder / "features.npz", inputs=features)
    return folder


def test_dead_attention_fails(command, flat_block, tmp_path, monkeypatch):
    gpu_drivers.hide(monkeypatch)
    arguments = (
        "convert", flat_block / "flat.pth", "--input-size", 56, "--precision", "int8",
        "--calibration", flat_block / "features.npz", "--output-dir",
    )  # fmt: skip
    status, text, _ = command(*arguments, tmp_path / "plain", "--attention", "softmax")
    assert status == 1 and "DEAD" in text
    report = json.loads((tmp_path / "plain" / "report.json").read_text())
    assert not report["passed"]
    # The output shows nothing of it.
    outputs = {c["runtime"]: c for c in report["comparisons"]}
    inside = {r["runtime"]: r for r in report["attention"]}
    for runtime in ("XNNPACK", "built-in"):
        assert outputs[runtime]["passed"]
        row = inside[runtime]
        assert (row["snr"], row["zeros"], row["passed"]) == (0, 1, False)
    # The reference kernel of SOFTMAX aborts where its sum of exponentials needs a thirteenth bit.
    assert inside["reference"]["problem"].startswith("crashed: ended by SIGABRT")
    # The files are there all the same, and the limit is the user's.
    assert (tmp_path / "plain" / "flat_int8.tflite").is_file()

    assert (
        "Dead attention, its SNR below the limit (attention_snr): ulsam (in the softmax of int8)"
        in text
    )

    status, text, _ = command(*arguments, tmp_path / "default")
    assert status == 0 and "DEAD" not in text and "Dead" not in text
    assert "smaller than the output's own rounding" in " ".join(text.split())
    status, text, _ = command(*arguments, tmp_path / "more", "--tolerance", "attention_snr=60")
    assert status == 1 and "DEAD" in text


USAGE = {
    "no data": (["--precision", "int8"], "give --calibration"),
    "no integers": (["--calibration", RECORDING], "leave it out.*float32, float16"),
    "form without int8": (["--attention", "float"], "--attention is for the precision int8"),
    "unknown form": (["--attention", "tanh"], "tanh.*is not one of"),
    "unknown precision": (["--precision", "int4"], "int8, int16x8.*Received: int4"),
    "stored numbers scaled": (
        ["--precision", "int8", "--calibration", RECORDING, "--image-mean", "0.5"],
        "--image-mean and --image-std scale a folder of images",
    ),
    "no number": (["--image-mean", "grey"], "one per channel.*Received: grey"),
    "no such data": (
        ["--precision", "int8", "--calibration", "nowhere.npz"],
        "No such file.*nowhere.npz",
    ),
    "no images": (["--precision", "int8", "--calibration", DIGITS], "must hold images"),
    "empty folder": (["--precision", "int8", "--calibration", "EMPTY"], "must hold images.*EMPTY"),
    "text": (["--precision", "int8", "--calibration", "TEXT.npz"], "written with numpy.savez"),
    "other array": (["--precision", "int8", "--calibration", "OTHER.npz"], "inputs.NAME.*with x"),
    "no samples": (["--precision", "int8", "--calibration", "NONE.npz"], "at least one sample"),
    "NaN": (["--precision", "int8", "--calibration", "NAN.npz"], "must be finite.*NaN"),
    "no image": (["--precision", "int8", "--calibration", "FOLDER"], "No image.*bad.png"),
    "type without int8": (["--inference-type", "uint8"], "--inference-type is for .*int8"),
    "unknown type": (["--inference-type", "int4"], "int4.*is not one of"),
    "type with a float island": (
        [
            *("--precision", "int8", "--calibration", RECORDING),
            *("--inference-type", "uint8", "--attention", "float"),
        ],
        "float inputs and outputs only.*Received: --inference-type uint8",
    ),
    "GPU without 16 bits": (
        ["--precision", "int16x8", "--calibration", RECORDING, "--require-gpu"],
        "takes no 16-bit integers",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_input_writes_nothing(command, tmp_path, monkeypatch, name):
    import re

    gpu_drivers.hide(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FOLDER").mkdir()
    for text_file in ("TEXT.npz", "FOLDER/bad.png"):
        (tmp_path / text_file).write_text("this is a text file")
    images = np.zeros((2, 3, 32, 32), "float32")
    np.savez("OTHER", x=images)
    np.savez("NONE", inputs=images[:0])
    np.savez("NAN", inputs=images + np.nan)
    options, match = USAGE[name]
    status, text, err = digits(command, tmp_path / "out", *options)
    assert (status, text) == (2, "")
    assert err.count("\n") == 1 and re.search(match, err), err
    assert not (tmp_path / "out").exists()


def test_data_of_another_shape(command, tmp_path, monkeypatch):
    gpu_drivers.hide(monkeypatch)
    np.savez(tmp_path / "small.npz", inputs=np.zeros((5, 3, 16, 16), "float32"))
    options = ("--precision", "int8", "--calibration", tmp_path / "small.npz")
    status, _, err = digits(command, tmp_path / "out", *options)
    assert status == 2 and "(None, 32, 32, 3)" in err and "(5, 3, 16, 16)" in err
    assert not (tmp_path / "out").exists()


def test_integer_inputs_and_verify(command, training_images, tmp_path, monkeypatch):
    gpu_drivers.hide(monkeypatch)
    out = tmp_path / "out"
    data, images = training_images
    options = ("--precision", "int8", "--calibration", data, "--inference-type", "uint8")
    status, text, err = digits(command, out, *options)
    assert (status, err) == (0, ""), text
    report = json.loads((out / "report.json").read_text())
    (image,) = report["files"][0]["inputs"].values()
    (logits,) = report["files"][0]["outputs"].values()
    assert (image["dtype"], logits["dtype"]) == ("uint8", "uint8")
    # Pixels of 0 to 1 in 256 steps.
    assert image["scale"] == pytest.approx(1 / 255, rel=1e-3) and image["zero_point"] == 0
    assert report["warnings"] == []
    assert f"image uint8, number = {image['scale']:.6g} * (integer - 0)" in " ".join(text.split())

    sides = (out / "digits_ulsam_int8.tflite", out / "model.keras")
    for pair in (sides, sides[::-1]):
        status, text, err = command("verify", *pair)
        assert (status, err) == (0, ""), text
        assert "are those of int8" in text and "ulsam3" in text
    status, text, _ = command("verify", *sides, "--inputs", data, "--classifier")
    assert status == 0 and "100.0%" in text, text
    status, text, _ = command("verify", sides[0], RECORDING)
    assert status == 0 and "Attention not compared" in text, text
    status, text, _ = command("verify", *sides, "--tolerance", "attention_snr=60")
    assert status == 1 and "Dead attention" in text and "3 of 12" not in text


def test_verify_finds_a_dead_attention(command, flat_block, tmp_path, monkeypatch):
    """Of two files that give the same outputs."""
    import keras

    from converters import load_checkpoint, port_weights, to_tflite
    from ulsam_keras import ULSAM

    gpu_drivers.hide(monkeypatch)
    inputs = keras.Input((56, 56, 16))
    layer = ULSAM(2)
    model = keras.Model(inputs, layer(inputs))
    port_weights(load_checkpoint(flat_block / "flat.pth"), layer)
    features = np.load(flat_block / "features.npz")["inputs"].transpose(0, 2, 3, 1)
    files = {None: to_tflite(model), "log_softmax": b"", "softmax": b""}
    for form in ("log_softmax", "softmax"):
        files[form] = to_tflite(
            model, precision="int8", representative_data=features, attention=form
        )
    for form, content in files.items():
        (tmp_path / f"{form}.tflite").write_bytes(content)
    sound = command("verify", tmp_path / "log_softmax.tflite", tmp_path / "None.tflite")
    assert sound[0] == 0, sound[1]
    for other in ("None", "log_softmax"):
        status, text, _ = command(
            "verify", tmp_path / "softmax.tflite", tmp_path / f"{other}.tflite"
        )
        outputs, inside = text.split("Attention inside int8")
        assert status == 1 and "DEAD" in inside and "Dead attention" in inside
        assert all("passed" in line for line in outputs.splitlines() if "XNNPACK" in line)


@pytest.mark.filterwarnings("error::UserWarning")
def test_what_was_asked_for_is_not_warned_of():
    """That the GPU takes no log-softmax and no 16-bit integers `lint` tells, and the report."""
    import keras

    from converters import lint, to_tflite
    from ulsam_keras import ULSAM

    inputs = keras.Input((6, 6, 8))
    x = ULSAM(1)(ULSAM(4)(inputs))
    data = np.random.default_rng(0).normal(size=(100, 6, 6, 8)).astype("float32")
    for precision, code in (("int8", "LOG_SOFTMAX"), ("int16x8", "DTYPE")):
        content = to_tflite(keras.Model(inputs, x), precision=precision, representative_data=data)
        assert {finding.code for finding in lint(content)} == {code}
    own = keras.ops.log_softmax(keras.ops.mean(x, axis=(1, 2)))
    with pytest.warns(UserWarning, match="^LOG_SOFTMAX: ") as caught:
        content = to_tflite(keras.Model(inputs, own), precision="int8", representative_data=data)
    *_, last = [f for f in lint(content) if f.code == "LOG_SOFTMAX"]
    assert len(caught) == 1 and str(caught[0].message).endswith(f" with {last.where}")


def test_what_the_gpu_does_not_take_is_told(command, training_images, tmp_path, monkeypatch):
    for name, value in gpu_drivers.environment("swiftshader").items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    options = ("--precision", "int8", "--calibration", training_images[0])
    status, text, _ = digits(command, out, *options)
    told = "not run on the GPU: the GPU delegate takes no log-softmax"
    # Once, and no adapter that nothing ran on.
    assert status == 0 and text.count(told) == text.count("GPU:") == 1, text
    (note,) = json.loads((out / "report.json").read_text())["notes"]
    assert note.startswith(f"int8 {told}") and "--attention float" in note
    sides = (out / "digits_ulsam_int8.tflite", out / "model.keras")
    status, text, _ = command("verify", *sides)
    assert status == 0 and text.count(told) == text.count("GPU:") == 1, text
    for arguments in (("verify", *sides), ("convert", out / "model.keras", "-o", "x", *options)):
        status, text, err = command(*arguments, "--require-gpu")
        assert (status, text, err.count("\n")) == (2, "", 1) and "no log-softmax" in err
