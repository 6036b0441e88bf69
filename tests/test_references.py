"""References of every kind: names, layouts, counts, layers; PyTorch's answers, users' mistakes."""

import json
import re
import zipfile
from contextlib import nullcontext
from dataclasses import replace

import keras
import numpy as np
import pytest
import torch

import gpu_drivers
from converters import export_program, record
from converters.source import Porting, read_source
from converters.verify.outputs import class_count, classes_of
from converters.verify.samples import as_reference
from converters.verify.sides import Model
from test_command import assert_one_line

L = keras.layers
ROUNDING = 1e-5  # relative to the largest value: float32 sums in another order


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    gpu_drivers.hide(monkeypatch)


def two_ended():
    """Two inputs, and a dictionary of a map and of one value per sample."""
    keras.utils.set_random_seed(0)
    from ulsam_keras import ULSAM

    z, a = keras.Input((8, 8, 3), name="zebra"), keras.Input((4,), name="apple")
    maps = ULSAM(3)(L.Conv2D(6, 3, padding="same")(z))
    value = L.Dense(1)(L.Concatenate()([L.GlobalAveragePooling2D()(maps), a]))
    return keras.Model([z, a], {"mask": maps, "value": value})


@pytest.fixture
def ends():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(7, 8, 8, 3)).astype("float32")
    a = rng.normal(size=(7, 4)).astype("float32")
    outputs = two_ended().predict([z, a], verbose=0)
    return z, a, outputs["mask"], outputs["value"]


LAYOUTS = {
    "by name": lambda z, a, m, v: {
        "inputs.apple": a,
        "inputs.zebra": z,
        "outputs.value": v,
        "outputs.mask": m,
    },
    "in order": lambda z, a, m, v: {
        "inputs.first": z,
        "inputs.second": a,
        "outputs.0": m,
        "outputs.1": v,
    },
    "channels second": lambda z, a, m, v: {
        "inputs.zebra": z.transpose(0, 3, 1, 2),
        "inputs.apple": a,
        "outputs.mask": m.transpose(0, 3, 1, 2),
        "outputs.value": v,
    },
    "one axis less": lambda z, a, m, v: {
        "inputs.zebra": z,
        "inputs.apple": a,
        "outputs.mask": m,
        "outputs.value": v[:, 0],
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_several_inputs_and_outputs(command, tmp_path, ends, name):
    two_ended().save(tmp_path / "m.keras")
    np.savez(tmp_path / "r.npz", **LAYOUTS[name](*ends))
    status, text, _ = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
    assert status == 0, text
    in_order = "zebra as zebra" not in text and "first as zebra" in " ".join(text.split())
    assert in_order == (name == "in order")
    # And a wrong value of either output is seen.
    arrays = LAYOUTS[name](*ends)
    for key in [key for key in arrays if key.startswith("outputs")]:
        np.savez(tmp_path / "w.npz", **arrays | {key: arrays[key] * 1.01})
        assert command("verify", tmp_path / "m.keras", tmp_path / "w.npz")[0] == 1


@pytest.mark.parametrize("further", [(), ("--with-attention",)])
def test_convert_several_ends(command, tmp_path, ends, further):
    two_ended().save(tmp_path / "m.keras")
    np.savez(tmp_path / "r.npz", **LAYOUTS["channels second"](*ends))
    np.savez(tmp_path / "c.npz", **{"inputs.zebra": ends[0], "inputs.apple": ends[1]})
    status, text, _ = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out"),
        *("--reference", tmp_path / "r.npz", "--precision", "float32,int8"),
        *("--calibration", tmp_path / "c.npz", *further),
    )
    assert status == 0, text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = {o["name"] for c in report["comparisons"] for o in c["outputs"]}
    assert names == {"mask", "value"}
    file = tmp_path / "out" / "m_float32.tflite"
    assert command("verify", file, tmp_path / "r.npz")[0] == 0
    assert command("verify", file, tmp_path / "m.keras", "--inputs", tmp_path / "c.npz")[0] == 0


def test_any_count_of_samples_at_any_batch_size(command, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(3, 6, 6, 2))
    model = keras.Model(inputs, L.Dense(4)(L.Flatten()(inputs)))
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 2)).astype("float32")
    w, b = model.get_weights()
    np.savez(tmp_path / "r.npz", inputs=x, outputs=x.reshape(64, -1) @ w + b)
    options = ("--reference", tmp_path / "r.npz", "--precision", "float32")
    status, text, _ = command("convert", tmp_path / "m.keras", "-o", tmp_path / "out", *options)
    assert status == 0 and " 64 " in text, text
    for side in (tmp_path / "m.keras", tmp_path / "out" / "m_float32.tflite"):
        assert command("verify", side, tmp_path / "r.npz")[0] == 0


def classifier():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2), name="x")
    return keras.Model(inputs, L.Dense(4)(L.Flatten()(inputs)))


def arrays_of(model, count=9):
    x = np.random.default_rng(0).normal(size=(count, 6, 6, 2)).astype("float32")
    return {"inputs": x, "outputs": model.predict(x, verbose=0)}


WRONG = {
    "labels out of range": (lambda a: a | {"labels": np.full(9, 777)}, "0 to 3"),
    "negative labels": (lambda a: a | {"labels": np.full(9, -1)}, "0 to 3"),
    "labels of floats": (lambda a: a | {"labels": np.ones(9)}, "integers of shape (N,)"),
    "labels for others": (lambda a: a | {"labels": np.zeros(8, int)}, "same number of samples"),
    "no outputs": (lambda a: {"inputs": a["inputs"]}, "inputs and outputs"),
    "two outputs": (
        lambda a: {"inputs": a["inputs"], "outputs.a": a["outputs"], "outputs.b": a["outputs"]},
        "outputs.a, outputs.b",
    ),
    "another shape": (lambda a: a | {"outputs": a["outputs"][:, :2]}, "(9, 2)"),
    "another size": (lambda a: a | {"inputs": a["inputs"][:, :4]}, "(9, 4, 6, 2)"),
    "NaN": (lambda a: a | {"inputs": a["inputs"] + np.nan}, "NaN"),
    "text": (lambda a: a | {"outputs": np.array(["a"] * 9)}, "numbers"),
    "nothing": (lambda a: {}, "inputs and outputs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_references_that_are_refused(command, tmp_path, name):
    model = classifier()
    model.save(tmp_path / "m.keras")
    change, words = WRONG[name]
    np.savez(tmp_path / "r.npz", **change(arrays_of(model)))
    status, _, err = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
    assert_one_line(status, err)
    assert words in err, err


SHARES = np.array([[0.1], [0.9], [0.4], [0.6]], "float32")
LABELLED = {
    # Output, labels, what is said if they are refused.
    "classes": (np.eye(4), [0, 1, 2, 3], ""),
    "two classes in one value": (SHARES, [0, 1, 1, 0], ""),
    "beyond two classes": (SHARES, [0, 1, 2, 0], "0 to 1"),
    "negative": (SHARES, [0, 1, -1, 0], "0 to 1"),
    "maps": (np.zeros((4, 3, 3, 2)), [0, 1, 1, 0], "an output (N, classes), or (N, 1)"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_classes_of_an_output(name):
    output, labels, words = LABELLED[name]
    arrays = {"inputs": np.zeros((4, 2)), "outputs": output, "labels": np.array(labels)}
    reference = as_reference(arrays, "r")
    with nullcontext() if not words else pytest.raises(ValueError, match=re.escape(words)):
        shapes = {"x": (None, 2)}, {"x": "float32"}, {"y": (None, *output.shape[1:])}
        assert reference.fitted(Model("m", *shapes)).labels.tolist() == labels


def test_the_class_that_an_output_says():
    assert classes_of(np.eye(3)[[2, 0]]).tolist() == [2, 0]
    assert classes_of(SHARES).tolist() == [0, 1, 0, 1]
    logits = SHARES * 3 - 1  # two of them 0 to 1
    assert classes_of(logits).tolist() == [0, 1, 1, 1]
    assert [class_count(np.zeros((4, *s))) for s in [(5,), (1,), (), (2, 2)]] == [5, 2, 0, 0]


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 96, 64), (96, 64)), ((8, 8, 3), (8, 8)), ((3, 20, 24), (20, 24))],
)
def test_the_size_of_recorded_images(shape, size):
    reference = as_reference({"inputs": np.zeros((2, *shape)), "outputs": np.zeros((2, 1))}, "r")
    assert reference.image_size() == size


class Sum(torch.nn.Module):
    def forward(self, left, right):
        return left + right.mean((2, 3), keepdim=True)


def test_answers_of_now_keep_what_else_was_recorded(tmp_path):
    """The layers, the labels, and that names were taken in order."""
    x, y = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    export_program(Sum(), (x, y), tmp_path / "m.pt2")
    stored = {"inputs.0": x, "inputs.1": y, "outputs": x, "layers.a": x, "labels": torch.arange(3)}
    recorded = as_reference({key: value.numpy() for key, value in stored.items()}, "r.npz")
    source = read_source(str(tmp_path / "m.pt2"), Porting())
    now = source.asked(recorded)
    np.testing.assert_array_equal(now.outputs["output"], Sum()(x, y))
    np.testing.assert_array_equal(now.layers["a"], x)
    np.testing.assert_array_equal(now.labels, recorded.labels)
    in_order = (("0", "left"), ("1", "right"))
    for reference in (now, recorded):
        made = source.make(Porting(), None, reference).reference
        assert made.arranged and made.taken_as == in_order
    maps = {"left": (None, 4, 4, 2), "right": (None, 4, 4, 2)}
    model = Model("m", maps, dict.fromkeys(maps, "float32"), {"output": (None, 4, 4, 2)})
    fitted = replace(made, labels=None).fitted(model)
    assert fitted.taken_as == in_order
    again = fitted.under(["a", "b"], ["output"]).taken_as
    assert again == (*in_order, ("left", "a"), ("right", "b"))
    # Inputs and outputs may have the same names.
    arrays = {f"{side}.{n}": np.zeros((2, 1)) for side in ("inputs", "outputs") for n in "01"}
    pairs = as_reference(arrays, "r").under(["a", "b"], ["c", "d"]).taken_as
    assert pairs == (("0", "a"), ("1", "b"), ("0", "c"), ("1", "d"))


def test_a_damaged_compressed_file(command, tmp_path):
    """Whatever byte is wrong, it is one line; zlib's errors were a traceback."""
    model = classifier()
    model.save(tmp_path / "m.keras")
    np.savez_compressed(tmp_path / "r.npz", **arrays_of(model))
    content = bytearray((tmp_path / "r.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "r.npz") as archive:
        start = archive.infolist()[0].header_offset + 60
    for place in range(start, len(content), len(content) // 6):
        damaged = content.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "d.npz").write_bytes(damaged)
        status, _, err = command("verify", tmp_path / "m.keras", tmp_path / "d.npz")
        assert status in (0, 1) or assert_one_line(status, err) is None
    (tmp_path / "d.npz").write_bytes(content[: len(content) // 2])
    assert_one_line(*command("verify", tmp_path / "m.keras", tmp_path / "d.npz")[::2])


@pytest.mark.parametrize("layout", ["PyTorch's", "Keras's"])
def test_the_input_size_is_the_reference_s(command, tmp_path, layout):
    """Where the model leaves it open."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(inputs)))
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(5, 20, 24, 3)).astype("float32")
    y = model.predict(x, verbose=0)
    stored = x.transpose(0, 3, 1, 2) if layout == "PyTorch's" else x
    np.savez(tmp_path / "r.npz", inputs=stored, outputs=y)
    options = ("--reference", tmp_path / "r.npz", "--precision", "float32")
    status, text, _ = command("convert", tmp_path / "m.keras", "-o", tmp_path / "out", *options)
    assert status == 0 and "image 1x20x24x3" in text, text


class Small(torch.nn.Module):
    def __init__(self, epsilon=1e-5):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3)
        self.bn = torch.nn.BatchNorm2d(6, eps=epsilon)
        self.head = torch.nn.Linear(6, 4)

    def forward(self, x):
        return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def keras_small(epsilon=1e-5):
    inputs = keras.Input((12, 12, 3), name="x")
    x = L.BatchNormalization(epsilon=epsilon, name="bn")(L.Conv2D(6, 3, name="conv")(inputs))
    return keras.Model(inputs, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(L.ReLU()(x))))


@pytest.fixture
def recorded(tmp_path):
    torch.manual_seed(0)
    module = Small(epsilon=0.3).train()
    module.bn.eval()
    with torch.no_grad():
        module.bn.running_var.uniform_(0.5, 1.5)
        module.bn.running_mean.normal_()
    x = torch.randn(40, 3, 12, 12)
    labels = torch.randint(0, 4, (40,))
    record(module, x, tmp_path / "r.npz", labels=labels, layers=True)
    # The mode of every module is as it was.
    assert module.training and not module.bn.training
    torch.save(module.state_dict(), tmp_path / "m.pth")
    return module.eval(), x, labels


def test_what_record_writes_is_what_the_module_answers(recorded, tmp_path):
    module, x, labels = recorded
    with np.load(tmp_path / "r.npz") as arrays:
        assert set(arrays) == {
            *("inputs", "outputs", "labels", "layers.conv", "layers.bn", "layers.head"),
        }
        with torch.no_grad():
            wanted = module(x).numpy()
            conv = module.conv(x).numpy()
        np.testing.assert_array_equal(arrays["inputs"], x.numpy())
        np.testing.assert_array_equal(arrays["labels"], labels.numpy())
        scale = np.abs(wanted).max()
        assert np.abs(arrays["outputs"] - wanted).max() <= ROUNDING * scale
        assert np.abs(arrays["layers.conv"] - conv).max() <= ROUNDING * np.abs(conv).max()


def test_a_difference_is_traced_to_the_first_layer_that_drifts(command, recorded, tmp_path):
    """The epsilon of a normalization is not in a checkpoint."""
    wrong, right = tmp_path / "wrong.keras", tmp_path / "right.keras"
    keras_small(0.1).save(wrong)
    keras_small(0.3).save(right)
    for model, expected in ((right, 0), (wrong, 1)):
        status, text, _ = command(
            *("convert", tmp_path / "m.pth", "--model", model, "-o", tmp_path / "out"),
            *("--reference", tmp_path / "r.npz", "--precision", "float32"),
        )
        assert status == expected, text
    text = " ".join(text.split())
    assert "The first layer that drifts is bn (bn)" in text and "conv is as recorded" in text
    status, text, _ = command("verify", tmp_path / "out" / "model.keras", tmp_path / "r.npz")
    assert status == 1 and "The first layer that drifts is bn" in " ".join(text.split())


def test_without_a_reference_it_is_said_first(command, recorded, tmp_path):
    keras_small(0.3).save(tmp_path / "m.keras")
    status, text, _ = command(
        *("convert", tmp_path / "m.pth", "--model", tmp_path / "m.keras", "-o", tmp_path / "out"),
        *("--precision", "float32"),
    )
    assert status == 0
    head = " ".join(text.partition("Files")[0].split())
    assert "Nothing was compared with PyTorch" in head and "converters.record" in head


def test_the_names_of_a_file_are_in_no_order_that_a_user_knows(command, tmp_path, ends):
    """Those of other tools are alphabetical; the model's order is not."""
    from converters import to_tflite

    model = two_ended()
    (tmp_path / "m.tflite").write_bytes(to_tflite(model))
    np.savez(tmp_path / "r.npz", **LAYOUTS["in order"](*ends))
    status, _, err = command("verify", tmp_path / "m.tflite", tmp_path / "r.npz")
    assert_one_line(status, err)
    assert "inputs.zebra, inputs.apple" in err


def test_names_of_which_some_are_right(command, tmp_path, ends):
    two_ended().save(tmp_path / "m.keras")
    arrays = LAYOUTS["by name"](*ends)
    arrays["inputs.zebr"] = arrays.pop("inputs.zebra")
    np.savez(tmp_path / "r.npz", **arrays)
    status, _, err = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
    assert_one_line(status, err)
    assert "inputs.zebr" in err


def test_one_array_decides_the_layout_of_the_others(command, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="x")
    model = keras.Model(inputs, L.Conv2D(8, 3, strides=2, padding="same")(inputs))
    assert model.output_shape == (None, 8, 8, 8)
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(5, 16, 16, 3)).astype("float32")
    y = model.predict(x, verbose=0)
    for stored in ((x, y), (x.transpose(0, 3, 1, 2), y.transpose(0, 3, 1, 2))):
        np.savez(tmp_path / "r.npz", inputs=stored[0], outputs=stored[1])
        assert command("verify", tmp_path / "m.keras", tmp_path / "r.npz")[0] == 0


def test_open_sizes_that_are_no_image_s(command, tmp_path):
    inputs = keras.Input((None, 4), name="steps")
    model = keras.Model(inputs, L.Dense(3)(inputs))
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(5, 10, 4)).astype("float32")
    np.savez(tmp_path / "r.npz", inputs=x, outputs=model.predict(x, verbose=0))
    options = ("--reference", tmp_path / "r.npz", "--precision", "float32")
    status, text, err = command("convert", tmp_path / "m.keras", "-o", tmp_path / "out", *options)
    assert status == 0 and "steps 1x10x4" in text, text + err
