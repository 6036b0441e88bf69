"""What TensorFlow's converter does never ends the caller, and what comes out of it runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from converters import to_tflite
from converters.runtime import run
from converters.tflite import jobs
from converters.tflite.flatbuffer import TfliteFile
from gpu_drivers import environment
from ulsam_keras import ULSAM, with_attention

K = keras.layers
# A step of 8 bits, in a range that is twice the largest value, for each tensor that is rounded on
# the way: the image, two maps, and the output.
INT8 = 4 * 2 / 256


def recurrent(layer, **kwargs):
    inputs = keras.Input((6, 6), name="steps")
    x = K.Dense(3, name="before")(inputs)
    return keras.Model(inputs, K.Dense(2)(layer(8, name="memory", **kwargs)(x)), name="recurrent")


def small():
    inputs = keras.Input((8, 8, 4), name="image")
    return keras.Model(inputs, K.Conv2D(3, 3)(inputs))


def data(model, count=100):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


def named(model, precision, where):
    with pytest.raises(ValueError) as caught:
        to_tflite(model, precision=precision, representative_data=data(model))
    text = str(caught.value)
    assert "\n" not in text and where in text, text
    return text


class Sum(K.Layer):
    """A running sum, in a loop over lists of tensors: calibration does not survive it."""

    def call(self, x):
        steps = keras.ops.moveaxis(x, 1, 0)
        start = keras.ops.zeros_like(steps[0])
        sums = keras.ops.scan(lambda total, step: (total + step, total + step), start, steps)[1]
        return keras.ops.moveaxis(sums, 0, 1)


@pytest.mark.slow
def test_a_crash_is_an_error_that_names_the_layer():
    inputs = keras.Input((6, 6))
    x = Sum(name="memory")(K.Dense(3, name="before")(inputs))
    text = named(keras.Model(inputs, K.Dense(2)(x)), "int8", "layer 'memory' (Sum)")
    assert "does not survive" in text and "SIGSEGV" in text
    to_tflite(small())  # The next conversion has a process again.


# Of the largest value: in int8 the six steps too, each of two rounded tensors.
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 2 * INT8)])
@pytest.mark.parametrize("layer", [K.LSTM, lambda *a, **k: K.Bidirectional(K.GRU(*a), **k)])
def test_recurrent_layers_are_unrolled(layer, precision, tolerance):
    model = recurrent(layer)
    x = data(model)
    calibration = {"representative_data": x} if precision == "int8" else {}
    content = to_tflite(model, precision=precision, **calibration)
    expected = model.predict(x, verbose=0)
    found = next(iter(run(content, x).outputs.values()))
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
    memory = model.get_layer("memory")
    assert not getattr(memory, "forward_layer", memory).unroll
    assert "WHILE" not in {o.name for o in TfliteFile(content).graph.operators}


def test_recurrent_layers_give_back_every_step_on_the_gpu():
    inputs = keras.Input((6, 6))
    x = K.GRU(8, return_sequences=True)(K.Dense(4)(inputs))
    model = keras.Model(inputs, K.Dense(3)(K.Bidirectional(K.LSTM(8, return_sequences=True))(x)))
    x = data(model, 3)
    result = run(to_tflite(model), x, accelerator="gpu", env=environment("swiftshader"))
    assert result.ok and result.fully_accelerated, result.problem
    expected = model.predict(x, verbose=0)
    [found] = result.outputs.values()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()  # roundings of float32


def test_a_loop_of_ones_own_is_for_the_cpu():
    inputs = keras.Input((6, 6))
    model = keras.Model(inputs, Sum(name="memory")(inputs))
    x = data(model, 3)
    with pytest.warns(UserWarning, match="CONTROL_FLOW.*layer 'memory'"):
        content = to_tflite(model)
    [found] = run(content, x).outputs.values()
    np.testing.assert_allclose(found, np.cumsum(x, 1), rtol=1e-5, atol=1e-6)


def test_a_refusal_leaves_the_process_alive():
    inputs = keras.Input((4, 4, 4))
    named(keras.Model(inputs, K.LayerNormalization()(inputs)), "int16x8", "LayerNormalization")
    [worker] = jobs._WORKERS
    named(keras.Model(inputs, K.LayerNormalization()(inputs)), "int16x8", "LayerNormalization")
    assert worker in jobs._WORKERS


def test_a_refusal_names_the_layer():
    inputs = keras.Input((4, 4, 4))
    x = K.LayerNormalization(name="middle")(K.Conv2D(4, 1)(inputs))
    text = named(keras.Model(inputs, K.Conv2D(2, 1)(x)), "int16x8", "'middle' (LayerNormalization)")
    assert "leave this precision out" in text


def test_a_refusal_of_a_layer_that_was_called_elsewhere_first():
    inputs, norm = keras.Input((4, 4, 4)), K.LayerNormalization(name="middle")
    norm(keras.Input((2, 2, 4)))
    named(keras.Model(inputs, norm(inputs)), "int16x8", "16x8-bit not yet supported")


def test_a_hang_is_an_error(monkeypatch):
    model = small()
    monkeypatch.setattr(jobs, "PATIENCE", 0.001)
    with pytest.raises(ValueError, match="hung, and was ended"):
        to_tflite(model)
    monkeypatch.undo()
    to_tflite(model)


def test_a_worker_that_is_gone_is_replaced():
    to_tflite(small())
    for worker in jobs._WORKERS:
        os.kill(worker._process._process.pid, signal.SIGKILL)
        time.sleep(0.5)
    to_tflite(small())


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_that_is_killed_is_told_as_want_of_memory():
    """As Linux ends what takes too much; no smaller part of the model is tried after it."""

    def kill(done, count):
        [worker] = jobs._WORKERS
        os.kill(worker._process._process.pid, signal.SIGKILL)
        batches.append(done)

    model, batches = small(), []
    with pytest.raises(ValueError, match="want of memory.*weights of 0 MB.*SIGKILL") as caught:
        to_tflite(model, precision="int8", representative_data=data(model), progress=kill)
    assert batches == list(range(1, 1 + len(batches))) and "layer" not in str(caught.value)
    to_tflite(model)


def test_large_weights_are_constants_of_the_file():
    """They are variables on the way, also in loops, and of a model that changes them."""
    inputs = keras.Input((3, 300))
    x = K.LSTM(80, name="memory")(K.Dense(300)(inputs))  # of 360 and 200 kB
    model = keras.Model(inputs, K.BatchNormalization()(K.Dense(900)(x)))
    samples = data(model, 4)
    expected = model.predict(samples, verbose=0)
    file = TfliteFile(to_tflite(model))
    model.set_weights([0 * weight for weight in model.get_weights()])
    found = next(iter(run(file.content, samples).outputs.values()))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert not {o.name for o in file.graph.operators} & {"VAR_HANDLE", "READ_VARIABLE"}


def test_an_interrupt_does_not_mix_up_answers():
    model = small()

    def interrupt(done, count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_tflite(model, precision="int8", representative_data=data(model), progress=interrupt)
    assert len(to_tflite(model)) < len(to_tflite(recurrent(K.LSTM)))


def test_threads_get_their_own_files():
    sizes = {}

    def convert(width):
        inputs = keras.Input((4, 4, 2))
        content = to_tflite(keras.Model(inputs, K.Conv2D(width, 1)(inputs)))
        sizes[width] = TfliteFile(content).graph.outputs[0].shape[-1]

    threads = [threading.Thread(target=convert, args=(width,)) for width in (3, 5, 7)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sizes == {3: 3, 5: 5, 7: 7}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("start", ["", "from converters.start import start_tensorflow as s; s()"])
def test_nothing_is_left_of_a_process_that_is_killed(start, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"{start}\nimport keras, time\nfrom converters import to_tflite\n"
        "i = keras.Input((4, 4, 2))\n"
        "to_tflite(keras.Model(i, keras.layers.Conv2D(3, 1)(i)))\nprint('done', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"done\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.kill()
    process.wait()
    for _ in range(100):
        if not any(alive(pid) for pid in children):
            return
        time.sleep(0.1)
    raise AssertionError(children)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_the_command_ends_with_one_line_and_nothing_written(tmp_path):
    inputs = keras.Input((4, 4, 4))
    model = keras.Model(inputs, K.LayerNormalization(name="norm")(inputs))
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", inputs=data(model))
    done = subprocess.run(
        [sys.executable, "-c", "from converters.cli import main; main()", "convert"]
        + [tmp_path / "model.keras", "-o", tmp_path / "out", "--precision", "int16x8"]
        + ["--calibration", tmp_path / "data.npz"]
        + ["--no-gpu"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "layer 'norm' (LayerNormalization)" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


class TestOrder:
    def numbered(self, model, **kwargs):
        graph = TfliteFile(to_tflite(model, **kwargs)).graph
        names = {tensor.index: name for name, tensor in graph.named_outputs.items()}
        ends = {tensor.index: name for name, tensor in graph.named_inputs.items()}
        return [ends[t.index] for t in graph.inputs], [names[t.index] for t in graph.outputs]

    def model(self, pack):
        images = [keras.Input((8, 8, 4), name=name) for name in ("zebra", "apple")]
        x = K.Add()(images)
        return keras.Model(
            images, pack(K.Conv2D(2, 1, name="mask_out")(x), K.Conv2D(3, 1, name="flow")(x))
        )

    def test_of_lists(self):
        model = self.model(lambda a, b: [a, b])
        assert self.numbered(model) == (["zebra", "apple"], ["mask_out", "flow"])

    def test_of_integers(self):
        model = self.model(lambda a, b: [a, b])
        x = data(small())
        found = self.numbered(
            model, precision="int8", representative_data={"zebra": x, "apple": x[::-1]}
        )
        assert found == (["zebra", "apple"], ["mask_out", "flow"])

    def test_of_dictionaries_as_they_were_given(self):
        model = self.model(lambda a, b: {"one": a, "another": b})
        assert self.numbered(model)[1] == list(model.output)

    def test_attention_comes_last(self):
        image = keras.Input((8, 8, 4), name="image")
        x = ULSAM(2, name="a_site")(image)
        outputs = [K.Conv2D(2, 1, name="z_out")(x), K.Conv2D(2, 1, name="b_out")(x)]
        model = with_attention(keras.Model(image, outputs))
        assert self.numbered(model)[1] == ["z_out", "b_out", "a_site_attention"]


DEAD = -100.0


def dead(name):
    """A small network, part of which is 0 on all data."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    live = K.Conv2D(4, 3, padding="same", name="live")(image)
    zero = K.ReLU()(K.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(DEAD))(image))
    biased = {"bias_initializer": keras.initializers.Constant(0.5)}
    outputs = {
        "alone": lambda: zero,
        "conv": lambda: K.Conv2D(3, 3, padding="same", **biased)(zero),
        "depthwise": lambda: K.DepthwiseConv2D(3, **biased)(zero),
        "transposed": lambda: K.Conv2DTranspose(3, 2, strides=2, **biased)(zero),
        "dense": lambda: K.Dense(3, **biased)(K.GlobalAveragePooling2D()(zero)),
        "flat": lambda: K.Dense(3, **biased)(K.Flatten()(zero)),
        "norm": lambda: K.BatchNormalization(beta_initializer="ones")(
            K.Conv2D(3, 3, use_bias=False)(zero)
        ),
        "add": lambda: K.Add()([live, zero]),
        "subtract": lambda: K.Subtract()([zero, live]),
        "multiply": lambda: K.Multiply()([live, zero]),
        "maximum": lambda: K.Maximum()([live, zero]),
        "concatenate": lambda: K.Conv2D(3, 1)(K.Concatenate()([live, zero])),
        "max-pool": lambda: K.Conv2D(3, 1, **biased)(K.MaxPooling2D()(zero)),
        "average-pool": lambda: K.Conv2D(3, 1, **biased)(K.AveragePooling2D(2)(zero)),
        "pad": lambda: K.Conv2D(3, 3, **biased)(K.ZeroPadding2D()(zero)),
        "resize": lambda: K.Conv2D(3, 1, **biased)(K.UpSampling2D(interpolation="bilinear")(zero)),
        "sigmoid": lambda: K.Multiply()([live, K.Activation("sigmoid")(zero)]),
        "swish": lambda: K.Add()([live, K.Activation("hard_swish")(zero)]),
        "tanh": lambda: K.Add()([live, K.Activation("tanh")(zero)]),
        "softmax": lambda: K.Softmax()(zero),
        "squeeze": lambda: K.Multiply()(
            [
                live,
                K.Conv2D(4, 1, activation="sigmoid", **biased)(
                    K.ReLU()(
                        K.Conv2D(2, 1, bias_initializer=keras.initializers.Constant(DEAD))(
                            K.GlobalAveragePooling2D(keepdims=True)(live)
                        )
                    )
                ),
            ]
        ),
        "attention": lambda: ULSAM(2)(zero),
        "after attention": lambda: K.Conv2D(3, 1, **biased)(ULSAM(2)(zero)),
        "prelu": lambda: K.Conv2D(3, 1, **biased)(K.PReLU(shared_axes=(1, 2))(zero)),
        "cropped": lambda: K.Conv2D(3, 1, **biased)(K.Cropping2D(1)(zero)),
        "normalised": lambda: K.LayerNormalization(beta_initializer="ones")(zero),
    }[name]()
    return keras.Model(image, outputs, name="dead")


CASES = [
    "alone", "conv", "depthwise", "transposed", "dense", "flat", "norm", "add", "subtract",
    "multiply", "maximum", "concatenate", "max-pool", "average-pool", "pad", "resize", "sigmoid",
    "swish", "tanh", "softmax", "squeeze", "attention", "after attention", "prelu", "cropped",
    "normalised",
]  # fmt: skip


# What 16-bit activations have no kernel for.
REFUSED = {"swish": "Activation", "prelu": "PReLU", "normalised": "LayerNormalization"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int16x8"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_zero_on_all_data_does_not_spoil_the_file(case, precision):
    """The file loads under XNNPACK, runs, and answers as Keras does; or the layer is named."""
    model = dead(case)
    x = data(model)
    if precision == "int16x8" and case in REFUSED:
        named(model, precision, f"({REFUSED[case]})")
        return
    content = to_tflite(model, precision=precision, representative_data=x)
    expected = model.predict(x, verbose=0)
    result = run(content, x)
    assert result.outcome == "ok", result.message
    difference = np.abs(result.outputs[next(iter(result.outputs))] - expected).max()
    assert difference <= INT8 * np.abs(expected).max()


def test_weights_behind_zeros_keep_their_digits():
    """They are for what may still come: a bias that does not fit makes them coarser."""
    model = dead("conv")
    content = to_tflite(model, precision="int8", representative_data=data(model))
    kernels = [
        operator.inputs[1].values()
        for operator in TfliteFile(content).graph.operators
        if operator.name == "CONV_2D"
    ]
    expected = model.layers[-1].get_weights()[0].transpose(3, 0, 1, 2)
    assert np.abs(kernels[-1] - expected).max() <= np.abs(expected).max() / 127
