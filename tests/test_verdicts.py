"""Every verdict can say no, and says no to nothing that is right: models as users bring them."""

import json

import keras
import numpy as np
import pytest

import gpu_drivers
from converters.verify.causes import likely_cause
from converters.verify.layers import first_drift
from converters.verify.limits import Limits
from converters.verify.outputs import OutputComparison, OutputDifference
from converters.verify.samples import as_reference
from converters.verify.sides import keras_side
from test_command import assert_one_line

L = keras.layers


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    gpu_drivers.hide(monkeypatch)


def images(count=120, size=16, seed=0):
    """Smooth pictures of different colours, 0 to 1: classes differ from one to the next."""
    rng = np.random.default_rng(seed)
    colours = rng.uniform(0.1, 1, (count, 1, 1, 3))
    return (rng.uniform(0.5, 1, (count, size, size, 3)) * colours).astype("float32")


def network(bias=0.0, activation=None, first=None, units=10, name=None):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3), name="image")
    x = inputs if first is None else first(inputs)
    x = L.Conv2D(16, 3, strides=2, activation="relu")(x)
    x = L.GlobalAveragePooling2D()(L.Conv2D(32, 3, activation="relu")(x))
    constant = keras.initializers.Constant(bias)
    out = L.Dense(units, activation=activation, bias_initializer=constant, name=name)(x)
    return keras.Model(inputs, out)


@pytest.fixture
def int8(command, tmp_path):
    """Converts a model to int8 on pictures: (status, text, report)."""

    def run(model, *options, data=None):
        model.save(tmp_path / "m.keras")
        np.savez(tmp_path / "data.npz", inputs=images() if data is None else data)
        status, text, err = command(
            *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "int8"),
            *("--calibration", tmp_path / "data.npz", *options),
        )
        written = tmp_path / "out" / "report.json"
        return status, text, json.loads(written.read_text()) if written.exists() else err

    return run


@pytest.mark.parametrize("bias", [0.0, 30.0, 300.0])
def test_an_int8_classifier_whose_bias_hides_its_classes(int8, bias):
    """All differences are below 2e-3 of the largest logit; the classes are lost from 30 on."""
    status, text, report = int8(network(bias))
    [first, *_] = report["comparisons"]
    assert first["difference"] < 2e-2
    assert status == (1 if bias else 0), text
    assert (first["snr"] > 20) == (not bias)
    assert ("SNR" in first["failures"][0]) if bias else not first["failures"]


def decided():
    """A classifier that is as sure of its classes as a trained one."""
    model = network(activation="softmax")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 30, bias])
    return model


def test_classes_are_compared_where_the_model_is_a_classifier(int8):
    status, text, report = int8(decided())
    assert status == 0 and "top-1" in text
    assert report["comparisons"][0]["top1"] is not None
    status, text, report = int8(network(), "--classifier")
    assert status == 0 and report["comparisons"][0]["top1"] is not None
    status, text, report = int8(decided(), "--no-classifier")
    assert status == 0 and report["comparisons"][0]["top1"] is None


def test_regressed_values_that_nearly_coincide_are_no_classes(command, tmp_path):
    """Float16's rounding orders two values of almost the same size either way."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    value = L.Dense(1)(L.GlobalAveragePooling2D()(L.Conv2D(8, 3)(inputs)))
    keras.Model(inputs, L.Concatenate()([value, value * 1.00001])).save(tmp_path / "m.keras")
    x = images(64)
    model = keras.saving.load_model(tmp_path / "m.keras")
    np.savez(tmp_path / "r.npz", inputs=x, outputs=model.predict(x, verbose=0))
    options = ("--reference", tmp_path / "r.npz")
    status, text, _ = command("convert", tmp_path / "m.keras", "-o", tmp_path / "out", *options)
    assert status == 0 and "top-1" not in text, text
    status, text, _ = command(
        "convert", tmp_path / "m.keras", "-o", tmp_path / "out", *options, "--classifier"
    )
    assert status == 1 and "top-1 equal on" in text


def folder_of_pictures(folder):
    folder.mkdir()
    for number, image in enumerate(images(8) * 255):
        keras.utils.save_img(folder / f"{number}.png", image, scale=False)
    return folder


WRONG_SCALES = {
    "mean in pixels": (("--image-mean", "127.5", "--image-std", "127.5"), "mean of 127.5"),
    "deviation in pixels": (("--image-std", "58,57,57"), "deviation of 58"),
}


@pytest.mark.parametrize("name", WRONG_SCALES)
def test_images_scaled_as_none_is_meant_to_be(command, tmp_path, name):
    options, words = WRONG_SCALES[name]
    network().save(tmp_path / "m.keras")
    pictures = folder_of_pictures(tmp_path / "pictures")
    arguments = (
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "int8"),
        *("--calibration", pictures, *options),
    )
    status, text, err = command(*arguments)
    assert_one_line(status, err)
    assert words in err and "--confirm-calibration" in err and not (tmp_path / "out").exists()
    status, text, _ = command(*arguments, "--confirm-calibration")
    assert status in (0, 1) and "deviation" in text and "Float's answers on it" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 1e-3, "deviation of image:0"),
        (lambda x: x * 255, "range of image:0"),
        (lambda x: x + 100, "mean of image:0"),
    ],
)
def test_calibration_of_another_kind_than_the_reference(int8, tmp_path, change, words):
    model, x = network(), images(16, seed=1)
    np.savez(tmp_path / "r.npz", inputs=x, outputs=model.predict(x, verbose=0))
    options = ("--reference", tmp_path / "r.npz")
    status, text, err = int8(model, *options, data=change(images()))
    assert_one_line(status, err)
    assert words in err, err
    status, text, report = int8(model, *options)
    assert status == 0, text
    assert len(report["calibration"]["channels"]) == 3
    assert len(report["calibration"]["reference_channels"]) == 3
    assert "reference's range" in text


def test_a_model_that_scales_its_inputs_takes_any_range(int8, tmp_path):
    model = network(first=L.Rescaling(1 / 255))
    x = images(16, seed=1)
    np.savez(tmp_path / "r.npz", inputs=x, outputs=model.predict(x, verbose=0))
    dark = images() * 255
    dark[..., 2] = 0  # as of night vision: pixels all the same
    for data in (images() * 255, dark):
        status, text, _ = int8(model, "--reference", tmp_path / "r.npz", data=data)
        assert status in (0, 1), text


def test_one_class_for_everything_is_said_to_be_so(int8):
    _, text, report = int8(network(activation="softmax"), data=np.full((120, 16, 16, 3), 0.5))
    assert "for everything" in text and "one class" in report["calibration"]["answers"]
    assert "on calibration samples" in text and "random inputs" not in text


def masked(inputs, outputs, tmp_path):
    flat = keras.Input((6,))
    mask = np.array([0.0, -np.inf, 0, 0, -np.inf, 0], "float32")
    keras.Model(flat, flat + mask).save(tmp_path / "m.keras")
    np.savez(tmp_path / "r.npz", inputs=inputs, outputs=outputs)


def test_masks_of_infinities(command, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    y = x.copy()
    y[:, [1, 4]] = -np.inf
    masked(x, y, tmp_path)
    sides = (tmp_path / "m.keras", tmp_path / "r.npz")
    assert command("verify", *sides)[0] == 0
    y[2, 1] = 0
    masked(x, y, tmp_path)
    status, text, _ = command("verify", *sides)
    assert status == 1 and "NaN or infinite values at other places" in " ".join(text.split())


def test_names_carry_no_meaning(command, tmp_path):
    """An output, and a layer, that are called attention and are none."""
    from ulsam_keras import ULSAM

    inputs = keras.Input((9, 9, 8), name="image")
    x = ULSAM(2, name="cross_attention")(inputs)
    pooled = L.GlobalAveragePooling2D(name="self_attention")(x)
    keras.Model(inputs, pooled).save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(9, 9, 9, 8)).astype("float32")
    y = keras.saving.load_model(tmp_path / "m.keras").predict(x, verbose=0)
    np.savez(tmp_path / "r.npz", inputs=x, outputs=y)
    for further in ((), ("--with-attention",)):
        out = tmp_path / "out"
        options = ("--reference", tmp_path / "r.npz", "--precision", "float32", *further)
        status, text, err = command("convert", tmp_path / "m.keras", "-o", out, *options)
        assert status == 0, text + err
        report = json.loads((out / "report.json").read_text())
        assert {a["site"] for a in report["attention"]} == {"cross_attention"}
        outputs = {o["name"] for c in report["comparisons"] for o in c["outputs"]}
        assert outputs == {"self_attention"}
        file = out / "m_float32.tflite"
        assert command("verify", file, out / "model.keras")[0] == 0
        assert command("verify", file, tmp_path / "r.npz")[0] == 0


def test_a_gpu_that_did_part_of_the_work_fails():
    same = (OutputDifference("y", 0.0),)
    row = OutputComparison("float32", "keras", "GPU float32", 4, 1e-4, outputs=same)
    assert row.passed
    part = OutputComparison(
        "float32", "keras", "GPU float32", 4, 1e-4, outputs=same, fully_accelerated=False
    )
    assert not part.passed and part.failures == ["not every operator ran on the GPU"]


def strided(padding):
    """A convolution of stride 2 as PyTorch pads it, and as Keras does."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 3), name="image")
    x = inputs if padding == "same" else L.ZeroPadding2D(1)(inputs)
    x = L.Conv2D(8, 3, strides=2, padding=padding)(x)
    return keras.Model(inputs, L.Dense(5)(L.Flatten()(x)))


def normalized(epsilon):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 3), name="image")
    small = keras.initializers.Constant(1e-3)
    x = L.BatchNormalization(epsilon=epsilon, moving_variance_initializer=small)(inputs)
    return keras.Model(inputs, L.Dense(5)(L.Flatten()(x)))


def cube():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 6), name="image")
    return keras.Model(inputs, L.Dense(5)(L.Flatten()(L.Conv2D(4, 3)(inputs))))


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def same(x):
    return x


CAUSES = {
    # The model, the right model, what the reference stores of inputs and of outputs, the words.
    "0 to 255": (network, network, lambda x: x / 255, same, "takes inputs of 0 to 255"),
    "0 to 1": (network, network, lambda x: x * 255, same, "the reference holds 0 to 255"),
    "-1 to 1": (network, network, lambda x: (x + 1) / 2, same, "takes inputs of -1 to 1"),
    "BGR": (network, network, lambda x: x[..., ::-1], same, "RGB and BGR"),
    "softmax in the reference": (network, network, same, softmax, "after a softmax"),
    "softmax in the model": (
        lambda: network(activation="softmax"),
        network,
        same,
        same,
        "ends in a softmax",
    ),
    "layout": (cube, cube, lambda x: x, same, "another layout"),
    "same": (lambda: strided("same"), lambda: strided("valid"), same, same, "padding='same'"),
    "epsilon": (lambda: normalized(1e-3), lambda: normalized(1e-5), same, same, "epsilon=1e-5"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_failure_names_its_likely_cause(command, tmp_path, name):
    build, right, of_inputs, of_outputs, words = CAUSES[name]
    model, true = build(), right()
    true.set_weights(model.get_weights())
    size = model.input_shape[1:]
    x = np.random.default_rng(0).uniform(-1, 1, (12, *size)).astype("float32")
    # What the true model was really given is what the reference should have stored.
    outputs = of_outputs(true.predict(x, verbose=0))
    stored = np.ascontiguousarray(of_inputs(x))
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "r.npz", inputs=stored, outputs=outputs)
    status, text, _ = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
    assert status == 1
    text = " ".join(text.split())
    assert "Likely cause: " in text and words in text, text


def compared(model, inputs, outputs, limit=1e-4, **layers):
    """The arguments of what explains a failure."""
    arrays = {"inputs": inputs, "outputs": outputs, **layers}
    side = keras_side(model, "m")
    return side, as_reference(arrays, "r").fitted(side), Limits(reference=limit)


def test_no_cause_is_named_for_a_difference_that_passes():
    """In grey pictures RGB is BGR; a tie that falls the other way is no order of channels."""
    model, grey = network(), np.repeat(images(9)[..., :1], 3, axis=-1)
    outputs = model.predict(grey, verbose=0) * (1 + 1e-5)
    recorded = {"layers.conv": np.zeros((9, 1))}
    assert likely_cause(*compared(model, grey, outputs)) == ""
    assert first_drift(*compared(model, grey, outputs, **recorded)) == ""


@pytest.mark.parametrize("share", [0.4, 0.01])
def test_a_cause_brings_the_difference_to_a_tenth(share):
    """Of a reference between two models, by shares."""
    wrong, right, x = normalized(1e-3), normalized(1e-5), images(9)
    right.set_weights(wrong.get_weights())
    one, other = (model.predict(x, verbose=0) for model in (wrong, right))
    outputs = share * one + (1 - share) * other
    limit = 0.5 * np.abs(one - other).max() / np.abs(outputs).max()
    assert bool(likely_cause(*compared(wrong, x, outputs, limit))) == (share < 0.1)


class Twice(L.Layer):
    """A layer that cannot be made again, as users write them, nor, if told so, called again."""

    def __init__(self, once):
        super().__init__(name="twice")
        self.once, self.calls = once, 0

    def call(self, x):
        return x * 2

    def compute_output_spec(self, x):
        self.calls += 1
        if self.once and self.calls > 1:
            raise TypeError("once only")
        return super().compute_output_spec(x)


@pytest.mark.parametrize("once", [False, True])
def test_an_explanation_that_fails_is_none(once):
    wrong, right, x = normalized(1e-3), normalized(1e-5), images(9)
    right.set_weights(wrong.get_weights())
    outputs = right.predict(x, verbose=0) * 2
    layers = {"layers.twice": outputs}
    model = keras.Model(wrong.input, Twice(once)(wrong.output))
    arguments = compared(model, x, outputs, **layers)
    assert ("epsilon=1e-5" in likely_cause(*arguments)) == (not once)
    assert ("twice" in first_drift(*arguments)) == (not once)


def test_a_drift_is_that_of_the_calls_of_this_model():
    """The first layer was called in another model before, and is called twice in this one."""
    keras.utils.set_random_seed(0)
    before, image = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    conv, head = L.Conv2D(4, 3, padding="same", name="c"), L.Conv2D(2, 1, name="head")
    keras.Model(before, conv(before))
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 4)).astype("float32")
    model = keras.Model(image, head(conv(conv(L.Rescaling(2.0)(image)))))
    once, again = np.asarray(conv(2 * x)), np.asarray(conv(conv(2 * x)))
    zeros = np.zeros((5, 8, 8, 2))
    layers = {"layers.c": once, "layers.c@1": again, "layers.head": zeros}
    layers = {key: value.transpose(0, 3, 1, 2) for key, value in layers.items()}
    told = first_drift(*compared(model, x, zeros + 9, **layers))
    assert "drifts is head (head)" in told and "; c is as recorded" in told
    layers["layers.c@1"] = layers["layers.c"]
    told = first_drift(*compared(model, x, zeros + 9, **layers))
    assert "drifts is c (c@1)" in told and "; c is as recorded" in told


def test_a_failure_without_a_known_cause_names_none(command, tmp_path):
    model = network()
    model.save(tmp_path / "m.keras")
    x = images(12)
    np.savez(tmp_path / "r.npz", inputs=x, outputs=np.random.default_rng(1).normal(size=(12, 10)))
    status, text, _ = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
    assert status == 1 and "Likely cause" not in text


def test_one_recorded_sample_does_not_hide_a_bias(int8, tmp_path):
    """Of one sample nothing tells what is signal; calibration samples do."""
    model, x = network(300.0), images(1, seed=5)
    np.savez(tmp_path / "r.npz", inputs=x, outputs=model.predict(x, verbose=0))
    status, text, report = int8(model, "--reference", tmp_path / "r.npz")
    assert status == 1, text
    [row] = [c for c in report["comparisons"] if c["data"] == "calibration"]
    assert row["snr"] < 0 and not row["passed"]
    assert "judged by its largest difference alone" in " ".join(text.split())


def test_whichever_side_is_first_the_finer_is_the_signal(command, tmp_path):
    from converters import to_tflite

    model = network(3000.0)
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", inputs=images(40))
    data = images()
    (tmp_path / "m.tflite").write_bytes(
        to_tflite(model, precision="int8", representative_data=data)
    )
    sides = [tmp_path / "m.keras", tmp_path / "m.tflite"]
    for pair in (sides, sides[::-1]):
        status, text, _ = command("verify", *pair, "--inputs", tmp_path / "x.npz")
        assert status == 1 and "SNR -" in " ".join(text.split()), text


def test_a_finite_mask_hides_nothing_beside_it():
    from converters.verify.outputs import compare_outputs

    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(20, 6)).astype("float32")
    wanted[:, 0] = -1e9
    wrong = wanted.copy()
    wrong[:, 1:] += 0.5
    [found] = compare_outputs({"y": wrong}, {"y": wanted})
    assert found.difference > 0.1 and found.snr < 10
    [same] = compare_outputs({"y": wanted}, {"y": wanted})
    assert same.difference == 0 and same.snr == np.inf


def test_what_the_gpu_did_is_told_of_the_file_on_either_side(monkeypatch):
    from converters.runtime import RunResult
    from converters.verify.compare import Judge
    from converters.verify.samples import Samples
    from converters.verify.sides import FileSide, Model
    from converters.verify.targets import GPU, Runner

    y = {"y": np.ones((2, 3), "float32")}

    class Fixed(Model):
        def answer(self, inputs, target):
            return RunResult("ok", y)

    class Partly(FileSide):
        def answer(self, inputs, target):
            return RunResult("ok", y, fully_accelerated=False, adapter="a card")

    ends = ({"x": (2, 1)}, {"x": "float32"}, {"y": (2, 3)})
    file = Partly("f", *ends, file=None, runner=Runner(), around=False)
    samples = Samples({"x": np.zeros((2, 1), "float32")}, "given")
    for pair in ((file, Fixed("k", *ends)), (Fixed("k", *ends), file)):
        row = Judge()._outputs(*pair, samples, GPU[0], 2)
        assert row.fully_accelerated is False and row.adapter == "a card" and not row.passed


def test_a_file_of_open_sizes_is_compared_on_images_of_a_size(command, tmp_path):
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, L.Conv2D(4, 3, padding="same")(inputs))

    def write(name):
        model.export(tmp_path / "saved", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
        (tmp_path / name).write_bytes(converter.convert())

    model.save(tmp_path / "m.keras")
    write("m.tflite")
    kernel, bias = model.get_weights()
    kernel[0, 0] += 5  # a tap that no image of one pixel meets
    model.set_weights([kernel, bias])
    write("w.tflite")
    options = ("--input-size", "12x10")
    status, text, err = command("verify", tmp_path / "m.tflite", tmp_path / "m.keras", *options)
    assert status == 0, text + err
    assert command("verify", tmp_path / "w.tflite", tmp_path / "m.keras", *options)[0] == 1


def test_several_rows_for_a_sample_are_all_compared(command, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3), name="x")
    model = keras.Model(inputs, keras.ops.reshape(L.Conv2D(4, 1)(inputs), (-1, 4)))
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype("float32")
    y = model.predict(x, verbose=0)
    assert len(y) == 96
    status, text, _ = command(
        "convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "float32"
    )
    assert status == 0, text
    kernel, bias = model.get_weights()
    model.set_weights([-kernel, bias])
    model.save(tmp_path / "w.keras")
    file = tmp_path / "out" / "m_float32.tflite"
    assert command("verify", file, tmp_path / "w.keras")[0] == 1


def test_branches_whose_sites_the_file_has_in_another_order(command, tmp_path):
    from ulsam_keras import ULSAM

    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 9, 8), name="x")
    first = L.Conv2D(8, 3, padding="same")(ULSAM(2, name="early")(inputs))
    second = L.Conv2D(8, 3, padding="same")(L.Conv2D(8, 3, padding="same")(inputs))
    both = L.Add()([first, ULSAM(2, name="late")(second)])
    keras.Model(inputs, both).save(tmp_path / "m.keras")
    status, text, _ = command(
        "convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "float32"
    )
    assert status == 0, text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {a["site"] for a in report["attention"]} == {"early", "late"}


def test_labels_are_of_the_output_that_they_fit():
    from converters.verify.outputs import count_correct, find_classifiers, labelled_output

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, 30)
    logits = np.eye(9)[labels] + rng.normal(0, 0.1, (30, 9))
    expected = {"box": rng.normal(size=(30, 4)), "few": rng.normal(size=(30, 9)), "many": logits}
    assert labelled_output(expected, labels) == "many"
    assert find_classifiers(expected, labels, None) == {"many"}
    assert count_correct(expected, expected, labels) == 30


@pytest.mark.parametrize(
    ("precision", "kind"), [("int16x8", "uint8"), ("int8", "int16"), ("int16x8", "int8")]
)
def test_types_of_ends_that_no_file_can_have(command, tmp_path, precision, kind):
    network().save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", inputs=images())
    status, _, err = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", precision),
        *("--calibration", tmp_path / "d.npz", "--inference-type", kind),
    )
    assert_one_line(status, err)
    assert "--inference-type" in err


def test_samples_are_taken_from_all_over(int8):
    """A folder holds one class after the other."""
    x = images(120)
    x[:100] = x[:1]
    _, text, report = int8(network(), data=x)
    assert "apart between samples" in report["calibration"]["answers"], text


def test_pixels_for_a_model_that_scales_them_down(command, tmp_path):
    network(first=L.Rescaling(1 / 255)).save(tmp_path / "m.keras")
    pictures = folder_of_pictures(tmp_path / "pictures")
    status, text, _ = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "int8"),
        *("--calibration", pictures),
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert max(c["largest"] for c in report["calibration"]["channels"]) > 200, text


def test_classes_of_random_inputs_are_not_compared_and_that_is_said(command, tmp_path):
    network().save(tmp_path / "m.keras")
    arguments = ("verify", tmp_path / "m.keras", tmp_path / "m.keras", "--classifier")
    status, text, _ = command(*arguments)
    assert status == 0 and "Top-1 was not compared" in text and "top-1" not in text
