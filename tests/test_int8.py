"""Files of integers: operators, types, ranges, and what is left of the attention in them."""

import functools
import threading
import warnings

import keras
import numpy as np
import pytest

import gpu_drivers
import parity
from converters import attention_snr, lint, to_tflite
from converters.tflite import Exporter
from converters.tflite.flatbuffer import TfliteFile, read_graphs
from converters.tflite.sites import find_sites, float_operators
from converters.tflite.tap import with_outputs
from measures import run_float
from ulsam_keras import ULSAM, SubSpace, attention_maps
from ulsam_keras.spatial_softmax import ATTENTION_FORMS, attention_form

# dB that the default form keeps of the attention of a block with unit-scale features.
LEAST_SNR = 25.0
# Of the largest value: 8-bit rounding, half a step of 1/128 each, of the input, the kernel of the
# branch, the sum, the multiplier and the output, and further input channels that add up.
INT8_OUTPUT = 5e-2

BLOCK = [
    "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "CONV_2D", "RESHAPE", "TRANSPOSE", "LOG_SOFTMAX", "EXP",
    "TRANSPOSE", "RESHAPE", "CONV_2D", "MUL",
]  # fmt: skip
ISLAND = ["DIV", "EXP", "REDUCE_MAX", "SUB", "SUM"]


@functools.cache
def ported(size, channels=64, groups=4):
    """(model, calibration samples, further samples, PyTorch's attention of these)."""
    import torch

    module = parity.oracle(groups, channels, seed=size).eval()
    image = keras.Input((size, size, channels), name="image")
    layer = ULSAM(groups, name="ulsam")
    model = keras.Model(image, {"y": layer(image)})
    parity.fill(layer, module)
    rng = np.random.default_rng(size)
    data = rng.normal(size=(108, size, size, channels)).astype("float32")
    calibration, further = data[:100], data[100:]
    with torch.no_grad():
        x = torch.tensor(further.transpose(0, 3, 1, 2), dtype=torch.float64)
        attention = module.attention(x).numpy().transpose(0, 2, 3, 1)
    return model, calibration, further, attention


@functools.cache
def flat(size, channels=16, groups=2):
    """(model, samples): a block whose scores are nearly the same everywhere."""
    image = keras.Input((size, size, channels), name="image")
    layer = ULSAM(groups, name="ulsam")
    model = keras.Model(image, layer(image))
    rng = np.random.default_rng(0)
    for kernel in (layer.depthwise_conv.kernel, layer.pointwise_kernel):
        kernel.assign(rng.normal(size=kernel.shape) * 0.3)
    layer.pointwise_norm.beta.assign(np.ones(groups))
    return model, rng.normal(size=(100, size, size, channels)).astype("float32")


@functools.cache
def int8(size, **options):
    model, calibration, _, _ = ported(size)
    return to_tflite(model, precision="int8", representative_data=calibration, **options)


def operators(tflite):
    return [operator.name for operator in read_graphs(tflite)[0].operators]


def relative(value, reference):
    return np.abs(value - reference).max() / np.abs(reference).max()


# ------------------------------------------------------------------------------- the graph


@pytest.mark.parametrize("inference_type", ["float32", "int8", "uint8"])
def test_every_operator_of_int8_is_of_integers(inference_type):
    (graph,) = read_graphs(int8(14, inference_type=inference_type))
    assert float_operators(graph) == []
    ends = {"float32": (["QUANTIZE"], ["DEQUANTIZE"]), "int8": ([], [])}.get(
        inference_type, (["QUANTIZE"], ["QUANTIZE"])
    )
    assert [o.name for o in graph.operators] == [*ends[0], *BLOCK, *ends[1]]
    assert [t.dtype for t in (*graph.inputs, *graph.outputs)] == [inference_type.upper()] * 2
    inner = [t for o in graph.operators for t in o.outputs if t not in graph.outputs]
    assert {t.dtype for t in inner} == {"INT8"}


def test_weights_have_a_step_per_channel():
    (graph,) = read_graphs(int8(14))
    kernels = [o.inputs[1] for o in graph.operators if "CONV_2D" in o.name]
    assert [(k.dtype, len(k.scales)) for k in kernels] == [("INT8", 64), ("INT8", 4), ("INT8", 64)]
    model, *_ = ported(14)
    layer = model.get_layer("ulsam")
    norm = layer.depthwise_norm
    factor = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    expected = np.asarray(layer.depthwise_conv.kernel).reshape(-1) * factor
    # Half a step of a channel's own range is 1/254 of its only weight.
    np.testing.assert_allclose(kernels[0].values().reshape(-1), expected, rtol=1 / 254)


@pytest.mark.parametrize("inference_type", ["float32", "int16"])
def test_int16x8(inference_type):
    model, calibration, further, attention = ported(14)
    options = {"precision": "int16x8", "inference_type": inference_type}
    tflite = to_tflite(model, representative_data=calibration, **options)
    (graph,) = read_graphs(tflite)
    assert float_operators(graph) == []
    assert "SOFTMAX" in operators(tflite)
    (row,) = attention_snr(tflite, model, further)
    assert row.snr > 35 and row.rounding_snr > 80


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_other_numbers_of_groups(groups):
    model, samples = flat(9, groups=groups)
    tflite = to_tflite(model, precision="int8", representative_data=samples)
    assert float_operators(read_graphs(tflite)[0]) == []
    (row,) = attention_snr(tflite, model, samples[:4])
    assert row.snr > LEAST_SNR


# --------------------------------------------------------------------------- the attention


SLOW = pytest.mark.slow


@pytest.mark.parametrize("size", [14, pytest.param(28, marks=SLOW), pytest.param(56, marks=SLOW)])
def test_default_form_keeps_the_attention_of_ported_blocks(size):
    model, _, further, attention = ported(size)
    tflite = int8(size)
    assert float_operators(read_graphs(tflite)[0]) == []
    (row,) = attention_snr(tflite, model, further)
    assert row.passed and row.snr >= LEAST_SNR
    # The same by other means: PyTorch's attention, and a file that gives its own.
    (site,) = find_sites(read_graphs(tflite)[0])
    tapped = with_outputs(TfliteFile.of(tflite), {"a": site.attention})
    outputs = run_float(tapped, {"image": further}).outputs
    ratio = (attention**2).sum() / ((outputs["a"] - attention) ** 2).sum()
    assert row.snr == pytest.approx(10 * np.log10(ratio), abs=0.01)


def test_plain_softmax_is_dead_on_a_large_flat_map_and_the_other_forms_are_not():
    model, samples = flat(56)
    rows, float_ones = {}, {}
    for form in ATTENTION_FORMS:
        tflite = to_tflite(model, precision="int8", representative_data=samples, attention=form)
        (rows[form],) = attention_snr(tflite, model, samples[:2])
        float_ones[form] = float_operators(read_graphs(tflite)[0])
    dead = rows["softmax"]
    assert not dead.passed
    assert (dead.snr, dead.zeros, dead.dead_maps) == (0, 1, 1)
    assert dead.lost_in == "softmax"
    for form in ("log_softmax", "float"):
        assert rows[form].passed and rows[form].snr >= LEAST_SNR
        assert rows[form].zeros == rows[form].dead_maps == 0
        assert rows[form].lost_in == ""
    assert float_ones == {"softmax": [], "log_softmax": [], "float": ISLAND}
    assert set(rows["float"].float_operators) == {"SUB", "EXP", "DIV"}
    # And no form can show it: the output's rounding is above the attention's whole effect.
    assert not any(row.visible for row in rows.values())


def test_attention_that_is_lost_before_the_block_is_told_from_a_dead_one():
    """Int8 has a step of 8 for features of 1 on a constant of 2000: the scores are of nothing."""
    offset = 2000.0
    image = keras.Input((8, 8, 8), name="image")
    far = keras.layers.Rescaling(1.0, offset)(image)
    x = keras.layers.Rescaling(1.0, -offset)(keras.layers.MaxPooling2D(1)(far))
    layer = ULSAM(2, name="ulsam")
    model = keras.Model(image, layer(x))
    parity.fill(layer, parity.oracle(2, 8, seed=0).eval())
    samples = np.random.default_rng(0).normal(size=(100, 8, 8, 8)).astype("float32")
    tflite = to_tflite(model, precision="int8", representative_data=samples)
    (row,) = attention_snr(tflite, model, samples[:4])
    assert not row.passed and row.softmax_snr >= LEAST_SNR
    assert row.lost_in == "features"


@pytest.mark.parametrize("form", ATTENTION_FORMS)
def test_scores_that_are_always_zero(form):
    """The range of zeros is none that XNNPACK takes: the whole file would be refused."""
    image = keras.Input((6, 6, 8), name="image")
    first, second = ULSAM(2, name="first"), ULSAM(2, name="second")
    model = keras.Model(image, second(first(image)))
    for layer in (first, second):
        parity.fill(layer, parity.oracle(2, 8, seed=0).eval())
    first.pointwise_norm.beta.assign([-100.0, -100.0])
    samples = np.random.default_rng(0).normal(size=(100, 6, 6, 8)).astype("float32")
    tflite = to_tflite(model, precision="int8", representative_data=samples, attention=form)
    for accelerator in ("cpu", "cpu_builtin", "cpu_reference"):
        rows = attention_snr(tflite, model, samples[:4], accelerator=accelerator)
        assert [row.site for row in rows] == ["first", "second"]
        for row in rows:
            assert row.passed and row.zeros == row.dead_maps == 0, row
    expected = model.predict(samples[:4], verbose=0)
    (outputs,) = run_float(tflite, {"image": samples[:4]}).outputs.values()
    assert relative(outputs, expected) < INT8_OUTPUT


def test_float_island_leaves_the_user_s_own_operators_alone():
    image = keras.Input((8, 8, 8), name="image")
    x = ULSAM(2)(image)
    model = keras.Model(image, keras.ops.exp(keras.ops.tanh(x)))
    samples = np.random.default_rng(0).normal(size=(100, 8, 8, 8)).astype("float32")
    exporter = Exporter(model)
    with pytest.warns(UserWarning, match="UNSAFE_EXP"):
        file = exporter.convert("int8", representative_data=samples, attention="float")
    (graph,) = file.graphs
    types = [o.outputs[0].dtype for o in graph.operators if o.name == "EXP"]
    assert types == ["FLOAT32", "INT8"]


def test_forms_are_one_function_in_float():
    model, _, further, attention = ported(14)
    for form in ATTENTION_FORMS:
        with attention_form(form):
            maps = model.get_layer("ulsam")(further, return_attention_scores=True)[1]
        assert relative(np.asarray(maps), attention) < 1e-5


def test_form_is_of_the_calling_thread_and_of_the_block():
    seen = {}

    def trace(name):
        layer = ULSAM(2)
        layer.build((None, 4, 4, 4))
        import tensorflow as tf

        spec = tf.TensorSpec((1, 4, 4, 4))
        function = tf.function(layer, autograph=False).get_concrete_function(spec)
        seen[name] = {operation.type for operation in function.graph.get_operations()}

    with attention_form("log_softmax"):
        trace("inside")
        thread = threading.Thread(target=trace, args=("thread",))
        thread.start()
        thread.join()
    trace("after")
    assert "LogSoftmax" in seen["inside"]
    for name in ("thread", "after"):
        assert "Softmax" in seen[name] and "LogSoftmax" not in seen[name]
    with pytest.raises(ValueError, match="log_softmax.*Received: attention='tanh'"):
        attention_form("tanh").__enter__()


# ----------------------------------------------------------------------------- the numbers


def behind_an_add():
    """A block right after an ADD, with its input used again: where kernels overwrite."""
    image = keras.Input((12, 12, 16), name="image")
    branch = keras.layers.Conv2D(16, 1, name="branch")(image)
    x = keras.layers.Add(name="x")([image, branch])
    layer = ULSAM(4, name="ulsam")
    outputs = keras.layers.Concatenate(name="both")([layer(x), x])
    model = keras.Model(image, outputs)
    parity.fill(layer, parity.oracle(4, 16, seed=1).eval())
    samples = np.random.default_rng(3).normal(size=(100, 12, 12, 16)).astype("float32")
    return model, layer, samples


def test_ranges_are_those_of_the_float_model():
    model, layer, samples = behind_an_add()
    tflite = to_tflite(model, precision="int8", representative_data=samples)
    (site,) = find_sites(read_graphs(tflite)[0])
    inner = keras.Model(model.input, [layer.input, layer.output])
    x, y = inner.predict(samples, verbose=0)
    expected = {
        "inputs": x,
        "outputs": y,
        "attention": attention_maps(model, samples)["ulsam"],
    }
    for part, values in expected.items():
        tensor = getattr(site, part)
        ends = tensor.dequantized(np.array([-128, 127]))
        wanted = np.array([min(values.min(), 0), max(values.max(), 0)])
        # A concatenation shares one range with what it joins.
        if part == "inputs" or part == "outputs":
            wanted = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
        step = tensor.scales[0]
        assert np.abs(ends - wanted).max() <= step, part


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_what_is_added_and_multiplied_inside_a_network_has_its_own_range(precision):
    """The converter gives an operand that a sum or product overwrites the range of the result."""
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(16, 3, padding="same")(image)
    branch = keras.layers.Conv2D(16, 3, padding="same")(x)
    attended = ULSAM(4, name="ulsam")(keras.layers.Add()([x, branch]))
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(attended))
    samples = np.random.default_rng(0).normal(size=(100, 12, 12, 3)).astype("float32")
    tflite = to_tflite(model, precision=precision, representative_data=samples)
    graph = read_graphs(tflite)[0]
    (site,) = find_sites(graph)
    (product,) = [o for o in graph.operators if o.name == "MUL"]
    (spread,) = [t for t in product.inputs if t is not site.inputs]
    (total,) = [o for o in graph.operators if o.name == "ADD"]
    (branched,) = [
        o.outputs[0]
        for o in graph.operators
        if o.outputs[0] in total.inputs and o.inputs[0] in total.inputs
    ]
    expected = {
        spread: 1 + attention_maps(model, samples)["ulsam"],
        branched: keras.Model(image, branch).predict(samples, verbose=0),
    }
    for tensor, values in expected.items():
        low, high = min(values.min(), 0), max(values.max(), 0)
        step = (high - low) / 255 if precision == "int8" else max(-low, high) / 32767
        assert tensor.scales[0] == pytest.approx(step, rel=1e-3)  # sums in another order


@pytest.mark.parametrize(
    "accelerator",
    ["cpu", pytest.param("cpu_builtin", marks=SLOW), pytest.param("cpu_reference", marks=SLOW)],
)
def test_numbers_behind_an_add(accelerator):
    model, _, samples = behind_an_add()
    tflite = to_tflite(model, precision="int8", representative_data=samples)
    expected = model.predict(samples[:4], verbose=0)
    result = run_float(tflite, {"image": samples[:4]}, accelerator=accelerator)
    (outputs,) = result.outputs.values()
    assert relative(outputs, expected) < INT8_OUTPUT
    (row,) = attention_snr(tflite, model, samples[:4], accelerator=accelerator)
    assert row.snr >= LEAST_SNR


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_nothing_is_warned_of_that_was_asked_for(precision):
    """That the GPU takes neither is for `lint` to say: who converts for the CPU knows."""
    model, samples = flat(9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        to_tflite(model, precision=precision, representative_data=samples)


def test_lint_says_that_the_gpu_refuses_the_default_form():
    findings = lint(int8(14))
    assert [(f.code, f.severity) for f in findings] == [("LOG_SOFTMAX", "warning")]
    assert "attention='float'" in findings[0].advice


def test_files_of_floats_can_be_measured_too():
    model, _, further, _ = ported(14)
    for precision in ("float32", "float16", "dynamic_range"):
        (row,) = attention_snr(to_tflite(model, precision=precision), model, further)
        assert row.snr > 50 and row.softmax_snr > 90 and row.zeros == 0
        assert row.rounding_snr == np.inf and row.visible
        assert row.multiplier_correlation > 0.999
        assert row.float_operators


def test_every_site_by_its_name():
    image = keras.Input((10, 10, 8), name="image")
    x = ULSAM(4, name="first")(image)
    x = SubSpace(name="second")(keras.layers.Conv2D(8, 3, strides=2)(x))
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    model = keras.Model(image, ULSAM(2, name="one_position")(x))
    samples = np.random.default_rng(0).normal(size=(100, 10, 10, 8)).astype("float32")
    tflite = to_tflite(model, precision="int8", representative_data=samples)
    rows = attention_snr(tflite, model, samples[:3])
    # The softmax of one position is 1: there is nothing to measure.
    assert [(row.site, row.map_size) for row in rows] == [("first", (10, 10)), ("second", (4, 4))]
    with pytest.raises(ValueError, match=r"inputs of one shape.*Received: .*\(1, 14, 14, 64\)"):
        attention_snr(int8(14), model, samples[:3])
    other, _, further, _ = ported(14, groups=2)
    with pytest.raises(ValueError, match=r"blocks of the file.*Received: .*\(14, 14, 4\)"):
        attention_snr(int8(14), other, further)


def test_a_run_that_fails_is_told_in_every_row():
    model, _, further, _ = ported(14)
    (row,) = attention_snr(int8(14), model, further[:1], accelerator="gpu", env=gpu_drivers.NONE)
    assert row.problem.startswith("no_driver") and not row.passed and row.snr is None
