"""Converted models on the real GPU accelerator, by software Vulkan drivers.

SwiftShader computes in float32, lavapipe in float16 as phones do. Without the drivers these tests
are skipped; with ULSAM_REQUIRE_GPU=1 a missing driver fails them. Both the output and the
attention are compared: the residual hides a dead attention in the output.
"""

import numpy as np
import pytest

import gpu_drivers
import litert_models
import parity
from converters import attention_snr, lint, runtime, to_tflite
from converters.tflite.flatbuffer import read_graphs
from converters.tflite.sites import find_sites
from converters.verify.outputs import relative_difference
from measures import correlation, differences, run_float, sum_error
from test_int8 import LEAST_SNR, int8, ported
from ulsam_keras import ULSAM, attention_maps

# Relative to the largest value of the output. A float16 mantissa has 11 bits, one rounding is at
# most HALF = 2 ** -11.
HALF = 2**-11
FLOAT32 = 5e-6  # float32 rounding through the block's two convolutions and the softmax
FLOAT16_Y = 4 * HALF  # x, the multiplier and the product are rounded, and the attention is off
FLOAT16_A = (
    24 * HALF
)  # a score of up to 8 is off by 8 roundings or so, which is a relative one here
FLOAT16_SUM = 4 * HALF
FLOAT16_CORRELATION = 0.9995
# The GPU computes in floating point and rounds at the end: a tie may fall to either side.
STEPS = 1
# Of an integer tensor on a GPU in float16, whose steps end with its normal numbers.
SMALLEST_STEP = 2**-14
INT8_WEIGHTS = 4 / 254  # int8 steps of the two kernels, half a step each, on y and scores

GROUPS = (1, 2, 4, 8, 16)
MAPS = ((1, 1), (7, 7), (14, 14), (9, 13), (56, 56))
# The sites of MobileNets, whose kernels are large enough to be quantized.
SITES = ((4, 512, 14, 14), (16, 1024, 7, 7), (1, 1280, 7, 7))


@pytest.fixture(scope="session", params=["swiftshader", "lavapipe"])
def driver(request):
    """(adapter's name, environment, precision) of each driver at its own precision."""
    name = request.param
    gpu_precision = {"swiftshader": "float32", "lavapipe": "float16"}[name]
    return gpu_drivers.ADAPTER[name], gpu_drivers.environment(name), gpu_precision


def on_gpu(model, inputs, driver, **options):
    adapter, env, gpu_precision = driver
    result = runtime.run(
        model, inputs, accelerator="gpu", gpu_precision=gpu_precision, env=env, repeats=0, **options
    )
    assert result.outcome == "ok", result
    assert adapter in result.adapter
    assert result.fully_accelerated
    assert result.gpu_precision == gpu_precision
    return result


def is_float16(array):
    return np.array_equal(array, array.astype("float16").astype("float32"))


def check(result, reference, limits):
    far, attention = differences(result.outputs, reference), result.outputs["a"]
    assert far["y"] < limits["y"]
    assert far["a"] < limits["a"]
    assert correlation(attention, reference["a"]) > limits["correlation"]
    assert sum_error(attention) < limits["sum"]


EXACT = {"y": FLOAT32, "a": FLOAT32, "correlation": 1 - FLOAT32, "sum": FLOAT32}
ROUNDED = {"y": FLOAT16_Y, "a": FLOAT16_A, "correlation": FLOAT16_CORRELATION, "sum": FLOAT16_SUM}


@pytest.mark.parametrize("size", MAPS, ids=str)
@pytest.mark.parametrize("groups", GROUPS)
def test_block_equals_pytorch(driver, groups, size):
    shape = (groups, 32, *size)
    _, x, reference = litert_models.block(*shape)
    result = on_gpu(litert_models.block_bytes(*shape, "float32"), x, driver)
    half = driver[2] == "float16"
    check(result, reference, ROUNDED if half else EXACT)
    assert is_float16(result.outputs["y"]) == half


@pytest.mark.parametrize("shape", SITES, ids=str)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_sites_of_mobilenets_equal_the_cpu(driver, shape, precision):
    """The same stored weights on both sides, so float16 storage costs nothing here."""
    model, x = litert_models.block_bytes(*shape, precision), litert_models.block(*shape)[1]
    cpu = runtime.run(model, x, repeats=0)
    result = on_gpu(model, x, driver)
    check(result, cpu.outputs, ROUNDED if driver[2] == "float16" else EXACT)


@pytest.mark.parametrize("shape", SITES, ids=str)
def test_sites_of_mobilenets_in_dynamic_range(driver, shape):
    """The CPU quantizes the activations too, the GPU the weights only: PyTorch is the reference."""
    _, x, reference = litert_models.block(*shape)
    model = litert_models.block_bytes(*shape, "dynamic_range")
    result = on_gpu(model, x, driver)
    limits = {**ROUNDED, "y": FLOAT16_Y + INT8_WEIGHTS, "a": FLOAT16_A + INT8_WEIGHTS}
    check(result, reference, limits)
    assert litert_models.has_int8_weights(model)


def test_int8_equals_the_cpu(driver):
    model, x = litert_models.int8_convolution()
    cpu = next(iter(runtime.run(model, x, repeats=0).outputs.values()))
    gpu = next(iter(on_gpu(model, x, driver).outputs.values()))
    assert gpu.dtype == cpu.dtype == "int8"
    cpu, gpu = cpu.astype(int), gpu.astype(int)
    assert np.ptp(cpu) > 100
    assert np.abs(gpu - cpu).max() <= STEPS


@pytest.mark.parametrize("size", [14, pytest.param(56, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["float", pytest.param("softmax", marks=pytest.mark.slow)])
def test_int8_block_equals_the_cpu(driver, form, size):
    """The output, and the attention inside: as much of it is left as on the CPU."""
    _, env, gpu_precision = driver
    model, _, samples, _ = ported(size)
    tflite, x = int8(size, attention=form), samples[:2]
    where = {"accelerator": "gpu", "gpu_precision": gpu_precision, "env": env}
    cpu = run_float(tflite, {"image": x}).outputs["y"]
    gpu = run_float(tflite, {"image": x}, **where)
    assert gpu.outcome == "ok" and gpu.fully_accelerated, gpu
    assert driver[0] in gpu.adapter and gpu.gpu_precision == gpu_precision
    [site] = find_sites(read_graphs(tflite)[0])
    [step] = site.outputs.scales
    assert np.ptp(cpu) > 100 * step
    # In float16 the rounded value and its distance from the range's end, of 255 steps, are rounded.
    rounding = HALF * (255 * step + np.abs(cpu).max()) if gpu_precision == "float16" else FLOAT32
    assert np.abs(gpu.outputs["y"] - cpu).max() <= STEPS * step + rounding
    [there] = attention_snr(tflite, model, x, **where)
    [here] = attention_snr(tflite, model, x)
    least = here.snr
    if gpu_precision == "float16" and site.attention.scales[0] < SMALLEST_STEP:
        maps = attention_maps(model, x)["ulsam"]
        error = 10 ** (-least / 10) + maps.size * SMALLEST_STEP**2 / 12 / np.square(maps).sum()
        least = -10 * np.log10(error)
    assert least - 1 <= there.snr <= here.snr + 1
    assert form == "softmax" or (there.passed and there.snr >= LEAST_SNR)


def test_attention_of_blocks_in_a_row_is_measured(driver):
    """One tensor is the output of a block, the input of the next; the last is the model's own."""
    import keras

    image = keras.Input((4, 4, 8), name="image")
    blocks = [ULSAM(2, name=name) for name in ("first", "second")]
    model = keras.Model(image, blocks[1](blocks[0](image)))
    for seed, block in enumerate(blocks):
        parity.fill(block, parity.oracle(2, 8, seed=seed).eval())
    samples = np.random.default_rng(0).normal(size=(100, 4, 4, 8)).astype("float32")
    options = {"precision": "int8", "attention": "softmax", "inference_type": "int8"}
    tflite = to_tflite(model, representative_data=samples, **options)
    where = {"accelerator": "gpu", "gpu_precision": driver[2], "env": driver[1]}
    there = attention_snr(tflite, model, samples[:2], **where)
    here = attention_snr(tflite, model, samples[:2])
    assert [row.site for row in there] == ["first", "second"]
    for row, expected in zip(there, here, strict=True):
        assert row.passed, row
        if driver[2] == "float32":
            assert row.snr == pytest.approx(expected.snr, abs=1)
        else:  # half precision has roundings of its own; what int8 promises is kept
            assert row.snr >= LEAST_SNR


@pytest.mark.parametrize("form", ["log_softmax", "int16x8"])
def test_refused_integers_and_what_lint_says_of_them(driver, form):
    """The default form has an operator that the GPU lacks, int16x8 a type; lint names it."""
    model, calibration, samples, _ = ported(14)
    if form == "log_softmax":
        tflite, code, word = int8(14), "LOG_SOFTMAX", "LOG_SOFTMAX: Operation is not supported"
    else:
        tflite = to_tflite(model, precision=form, representative_data=calibration)
        code, word = "DTYPE", "INT16"
    assert code in {finding.code for finding in lint(tflite)}
    where = {"accelerator": "gpu", "gpu_precision": driver[2], "env": driver[1]}
    result = run_float(tflite, {"image": samples[:1]}, **where)
    assert (result.outcome, result.outputs) == ("refused", None)
    assert word in result.message
    # Measured there, it is a row that says so, and does not pass.
    [row] = attention_snr(tflite, model, samples[:1], **where)
    assert not row.passed and row.problem.startswith("refused") and word in row.problem


@pytest.mark.parametrize("name", ["swiftshader", "lavapipe"])
def test_gpu_precision_is_what_really_ran(name):
    """A driver without half precision computes in float32 whatever is asked of it."""
    env = gpu_drivers.environment(name)
    model = litert_models.block_bytes(4, 32, 14, 14, "float32")
    _, x, reference = litert_models.block(4, 32, 14, 14)
    error = {}
    for asked in ("float32", "float16"):
        result = runtime.run(model, x, accelerator="gpu", gpu_precision=asked, env=env)
        really = "float16" if (name, asked) == ("lavapipe", "float16") else "float32"
        assert result.gpu_precision == really
        assert is_float16(result.outputs["y"]) == (really == "float16")
        assert result.milliseconds > 0
        error[asked] = relative_difference(result.outputs["y"], reference["y"])
    assert error["float32"] < FLOAT32
    assert (error["float16"] > HALF / 2) == (name == "lavapipe")


def flat_block(size):
    """A block whose scores are all alike, so that a is 1 / (H * W), on an input of ones."""
    import keras

    inputs = keras.Input((size, size, 8))
    y, a = ULSAM(2)(inputs, return_attention_scores=True)
    model = to_tflite(keras.Model(inputs, {"y": y, "a": a}))
    return model, np.ones((1, size, size, 8), "float32")


@pytest.mark.parametrize("size, survives", [(14, True), (45, True), (46, False), (56, False)])
def test_where_float16_rounds_the_multiplier_away(size, survives):
    """1 + a is 1 in float16 once a < 2 ** -11, that is, beyond 2048 positions: 45x45 is 2025.

    The attention itself is still right there, and in float32 the output is too.
    """
    model, ones = flat_block(size)
    a = 1 / size**2
    lavapipe = ("llvmpipe", gpu_drivers.environment("lavapipe"), "float16")
    half = on_gpu(model, ones, lavapipe).outputs
    np.testing.assert_allclose(half["a"], a, rtol=2 * HALF)
    assert np.all(half["y"] > 1) if survives else np.all(half["y"] == 1)
    swiftshader = ("SwiftShader", gpu_drivers.environment("swiftshader"), "float32")
    np.testing.assert_allclose(on_gpu(model, ones, swiftshader).outputs["y"] - 1, a, rtol=1e-3)


def test_refused(driver):
    ones = {"BROADCAST_TO": np.ones((1, 1, 1, 8), "float32")}
    for word, model in (
        ("BROADCAST_TO", litert_models.broadcast_to()),
        ("Tensor dimensions must be less than 5", litert_models.rank_five()),
    ):
        x = ones.get(word, np.ones((1, 4, 4, 8), "float32"))
        assert runtime.run(model, x).ok  # the model itself is sound
        result = runtime.run(model, x, accelerator="gpu", env=driver[1], gpu_precision=driver[2])
        assert (result.outcome, result.outputs) == ("refused", None)
        assert driver[0] in result.adapter
        assert word in result.message and "\n" not in result.message


def test_refused_for_its_content(driver):
    result = runtime.run(
        b"no flatbuffer", np.ones((1, 4), "float32"), accelerator="gpu", env=driver[1]
    )
    assert result.outcome == "refused" and "flatbuffer" in result.message


def test_crashed(driver):
    model, x = litert_models.one_way_split(), np.ones((1, 4, 4, 8), "float32")
    assert runtime.run(model, x).ok
    result = runtime.run(model, x, accelerator="gpu", env=driver[1])
    assert (result.outcome, result.signal, result.outputs) == ("crashed", "SIGABRT", None)
    assert "Check failed" in result.message and "\n" not in result.message


def test_timed_out(driver):
    shape = (4, 512, 14, 14)
    model, x = litert_models.block_bytes(*shape, "float32"), litert_models.block(*shape)[1]
    result = runtime.run(model, x, accelerator="gpu", env=driver[1], repeats=10**6, timeout=4)
    assert (result.outcome, result.outputs) == ("timed_out", None)
    assert driver[0] in result.adapter


def test_inputs_that_do_not_fit(driver):
    model = litert_models.block_bytes(4, 32, 14, 14, "float32")
    with pytest.raises(
        ValueError, match=r"'x' must have dtype float32 and shape \(N, 14, 14, 32\)"
    ):
        runtime.run(model, np.ones((1, 7, 7, 32), "float32"), accelerator="gpu", env=driver[1])


def test_vulkan_adapter(driver):
    assert driver[0] in runtime.vulkan_adapter(env=driver[1])


def check_mobilenet(driver, size, alpha, sites, timeout=300):
    from converters.tflite import to_tflite

    def predict(model):
        return {k: np.asarray(v, "float32") for k, v in model.predict(x, verbose=0).items()}

    model = litert_models.mobilenet(size, alpha, sites)
    x = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype("float32")
    reference = predict(model)
    assert len(reference) == 1 + len(sites)
    half = driver[2] == "float16"
    result = on_gpu(to_tflite(model), x, driver, timeout=timeout)
    far = differences(result.outputs, reference)
    if half:
        # 53 layers of random weights amplify roundings; Keras in float16 says by how much. It adds
        # up in float32, the driver in float16.
        keras_half = differences(predict(litert_models.in_half_precision(model)), reference)
        limits = {name: 5 * difference for name, difference in keras_half.items()}
    else:
        limits = dict.fromkeys(reference, 10 * FLOAT32)  # 53 layers in place of 3
    for name, maps in reference.items():
        assert far[name] < limits[name], name
        if name != "logits":
            # The largest difference could not be met by attention that is flat, that is, dead.
            flat = np.full_like(maps, 1 / maps[0, :, :, 0].size)
            assert relative_difference(flat, maps) > limits[name]
            assert sum_error(result.outputs[name]) < (FLOAT16_SUM if half else FLOAT32)
            assert half or correlation(result.outputs[name], maps) > 1 - FLOAT32


def test_small_mobilenet_with_ulsam(driver):
    check_mobilenet(driver, 96, 0.35, {"block_6_project_BN", "block_13_project_BN"})


@pytest.mark.slow
def test_mobilenet_with_ulsam(driver):
    sites = {"block_2_add", "block_6_project_BN", "block_13_project_BN"}
    check_mobilenet(driver, 224, 1.0, sites, timeout=580)


@pytest.mark.slow
@pytest.mark.parametrize("gpu_precision", ["float32", "float16"])
@pytest.mark.parametrize("shape", SITES, ids=str)
def test_this_machines_own_gpu(shape, gpu_precision):
    """The same on the adapter that the environment selects, where it is hardware."""
    adapter = runtime.vulkan_adapter()
    if adapter is None or "SwiftShader" in adapter or "llvmpipe" in adapter:
        pytest.skip(f"no hardware GPU: the Vulkan adapter is {adapter}")
    _, x, reference = litert_models.block(*shape)
    model = litert_models.block_bytes(*shape, "float32")
    result = on_gpu(model, x, (adapter, {}, gpu_precision))
    check(result, reference, ROUNDED if gpu_precision == "float16" else EXACT)
