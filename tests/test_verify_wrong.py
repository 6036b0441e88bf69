"""Wrong files, and comparisons that say nothing: none of them passes."""

import json

import keras
import numpy as np
import pytest

import gpu_drivers
import litert_models
from converters import to_tflite
from converters.tflite.flatbuffer import TfliteFile, packed
from converters.verify.attention import compare_attention
from converters.verify.compare import Judge, Verification
from converters.verify.limits import Limits
from converters.verify.outputs import OutputComparison, compare_outputs
from converters.verify.samples import Samples
from converters.verify.sides import FileSide, Model, file_side, keras_side
from converters.verify.targets import CPU, Runner
from test_command import assert_one_line
from test_verdicts import images, network

L = keras.layers


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    gpu_drivers.hide(monkeypatch)


# ------------------------------------------------------------------- which end is which

MAP, MASK, VALUE, OPEN = (None, 8, 8, 6), (1, 8, 8, 1), (None, 3), (None, None, None, 6)
PAIRS = {
    # Outputs of A and of B, whether B is a file, the names of B in A's order, the note.
    "by name": ({"a": MAP, "b": VALUE}, {"b": VALUE, "a": MAP}, True, ["a", "b"], ""),
    "one": ({"a": VALUE}, {"b": VALUE}, True, ["b"], ""),
    "by shape": ({"a": MAP, "b": MASK}, {"c": MASK, "d": OPEN}, True, ["d", "c"], "d as a, c as b"),
    "in order": ({"a": MAP, "b": MAP}, {"d": MAP, "c": OPEN}, False, ["d", "c"], "in order: d as"),
    "a file's order": ({"a": MAP, "b": MAP}, {"d": MAP, "c": MAP}, True, None, ""),
    "other shapes": ({"a": MAP, "b": MAP}, {"d": MAP, "c": VALUE}, False, None, ""),
    "a name elsewhere": ({"a": MAP, "b": MAP}, {"c": MAP, "a": MAP}, False, None, ""),
    "more": ({"a": MAP}, {"a": MAP, "b": VALUE}, False, None, ""),
}


@pytest.mark.parametrize("what", ["inputs", "outputs"])
@pytest.mark.parametrize("name", PAIRS)
def test_which_end_of_one_model_is_which_of_the_other(name, what):
    ours, theirs, of_file, wanted, told = PAIRS[name]
    other = "inputs" if what == "outputs" else "outputs"
    a, b = (
        {what: ends, other: {"x": VALUE}, "dtypes": dict.fromkeys({**ends, "x": 0}, "float32")}
        for ends in (ours, theirs)
    )
    further = {"file": None, "runner": Runner(), "around": False} if of_file else {}
    a, b = Model("A", **a), (FileSide if of_file else Model)("B", **b, **further)
    if wanted is None:
        with pytest.raises(ValueError, match=f"same {what}.*Received: 'A' with .* and 'B' with"):
            b.fitted(a)
        return
    found = b.fitted(a)
    assert list(getattr(found, what)) == wanted
    assert bool(found.notes) == bool(told) and told in "".join(found.notes)


def two_outputs(*names, flip=1.0, turned=False):
    """Two maps of one shape, or two others; the second output of its own weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3), name="image")
    maps = [L.Conv2D(4, 3, name=name)(inputs) for name in names]
    model = keras.Model(inputs, maps[::-1] if turned else maps)
    model.layers[-1].kernel.assign(flip * model.layers[-1].kernel)
    return model


def test_models_whose_outputs_have_other_names(command, tmp_path):
    two_outputs("a", "b").save(tmp_path / "a.keras")
    two_outputs("c", "d").save(tmp_path / "same.keras")
    two_outputs("c", "d", turned=True).save(tmp_path / "swapped.keras")
    two_outputs("c", "d", flip=1.01).save(tmp_path / "wrong.keras")
    (tmp_path / "same.tflite").write_bytes(to_tflite(two_outputs("c", "d")))
    found = {
        name: command("verify", tmp_path / "a.keras", tmp_path / name)
        for name in ("same.keras", "swapped.keras", "wrong.keras", "same.tflite")
    }
    assert [status for status, *_ in found.values()] == [0, 1, 1, 2]
    assert "taken in order: c as a, d as b" in " ".join(found["same.keras"][1].split())


# ------------------------------------------------------------------ verdicts on integers


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """A sound classifier in int8, and one whose bias hides its classes: (folder)."""
    folder = tmp_path_factory.mktemp("int8")
    for name, bias in (("sound", 0.0), ("biased", 300.0)):
        model = network(bias)
        model.save(folder / f"{name}.keras")
        content = to_tflite(model, precision="int8", representative_data=images())
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


SAMPLES = {
    # How many, whether they are all alike, the status of the sound file.
    "one": (1, False, 1),
    "alike": (9, True, 1),
    "two": (2, False, 0),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_of_integers_is_judged_by_samples_that_differ(command, int8, tmp_path, name):
    count, alike, expected = SAMPLES[name]
    x = images(count, seed=4)
    np.savez(tmp_path / "x.npz", inputs=np.repeat(x[:1], count, axis=0) if alike else x)
    for model, wanted in (("sound", expected), ("biased", 1)):
        sides = (int8 / f"{model}.tflite", int8 / f"{model}.keras")
        for pair in (sides, sides[::-1]):
            status, text, _ = command("verify", *pair, "--inputs", tmp_path / "x.npz")
            assert status == wanted, text
            undecided = name != "two"
            assert ("undecided" in text) == undecided
            assert (f"so not passed: {model}.tflite." in text) == undecided
            assert ("comparisons passed" in text) == (wanted == 0)


def test_one_sample_of_a_reference_decides_nothing_and_calibration_does(command, int8, tmp_path):
    x = images(1, seed=4)
    model = keras.saving.load_model(int8 / "sound.keras")
    np.savez(tmp_path / "r.npz", inputs=x, outputs=model.predict(x, verbose=0))
    for name, data, expected in (("spread", images(), 0), ("alike", np.repeat(x, 100, 0), 1)):
        np.savez(tmp_path / "c.npz", inputs=data)
        status, text, _ = command(
            *("convert", int8 / "sound.keras", "-o", tmp_path / name, "--precision", "int8"),
            *("--reference", tmp_path / "r.npz", "--calibration", tmp_path / "c.npz"),
            "--confirm-calibration",
        )
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert status == expected and report["passed"] == (not expected), text
        on_one = [c for c in report["comparisons"] if c["subject"] == "int8" and c["samples"] == 1]
        assert on_one and all(c["undecided"] for c in on_one)


def test_int8_without_log_softmax_is_run_where_a_gpu_is_required(command, monkeypatch, tmp_path):
    for name, value in gpu_drivers.environment("swiftshader").items():
        monkeypatch.setenv(name, value)
    network().save(tmp_path / "m.keras")
    np.savez(tmp_path / "c.npz", inputs=images())
    status, text, err = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "int8"),
        *("--calibration", tmp_path / "c.npz", "--require-gpu"),
    )
    assert (status, err) == (0, ""), text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any(c["fully_accelerated"] for c in report["comparisons"])


# -------------------------------------------------------------------- files as they come


def unsigned(content):
    """A file without its signature, as older converters write them."""
    model = TfliteFile(content).changeable()
    model.signatureDefs = []
    return packed(model)


def test_files_of_integers_without_a_signature(command, tmp_path):
    content, _ = litert_models.int8_convolution()
    (tmp_path / "signed.tflite").write_bytes(content)
    file = unsigned(content)
    assert not file.graph.named_inputs and "float32" not in file.graph.given
    (tmp_path / "unsigned.tflite").write_bytes(file.content)
    model = file.changeable()
    kernel = next(o for o in file.graph.operators if o.name == "CONV_2D").inputs[1]
    buffer = model.subgraphs[0].tensors[kernel.index].buffer
    model.buffers[buffer].data = np.roll(np.asarray(model.buffers[buffer].data), 1)
    (tmp_path / "wrong.tflite").write_bytes(packed(model).content)
    for name, expected in (("unsigned", 0), ("wrong", 1)):
        sides = (tmp_path / f"{name}.tflite", tmp_path / "signed.tflite")
        assert command("verify", *sides)[0] == command("verify", *sides[::-1])[0] == expected


def test_tensors_of_one_name_are_not_left_out(command, tmp_path):
    model = unsigned(to_tflite(two_outputs("a", "b"))).changeable()
    for index in model.subgraphs[0].outputs:
        model.subgraphs[0].tensors[index].name = b"y"
    (tmp_path / "m.tflite").write_bytes(packed(model).content)
    status, _, err = command("verify", tmp_path / "m.tflite", tmp_path / "m.tflite")
    assert_one_line(status, err)
    assert "['y', 'y']" in err


def test_outputs_that_are_one_number_for_all_samples(command, tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.ops.sum(inputs)).save(tmp_path / "m.keras")
    import tensorflow as tf

    content = litert_models.from_function(lambda x: tf.reduce_sum(x), x=(1, 4))
    (tmp_path / "m.tflite").write_bytes(content)
    file, model = tmp_path / "m.tflite", tmp_path / "m.keras"
    for pair in ((file, model), (model, file)):
        status, _, err = command("verify", *pair)
        assert_one_line(status, err)
        assert "the samples as its first axis" in err
    # A file that takes one sample at a time has an answer for each.
    assert command("verify", file, file)[0] == 0


def test_an_output_that_has_the_name_of_an_attention(command, tmp_path):
    from ulsam_keras import ULSAM

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 8), name="image")
    x = ULSAM(2, name="u")(inputs)
    pooled = L.GlobalAveragePooling2D(name="u_attention")(x)
    keras.Model(inputs, [pooled, L.Conv2D(2, 1, name="u_attention_1")(x)]).save(
        tmp_path / "m.keras"
    )
    out = tmp_path / "out"
    status, text, err = command(
        *("convert", tmp_path / "m.keras", "-o", out, "--with-attention"),
        *("--precision", "float32"),
    )
    assert status == 0, text + err
    report = json.loads((out / "report.json").read_text())
    compared = {o["name"] for c in report["comparisons"] for o in c["outputs"]}
    assert compared == {"u_attention", "u_attention_1"}
    assert {a["site"] for a in report["attention"]} == {"u"}
    outputs = report["files"][0]["outputs"]
    [further] = set(outputs) - compared
    assert outputs[further]["shape"] == [1, 6, 6, 2]
    assert command("verify", out / "m_float32.tflite", tmp_path / "m.keras")[0] == 0


@pytest.mark.parametrize("group", ["inputs", "outputs"])
def test_an_array_beside_named_ones(command, tmp_path, group):
    network().save(tmp_path / "m.keras")
    x = images(2)
    arrays = {"inputs": x, "outputs": np.zeros((2, 10))}
    np.savez(tmp_path / "r.npz", **arrays, **{f"{group}.image": arrays[group]})
    status, _, err = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
    assert_one_line(status, err)
    assert f"either {group} or {group}.NAME" in err
    if group == "inputs":
        sides = (tmp_path / "m.keras", tmp_path / "m.keras")
        status, _, err = command("verify", *sides, "--inputs", tmp_path / "r.npz")
        assert_one_line(status, err)


def test_inputs_of_any_size_that_both_models_take(command, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 3), name="steps")
    keras.Model(inputs, L.Conv1D(4, 3)(inputs)).save(tmp_path / "m.keras")
    sides = (tmp_path / "m.keras", tmp_path / "m.keras")
    status, _, err = command("verify", *sides)
    assert_one_line(status, err)
    assert "--inputs" in err
    np.savez(tmp_path / "x.npz", inputs=np.random.default_rng(0).normal(size=(2, 9, 3)))
    assert command("verify", *sides, "--inputs", tmp_path / "x.npz")[0] == 0


# ------------------------------------------------------------------------ wrong answers

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(64, 10)).astype("float32")
OVERFLOWED = np.where(np.abs(LOGITS) > 2, np.inf * LOGITS, LOGITS)
CLASSES = LOGITS.argmax(axis=1)
WRONG = {
    # What the file answers, what the model does, the precision, what is said.
    "classes in another order": (np.roll(LOGITS, 1, axis=1), LOGITS, "int8", "SNR"),
    "samples in another order": (np.roll(LOGITS, 1, axis=0), LOGITS, "int8", "SNR"),
    "scaled": (1.01 * LOGITS, LOGITS, "float16", "difference"),
    "scaled integers": (0.7 * LOGITS, LOGITS, "int8", "SNR"),
    "shifted": (LOGITS + 0.7, LOGITS, "int8", "SNR"),
    "one answer for all": (0 * LOGITS + LOGITS[:1], LOGITS, "int8", "SNR"),
    "zeros": (0 * LOGITS, LOGITS, "dynamic_range", "SNR"),
    "an overflow of float16": (OVERFLOWED, LOGITS, "float16", "infinite values"),
    "NaN": (LOGITS * np.nan, LOGITS, "float32", "NaN"),
    "NaN on both sides": (LOGITS * np.nan, LOGITS * np.nan, "float32", "difference nan"),
    "infinities on both sides": (LOGITS + np.inf, LOGITS + np.inf, "int8", "difference nan"),
    "class numbers": (np.roll(CLASSES, 1), CLASSES, "int8", "equal in"),
    "a near class number": (CLASSES + 1, CLASSES * 1000 // 1000, "int8", "equal in 0 of 64"),
}


# A detector's boxes in pixels, and what it scores, 0 to 1.
FOUND = np.concatenate([RNG.uniform(0, 640, (8, 50, 4)), RNG.uniform(0, 1, (8, 50, 9))], axis=2)
LOST = np.round(FOUND / 2.5) * 2.5  # one step for all of an output of 8 bits


@pytest.mark.parametrize("moved", [False, True])
def test_scores_that_are_lost_beside_boxes(moved):
    wanted, given = ((np.moveaxis(x, 2, 1) if moved else x) for x in (FOUND, LOST))
    row = row_of(given, wanted, "int8")
    assert row.snr > 40 and row.difference < 1e-2
    assert not row.passed and row.failures == ["y: half of its channels are lost"]
    kept = wanted + 1e-2 * RNG.normal(size=wanted.shape)
    assert row_of(kept, wanted, "int8").passed


def row_of(given, wanted, precision, classifiers=frozenset()):
    limits = Limits()
    return OutputComparison(
        precision,
        "keras",
        "XNNPACK",
        len(wanted),
        limits.output(precision),
        limits.output_snr(precision),
        limits.agreement(precision),
        compare_outputs({"y": given}, {"y": wanted}, classifiers),
    )


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_do_not_pass(name):
    given, wanted, precision, words = WRONG[name]
    row = row_of(given, wanted, precision)
    assert not row.passed and words in "; ".join(row.failures)
    if np.isfinite(wanted).all():
        assert row_of(wanted, wanted, precision).passed


def test_whole_numbers_are_equal_or_not():
    """A class that a tie turns is as near as any other; more than chance explains are wrong."""
    given = np.arange(1000) % 900
    near = given.copy()
    near[:4] += 800  # by far more than any limit of a difference
    row = row_of(near, given, "float16")
    assert row.passed and row.top1 is None and row.outputs[0].equal == 996
    near[:40] += 1
    assert row_of(near, given, "float16").failures == ["y: equal in 960 of 1000"]
    # Of which one side is floats, they are numbers like others.
    assert not row_of(near.astype("float32"), given, "float16").passed


def test_nan_is_no_class():
    given = np.where(np.arange(10) == 3, np.nan, LOGITS)
    turned = np.where(np.arange(10) == 3, np.nan, -LOGITS)
    row = row_of(turned, given, "float16", {"y"})
    assert row.outputs[0].equal < 20


def test_nothing_compared_is_no_verdict():
    assert not Verification().passed
    assert Verification((row_of(LOGITS, LOGITS, "int8"),)).passed


def test_labels_that_are_not_the_reference_s(command, tmp_path):
    model = network()
    model.save(tmp_path / "m.keras")
    x = images(60)
    outputs = model.predict(x, verbose=0)
    classes = outputs.argmax(axis=1)
    for labels, told in ((classes, False), ((classes + 1) % 10, True)):
        np.savez(tmp_path / "r.npz", inputs=x, outputs=outputs, labels=labels)
        status, text, _ = command("verify", tmp_path / "m.keras", tmp_path / "r.npz")
        assert status == 0 and ("right on 0 of 60 labels" in " ".join(text.split())) == told


def attending(scale, attention=1.0):
    """A block whose maps are as flat as this; `attention` 0 makes them the same everywhere."""
    from ulsam_keras import ULSAM

    keras.utils.set_random_seed(0)
    inputs = keras.Input((7, 7, 16), name="x")
    layer = ULSAM(2, name="u")
    model = keras.Model(inputs, layer(inputs))
    (kernel,) = [w for w in layer.weights if w.name == "pointwise_kernel"]
    kernel.assign(kernel * scale * attention)
    return model


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_an_attention_that_is_the_same_everywhere(scale):
    """Of flat maps it is near in size; it points nowhere."""
    x = np.random.default_rng(0).normal(size=(6, 7, 7, 16)).astype("float32")
    model = keras_side(attending(scale), "m")

    def measured(attention):
        side = keras_side(attending(scale, attention), "float16")
        rows, _ = compare_attention(side, model, [x], CPU[0], Limits(attention_float32=5e-2))
        return rows[0]

    assert measured(1.0).passed and measured(1.0).pattern_snr > 60
    dead = measured(0.0)
    assert not dead.passed and dead.pattern_snr < 1
    if scale < 1:
        assert dead.difference < dead.limit  # which alone would let it pass


def test_a_file_without_the_attention_of_its_model():
    """Where the file was made of the model, it was lost on the way."""
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 16)).astype("float32")
    inputs = keras.Input((7, 7, 16), name="x")
    plain = keras.Model(inputs, L.Rescaling(1.0, name="u")(inputs))
    file = file_side(TfliteFile(to_tflite(plain)), "float32", Runner())
    sides = (file, keras_side(attending(1.0), "keras"), Samples({"x": x}, "given"), CPU[:1])
    judge = Judge(Limits(float32=10.0))
    for required, passed in ((True, False), (None, True)):
        found = judge.compare(*sides, attention=required)
        assert found.passed == passed
        told = [row.problem for row in found.attention] if required else found.notes
        assert "none in float32 and (7, 7, 2) in keras" in told[0]


def test_a_nan_attention_on_both_sides():
    x = np.ones((2, 7, 7, 16), "float32")
    side = keras_side(attending(np.nan), "m")
    [row], _ = compare_attention(side, side, [x], CPU[0], Limits())
    assert not row.passed


@pytest.mark.parametrize(
    "other", [lambda x: x[..., ::-1], lambda x: x[2:], lambda x: x.transpose(0, 2, 1, 3)]
)
def test_an_answer_is_to_the_samples_that_were_asked(other):
    """Other samples in the same memory are others, the first of them are the same."""
    model = network()
    side = keras_side(model, "m")
    x = images(4)
    for samples in (x, other(x), x[:3]):
        outputs = side.answer((samples,), CPU[0]).outputs
        # Batches of other sizes are summed in another order.
        expected = model.predict(samples, verbose=0)
        np.testing.assert_allclose(next(iter(outputs.values())), expected, rtol=1e-4, atol=1e-6)
