"""Running a model in a process of its own: outputs, inputs, and every outcome for real."""

import dataclasses
import os
import platform
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import gpu_drivers
import litert_models
from converters import runtime
from measures import correlation, differences

# Relative to the largest value; float32 rounding through the block's two convolutions.
FLOAT32 = 5e-6
CPU = ("cpu", "cpu_builtin", "cpu_reference")


@pytest.fixture(scope="module")
def two_by_two():
    """Two inputs, two outputs: their sum and their difference."""
    return litert_models.from_function(
        lambda left, right: {"sum": left + right, "difference": left - right},
        left=(1, 2, 3),
        right=(1, 2, 3),
    )


@pytest.fixture(scope="module")
def endless():
    import tensorflow as tf

    def loop(x):
        return tf.while_loop(lambda i, y: i < 10**9, lambda i, y: (i + 1, y * 0.5), [0, x])[1]

    return litert_models.from_function(loop, x=(1, 8))


@pytest.fixture(scope="module")
def trapping():
    """An integer remainder: the CPU traps on the smallest integer by -1."""
    return litert_models.from_function(lambda a, b: a % b, a=((1, 4), "int32"), b=((1, 4), "int32"))


@pytest.mark.parametrize("accelerator", CPU)
@pytest.mark.parametrize("shape", [(4, 64, 14, 14), (1, 64, 7, 7)])
def test_block_on_the_cpu_equals_pytorch(accelerator, shape):
    model = litert_models.block_bytes(*shape, "float32")
    _, x, reference = litert_models.block(*shape)
    result = runtime.run(model, x, accelerator=accelerator)
    assert result.outcome == "ok"
    assert max(differences(result.outputs, reference).values()) < FLOAT32
    assert correlation(result.outputs["a"], reference["a"]) > 0.999999
    assert result.milliseconds > 0
    assert result.gpu_precision == "float32"
    assert result.signal is None and result.message == ""


@pytest.mark.parametrize(
    "accelerator, adapter",
    [
        ("cpu", "XNNPACK"),
        ("cpu_builtin", "built-in kernels"),
        ("cpu_reference", "reference kernels"),
    ],
)
def test_adapter_names_the_kernels(two_by_two, accelerator, adapter):
    ones = np.ones((1, 2, 3), "float32")
    result = runtime.run(two_by_two, {"left": ones, "right": ones}, accelerator=accelerator)
    assert (result.adapter, result.fully_accelerated) == (adapter, False)


def test_the_builtin_and_the_reference_kernels_are_two():
    """Their sums round differently; XNNPACK's too."""
    model = litert_models.block_bytes(4, 64, 14, 14, "float32")
    x = litert_models.block(4, 64, 14, 14)[1]
    outputs = [runtime.run(model, x, accelerator=a, repeats=0).outputs["a"] for a in CPU]
    assert len({output.tobytes() for output in outputs}) == 3


def test_outputs_by_name_and_batch_by_batch(two_by_two, tmp_path):
    path = tmp_path / "model with spaces.tflite"
    path.write_bytes(two_by_two)
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 5, 2, 3)).astype("float32")
    result = runtime.run(path, {"right": right, "left": left}, repeats=0)
    assert result.milliseconds is None
    np.testing.assert_array_equal(result.outputs["sum"], left + right)
    np.testing.assert_array_equal(result.outputs["difference"], left - right)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.outcome = "crashed"


def test_batch_of_the_model_and_open_dimensions():
    x = np.arange(8 * 3 * 2, dtype="float32").reshape(8, 3, 2)
    for shape in ((4, 3, 2), (None, 3, 2), (1, None, 2)):
        model = litert_models.from_function(lambda x: x * 2.0, x=shape)
        result = runtime.run(model, x, repeats=0)
        np.testing.assert_array_equal(next(iter(result.outputs.values())), x * 2)


def test_an_int8_model_runs_on_all_kernels():
    model, x = litert_models.int8_convolution()
    outputs = [
        next(iter(runtime.run(model, x, accelerator=accelerator).outputs.values()))
        for accelerator in CPU
    ]
    assert {output.dtype.name for output in outputs} == {"int8"}
    first, *others = [output.astype(int) for output in outputs]
    assert np.ptp(first) > 100
    for other in others:  # XNNPACK requantizes in floating point: a tie falls to either side
        assert np.abs(other - first).max() <= 1
        assert (other != first).mean() < 0.01
    with pytest.raises(ValueError, match="must have dtype int8 .* dtype=float32"):
        runtime.run(model, x.astype("float32"))


ONES = np.ones((1, 2, 3), "float32")


@pytest.mark.parametrize(
    "inputs, words",
    [
        (ONES, ["left", "right", "one array"]),
        ({"left": ONES}, ["left", "right"]),
        ({"left": ONES, "right": ONES, "up": ONES}, ["left", "right", "up"]),
        ({"left": ONES.astype("float64"), "right": ONES}, ["'left'", "float32", "float64"]),
        ({"left": ONES, "right": ONES[:, :1]}, ["'right'", "(N, 2, 3)", "(1, 1, 3)"]),
        ({"left": ONES, "right": ONES[0]}, ["'right'", "(2, 3)"]),
        ({"left": ONES, "right": ONES[:0]}, ["'right'", "(0, 2, 3)"]),
        ({"left": np.repeat(ONES, 2, 0), "right": ONES}, ["same number of samples"]),
        ({"left": np.array([None]), "right": ONES}, ["'left'", "object"]),
    ],
)
def test_inputs_that_do_not_fit(two_by_two, inputs, words):
    with pytest.raises(ValueError) as error:
        runtime.run(two_by_two, inputs)
    message = str(error.value)
    assert all(word in message for word in [*words, "Received:"]), message
    assert "\n" not in message


@pytest.mark.parametrize(
    "option",
    [
        {"accelerator": "npu"},
        {"gpu_precision": "int8"},
        {"gpu_precision": "float16"},  # on the CPU
        {"timeout": 0},
        {"timeout": float("nan")},
        {"repeats": -1},
        {"num_threads": 0},
    ],
)
def test_unknown_options(option):
    with pytest.raises(ValueError, match="Received: "):
        runtime.run(b"", ONES, **option)


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        runtime.run(tmp_path / "none.tflite", ONES)
    with pytest.raises(OSError):
        runtime.run(tmp_path, ONES)


@pytest.mark.parametrize("accelerator", CPU)
@pytest.mark.parametrize("content", [b"", b"no flatbuffer at all"])
def test_refused_for_its_content(accelerator, content):
    result = runtime.run(content, ONES, accelerator=accelerator)
    assert (result.outcome, result.outputs, result.milliseconds) == ("refused", None, None)
    assert result.message and "\n" not in result.message


def test_refused_cut_short():
    model = litert_models.block_bytes(4, 64, 14, 14, "float32")
    x = litert_models.block(4, 64, 14, 14)[1]
    result = runtime.run(model[: len(model) // 2], x)
    assert result.outcome == "refused"
    assert "Flatbuffer" in result.message


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 traps on this division")
@pytest.mark.parametrize("accelerator", CPU)
def test_crashed(trapping, accelerator):
    inputs = {"a": np.full((1, 4), -(2**31), "int32"), "b": np.full((1, 4), 3, "int32")}
    assert runtime.run(trapping, inputs, accelerator=accelerator).outcome == "ok"
    inputs["b"] = np.full((1, 4), -1, "int32")
    result = runtime.run(trapping, inputs, accelerator=accelerator)
    assert (result.outcome, result.signal, result.outputs) == ("crashed", "SIGFPE", None)
    assert "SIGFPE" in result.message


def test_timed_out_and_nothing_is_left_running(endless):
    mark = uuid.uuid4().hex
    result = runtime.run(endless, np.ones((1, 8), "float32"), timeout=1.5, env={"MARK": mark})
    assert (result.outcome, result.outputs, result.signal) == ("timed_out", None, None)
    assert "1.5 s" in result.message
    assert processes_with(mark) == []


def processes_with(mark):
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path)
        except OSError:  # ended meanwhile, or another user's
            pass
    return found


def test_an_interrupted_caller_leaves_nothing_running(endless, tmp_path):
    (tmp_path / "model.tflite").write_bytes(endless)
    mark = uuid.uuid4().hex
    code = (
        "import sys, numpy, signal\n"
        "from converters import runtime\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, stop); signal.alarm(2)\n"
        "runtime.run(sys.argv[1], numpy.ones((1, 8), 'float32'))\n"
    )
    caller = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.tflite")],
        env={**os.environ, "MARK": mark},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "KeyboardInterrupt" in caller.stderr
    assert processes_with(mark) == []


def test_no_driver():
    result = runtime.run(
        litert_models.block_bytes(4, 64, 14, 14, "float32"),
        litert_models.block(4, 64, 14, 14)[1],
        accelerator="gpu",
        env=gpu_drivers.NONE,
    )
    assert (result.outcome, result.outputs, result.adapter) == ("no_driver", None, "")
    assert "No adapters found" in result.message and "\n" not in result.message
    assert runtime.vulkan_adapter(env=gpu_drivers.NONE) is None


def test_the_environment_is_the_workers_alone(two_by_two):
    before = dict(os.environ)
    folder = sorted(Path.cwd().iterdir())
    runtime.run(two_by_two, {"left": ONES, "right": ONES}, env={"NEW": "1", "HOME": None})
    assert dict(os.environ) == before
    assert sorted(Path.cwd().iterdir()) == folder


def stub(folder, package):
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(f"raise ImportError('stub of {package}')")


def test_the_worker_needs_neither_tensorflow_nor_keras(two_by_two, tmp_path):
    for package in ("tensorflow", "keras", "tf_keras", "torch"):
        stub(tmp_path, package)
    inputs = {"left": ONES, "right": ONES}
    assert runtime.run(two_by_two, inputs, env={"PYTHONPATH": str(tmp_path)}).ok


def runtime_that(folder, *lines):
    """A stand-in for ai_edge_litert, whose interpreter does what the lines say."""
    (folder / "ai_edge_litert").mkdir()
    (folder / "ai_edge_litert" / "__init__.py").write_text("")
    body = "".join(f"        {line}\n" for line in lines)
    (folder / "ai_edge_litert" / "interpreter.py").write_text(
        "import os, signal, subprocess, sys, time\n"
        "class OpResolverType:\n"
        "    BUILTIN = BUILTIN_WITHOUT_DEFAULT_DELEGATES = BUILTIN_REF = 0\n"
        "class Interpreter:\n"
        f"    def __init__(self, **options):\n{body}"
    )
    return {"PYTHONPATH": str(folder), "MARK": uuid.uuid4().hex}


SLEEP = "[sys.executable, '-c', 'import time; time.sleep(60)']"
GRANDCHILD = f"subprocess.Popen({SLEEP})"
DAEMON = f"subprocess.Popen({SLEEP}, start_new_session=True)"


@pytest.mark.skipif(os.name != "posix", reason="looks into /proc")
def test_a_daemon_that_holds_the_output_open_is_not_waited_for(tmp_path):
    env = runtime_that(tmp_path, DAEMON, "time.sleep(60)")
    started = time.monotonic()
    assert runtime.run(b"", ONES, timeout=3, env=env).outcome == "timed_out"
    assert time.monotonic() - started < 15
    for path in processes_with(env["MARK"]):
        os.kill(int(path.parent.name), signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="looks into /proc")
@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        (["raise ValueError('no')"], "refused"),
        (["time.sleep(60)"], "timed_out"),
        (["os.abort()"], "crashed"),
    ],
)
def test_a_grandchild_outlasts_neither_the_run_nor_its_limit(tmp_path, lines, outcome):
    """It holds the worker's output open, as a driver's shader compiler may."""
    env = runtime_that(tmp_path, GRANDCHILD, *lines)
    started = time.monotonic()
    result = runtime.run(b"", ONES, timeout=3, env=env)
    assert result.outcome == outcome
    assert time.monotonic() - started < 15  # far from a minute; starting may be slow
    while processes_with(env["MARK"]) and time.monotonic() - started < 20:
        time.sleep(0.05)  # killed, and not yet gone
    assert processes_with(env["MARK"]) == []


@pytest.mark.parametrize("accelerator", CPU)
def test_the_number_of_threads_reaches_every_kernel(tmp_path, accelerator):
    env = runtime_that(tmp_path, "raise ValueError('threads: %d' % options['num_threads'])")
    result = runtime.run(b"", ONES, accelerator=accelerator, num_threads=3, env=env)
    assert result.message == "threads: 3"
    assert 1 <= runtime.cores() <= os.cpu_count()


def test_a_worker_without_what_only_posix_has(two_by_two, tmp_path):
    """As on Windows: no module `resource`, no SIGHUP, no timers."""
    (tmp_path / "resource.py").write_text("raise ImportError('not on Windows')")
    (tmp_path / "sitecustomize.py").write_text(
        "import signal\n"
        "for name in ('setitimer', 'ITIMER_REAL', 'SIGHUP', 'SIGALRM'): delattr(signal, name)\n"
    )
    inputs = {"left": ONES, "right": ONES}
    assert runtime.run(two_by_two, inputs, env={"PYTHONPATH": str(tmp_path)}).ok


def test_a_runtime_that_is_not_installed(two_by_two, tmp_path):
    stub(tmp_path, "ai_edge_litert")
    with pytest.raises(ImportError, match=r'pip install "ulsam-keras\[convert\]"'):
        runtime.run(two_by_two, ONES, env={"PYTHONPATH": str(tmp_path)})


def test_importing_the_room_imports_no_runtime():
    code = (
        "import sys, converters.runtime\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
