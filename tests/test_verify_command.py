"""`ulsam-keras verify`: its limits, the attention, inputs of every type, and its tables."""

import json
import re
import shutil

import keras
import numpy as np
import pytest

import gpu_drivers
from test_command import MODEL, RECORDING, assert_one_line


@pytest.fixture(scope="module")
def converted(module_checkpoint, tmp_path_factory):
    """Files of the lone ULSAM that give its attention, and its model, which does not."""
    from converters.convert import Request, convert

    folder = tmp_path_factory.mktemp("converted")
    checkpoint = str(module_checkpoint / "ulsam.pth")
    assert convert(Request(checkpoint, str(folder), with_attention=True)).passed
    return folder


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic_range"])
def test_verify_takes_the_limits_of_what_a_file_is(command, tmp_path, precision):
    from converters import to_tflite
    from converters.tflite.flatbuffer import read_graphs
    from converters.tflite.precision import precision_of
    from converters.verify.limits import Limits
    from ulsam_keras import ULSAM

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 16))
    # Kernels of fewer values the converter leaves in float32.
    x = keras.layers.Conv2D(16, 3)(inputs)
    model = keras.Model(inputs, ULSAM(4)(x))
    content = to_tflite(model, precision=precision)
    assert precision_of(read_graphs(content)[0]) == precision
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.tflite").write_bytes(content)
    sides = (tmp_path / "model.tflite", tmp_path / "model.keras")
    status, text, err = command("verify", *sides)
    assert (status, err) == (0, ""), text
    limits = Limits()
    assert f" {getattr(limits, precision):.0e} " in text
    assert f" {getattr(limits, f'attention_{precision}'):.0e} " in text
    assert f"are those of {precision}, the coarser of the two." in text
    if precision != "float16":
        return
    # The other way round too, and with limits of one's own.
    status, text, _ = command("verify", *sides[::-1], "--tolerance", "float16=0.125")
    assert status == 0 and " 1e-01 " in text, text
    assert command("verify", *sides, "--tolerance", "float16=1e-12")[0] == 1
    assert command("verify", *sides, "--tolerance", "attention_float16=1e-12")[0] == 1


def test_verify_help_says_the_limits(command):
    from converters.verify.limits import Limits

    text = "".join(command("verify", "--help")[1].split())
    for name, value in vars(Limits()).items():
        assert f"{name}={value:g}" in text


def test_verify_sees_an_attention_that_the_residual_hides(command, converted, tmp_path):
    other = keras.saving.load_model(converted / "model.keras")
    (kernel,) = [w for w in other.weights if w.name == "pointwise_kernel"]
    kernel.assign(-kernel)
    other.save(tmp_path / "other.keras")
    files = (converted / "ulsam_float32.tflite", converted / "ulsam_float16.tflite")
    for side in (converted / "model.keras", *files):
        options = [tmp_path / "other.keras"]
        for name in ("float32", "float16"):
            options += ["--tolerance", f"{name}=0.2"]
        status, text, err = command("verify", side, *options)
        assert (status, err) == (1, ""), text
        assert "Attention beyond its limit: ulsam" in text
        outputs, attention = text.split("Attention of every site,")
        assert "FAILED" not in outputs and "FAILED" in attention
    status, text, _ = command("verify", *files)
    assert status == 0 and "Attention of every site" in text


def test_verify_compares_the_attention_on_the_gpu(command, converted, monkeypatch):
    """Of a file that gives it already: the GPU refuses one that gives it twice."""
    for name, value in gpu_drivers.environment("swiftshader").items():
        monkeypatch.setenv(name, value)
    sides = (converted / "ulsam_float32.tflite", converted / "model.keras")
    status, text, err = command("verify", *sides, "--require-gpu")
    assert (status, err) == (0, ""), text
    _, attention = text.split("Attention of every site,")
    assert "GPU float32" in attention


def without_ulsam():
    inputs = keras.Input((14, 14, 32))
    return keras.Model(inputs, keras.layers.ReLU()(inputs))


def of_eight_groups():
    from ulsam_keras import ULSAM

    inputs = keras.Input((14, 14, 32))
    return keras.Model(inputs, ULSAM(8)(inputs))


LEFT_OUT = {
    "recording": (None, "recorded.npz is a reference of outputs"),
    "no ULSAM": (without_ulsam, "The model has no ULSAM layer"),
    "other groups": (of_eight_groups, "(14, 14, 4) in ulsam_float32.tflite and (14, 14, 8) in"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_verify_says_why_attention_is_left_out(
    command, converted, module_checkpoint, tmp_path, name
):
    build, words = LEFT_OUT[name]
    other = module_checkpoint / "recorded.npz"
    if build is not None:
        other = tmp_path / "other.keras"
        build().save(other)
    _, text, err = command("verify", converted / "ulsam_float32.tflite", other)
    assert err == ""
    _, _, reason = " ".join(text.split()).partition("Attention not compared: ")
    assert words in reason, text


def test_verify_tells_files_by_their_suffix_in_any_case(
    command, converted, module_checkpoint, tmp_path
):
    shutil.copy(converted / "ulsam_float32.tflite", tmp_path / "A.TFLITE")
    shutil.copy(converted / "model.keras", tmp_path / "B.Keras")
    shutil.copy(module_checkpoint / "recorded.npz", tmp_path / "C.NPZ")
    status, text, _ = command("verify", tmp_path / "A.TFLITE", tmp_path / "B.Keras")
    assert status == 0 and "GPU:" in text
    status, text, _ = command("verify", tmp_path / "B.Keras", tmp_path / "C.NPZ")
    assert status == 0 and "The one comparison passed." in text and "GPU:" not in text
    options = ("--tolerance", "reference=0")
    status, text, _ = command("verify", tmp_path / "B.Keras", tmp_path / "C.NPZ", *options)
    assert status == 1 and "The one comparison failed." in text


def test_verify_on_inputs_of_ones_own(command, converted, module_checkpoint, tmp_path):
    sides = (converted / "ulsam_float32.tflite", converted / "model.keras")
    x = np.load(module_checkpoint / "recorded.npz")["inputs"]
    bad = {
        "other.npz": ({"other": x}, "with other"),
        "small.npz": ({"inputs": x[:, :, 1:]}, "(6, 32, 13, 14)"),
        "nan.npz": ({"inputs": np.full_like(x, np.nan)}, "finite"),
        "none.npz": ({"inputs": x[:0]}, "at least one sample"),
    }
    for name, (arrays, words) in bad.items():
        np.savez(tmp_path / name, **arrays)
        status, text, err = command("verify", *sides, "--inputs", tmp_path / name)
        assert_one_line(status, err)
        assert words in err and text == ""
    np.savez(tmp_path / "x.npz", inputs=x)
    status, text, err = command("verify", *sides, "--inputs", tmp_path / "x.npz")
    assert (status, err) == (0, ""), text
    assert "on the given inputs" in text and re.search("XNNPACK +6 ", text)
    recording = module_checkpoint / "recorded.npz"
    status, _, err = command("verify", sides[0], recording, "--inputs", tmp_path / "x.npz")
    assert_one_line(status, err)


def test_tables_fit_into_80_columns(command, converted, module_checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    name = "a_name_of_a_file_that_is_long.tflite"
    shutil.copy(converted / "ulsam_float16.tflite", tmp_path / name)
    for other in (converted / "model.keras", module_checkpoint / "recorded.npz"):
        status, text, _ = command("verify", tmp_path / name, other)
        assert status == 0 and f"Compared: {name}\n" in text
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        for line in lines:
            kernels = [
                k for k in ("XNNPACK", "built-in", "reference") if line.strip().startswith(k)
            ]
            assert not kernels or line.rstrip().endswith("passed"), line


INTEGER_MODELS = """
import keras
from ulsam_keras import ULSAM

def of(dtype):
    inputs = keras.Input((8, 8, 16), dtype=dtype, name="pixels")
    return keras.Model(inputs, ULSAM(4)(keras.layers.Rescaling(1 / 64)(inputs)))

def uint8(): return of("uint8")
def int8(): return of("int8")
def int32(): return of("int32")
"""


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_models_that_take_integers(command, tmp_path, dtype):
    import torch

    import torch_reference

    (tmp_path / "own.py").write_text(INTEGER_MODELS)
    torch.manual_seed(0)
    torch.save(torch_reference.ULSAM(16, 4).state_dict(), tmp_path / "m.pth")
    options = ("--model", f"{tmp_path / 'own.py'}:{dtype}", "--precision", "float32")
    out = tmp_path / "out"
    status, text, err = command("convert", tmp_path / "m.pth", "-o", out, *options)
    assert (status, err) == (0, ""), text
    (pixels,) = json.loads((out / "report.json").read_text())["files"][0]["inputs"].values()
    assert pixels["dtype"] == dtype
    status, text, err = command("verify", out / "m_float32.tflite", out / "model.keras")
    assert (status, err) == (0, ""), text

    model = keras.saving.load_model(out / "model.keras")
    x = np.random.default_rng(0).integers(0, 100, (5, 8, 8, 16))
    np.savez(tmp_path / "x.npz", inputs=x, outputs=model.predict(x.astype(dtype), verbose=0))
    sides = (out / "m_float32.tflite", tmp_path / "x.npz")
    assert command("verify", *sides)[0] == 0
    np.savez(tmp_path / "x.npz", inputs=x + 0.5, outputs=np.zeros(x.shape))
    status, _, err = command("verify", *sides)
    assert_one_line(status, err)
    assert "not whole" in err
    status, _, err = command(
        "convert", tmp_path / "m.pth", "-o", out, *options, "--reference", tmp_path / "x.npz"
    )
    assert_one_line(status, err)


def test_integers_that_a_model_does_not_take(command, tmp_path):
    inputs = keras.Input((6,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(10, 4)(inputs)
    keras.Model(inputs, keras.layers.Dense(3)(x)).save(tmp_path / "tokens.keras")
    status, _, err = command("verify", tmp_path / "tokens.keras", tmp_path / "tokens.keras")
    assert_one_line(status, err)
    assert "--inputs" in err and "tokens of int32" in err and "is not in [0, 10)" in err
    np.savez(tmp_path / "tokens.npz", **{"inputs.tokens": np.arange(6)[None]})
    options = ("--inputs", tmp_path / "tokens.npz")
    sides = (tmp_path / "tokens.keras", tmp_path / "tokens.keras")
    assert command("verify", *sides, *options)[0] == 0


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [("uint8", 0, 255), ("int8", -128, 127), ("int32", 0, 255), ("int64", 0, 255), ("bool", 0, 1)],
)
def test_random_integers_fill_their_range(dtype, least, most):
    from converters.verify.samples import random_samples
    from converters.verify.sides import Model

    side = Model("m", {"x": (None, 100, 100)}, {"x": dtype}, {})
    [values] = random_samples(side, side, [(100, 100)]).inputs.values()
    assert values.dtype == dtype
    assert (values.min(), values.max()) == (least, most)


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (("nothing.tflite", "TEXT.tflite"), "nothing.tflite"),
        (("TEXT.tflite", "TEXT.tflite"), "LiteRT"),
        ((str(RECORDING), str(RECORDING)), "model"),
        (("TEXT.keras", str(RECORDING)), "TEXT.keras"),
        (("SMALL.keras", str(RECORDING)), "(None, 8, 8, 4)"),
        (("SMALL.keras", MODEL), "one shape"),
    ],
)
def test_verify_bad_sides(command, tmp_path, sides, words):
    for name in ("TEXT.tflite", "TEXT.keras"):
        (tmp_path / name).write_text("this is a text file and no model")
    inputs = keras.Input((8, 8, 4))
    keras.Model(inputs, keras.layers.ReLU()(inputs)).save(tmp_path / "SMALL.keras")
    known = ("TEXT", "SMALL", "nothing")
    places = [str(tmp_path / s) if s.startswith(known) else s for s in sides]
    status, text, err = command("verify", *places)
    assert_one_line(status, err)
    assert words in err, err
    assert text == ""


def two_inputs():
    z, a = keras.Input((6, 6, 4), name="z"), keras.Input((6, 6, 4), name="a")
    from ulsam_keras import ULSAM

    y = keras.layers.Subtract(name="y")([ULSAM(2)(z), keras.layers.Rescaling(2.0)(a)])
    return keras.Model([z, a], {"y": y, "b": keras.layers.ReLU(name="relu")(y)})


def test_verify_pairs_inputs_and_outputs_by_name(command, tmp_path):
    from converters import to_tflite

    model = two_inputs()
    model.save(tmp_path / "two.keras")
    (tmp_path / "two.tflite").write_bytes(to_tflite(model))
    status, text, err = command("verify", tmp_path / "two.tflite", tmp_path / "two.keras")
    assert (status, err) == (0, ""), text
