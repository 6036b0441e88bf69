"""What runs a file in a verification: how much of it, how long, and what is not tried again."""

import keras
import numpy as np
import pytest

import gpu_drivers
from converters import to_tflite
from converters.runtime import RunResult
from converters.tflite.flatbuffer import TfliteFile
from converters.verify import targets
from converters.verify.targets import CPU, GPU, Runner, multiply_adds

XNNPACK, BUILT_IN, REFERENCE = CPU


def file_of(*layers, shape=(8, 8, 4)):
    return TfliteFile(to_tflite(keras.Sequential([keras.Input(shape), *layers])))


L = keras.layers
COUNTS = {
    # By hand: places of the output times the values that are summed for each.
    "conv": (L.Conv2D(5, 3), 6 * 6 * 5 * 3 * 3 * 4),
    "strided": (L.Conv2D(5, 3, strides=2, padding="same"), 4 * 4 * 5 * 3 * 3 * 4),
    "depthwise": (L.DepthwiseConv2D(3), 6 * 6 * 4 * 3 * 3),
    "transposed": (L.Conv2DTranspose(5, 2, strides=2), 8 * 8 * 4 * 2 * 2 * 5),
    "dense": (L.Dense(7), 8 * 8 * 7 * 4),
    "nothing": (L.ReLU(), 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_multiply_adds(name):
    layer, count = COUNTS[name]
    assert multiply_adds(file_of(layer).graph) == count


def test_the_network_of_the_paper_has_the_count_of_the_paper():
    from ulsam_keras.networks import MobileNetV1
    from ulsam_keras.networks.counts import count

    model = MobileNetV1((64, 64, 3), alpha=0.25, classes=10)
    found = multiply_adds(TfliteFile(to_tflite(model)).graph)
    # What the project counts layer by layer, the classifier included.
    assert found == pytest.approx(count(model).multiply_adds, rel=0.01)


def test_slow_kernels_get_what_they_can_do_in_the_time():
    file = file_of(L.Conv2D(64, 3), L.Conv2D(64, 3), shape=(32, 32, 16))
    seconds = multiply_adds(file.graph) / targets._REFERENCE_SPEED
    assert Runner(timeout=1e6).samples(file, REFERENCE, 100) == REFERENCE.samples
    assert Runner(timeout=2 * 1.5 * seconds).samples(file, REFERENCE, 100) == 1
    assert Runner(timeout=seconds).samples(file, REFERENCE, 100) == 0
    assert Runner(timeout=seconds).samples(file, XNNPACK, 100) == 100
    assert Runner(timeout=seconds).samples(file, BUILT_IN, 100) == BUILT_IN.samples


def test_a_target_that_cannot_do_it_in_the_time_is_said_to_be_left_out(
    command, tmp_path, monkeypatch
):
    model = keras.Sequential([keras.Input((8, 8, 4)), L.Conv2D(4, 3)])
    model.save(tmp_path / "m.keras")
    (tmp_path / "m.tflite").write_bytes(to_tflite(model))
    # As slow as if it were a network of a trillion multiply-adds.
    monkeypatch.setattr(targets, "_REFERENCE_SPEED", 1.0)
    status, text, _ = command("verify", tmp_path / "m.tflite", tmp_path / "m.keras", "--no-gpu")
    text = " ".join(text.split())
    assert "reference was not run: one sample would last beyond the time limit" in text, text
    assert status == 0


def test_a_gpu_that_hung_is_not_asked_again(monkeypatch):
    asked = []

    def hang(content, inputs, **options):
        asked.append(options["accelerator"])
        if options["accelerator"] == "gpu":
            return RunResult("timed_out", message="killed")
        return RunResult("ok", outputs={"y": np.zeros((1, 1), "float32")})

    monkeypatch.setattr(targets, "run", hang)
    file, runner = file_of(L.ReLU()), Runner(timeout=3)
    x = {"input": np.zeros((1, 8, 8, 4), "float32")}
    for _ in range(3):
        for target in (GPU[0], GPU[1], XNNPACK):
            result = runner.run(file, x, target)
            assert result.ok == (target is XNNPACK)
    assert asked.count("gpu") == 1 and asked.count("cpu") == 3


def test_any_count_of_samples_in_whole_batches():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(batch_shape=(4, 6, 6, 2)), L.Conv2D(3, 3)])
    file = TfliteFile(to_tflite(model))
    x = np.random.default_rng(0).normal(size=(6, 6, 6, 2)).astype("float32")
    [(name, tensor)] = file.graph.named_inputs.items()
    result = Runner().run(file, {name: x}, XNNPACK)
    [y] = result.outputs.values()
    wanted = np.concatenate([model(x[:4]), model(np.concatenate([x[4:], x[:2]]))])[:6]
    assert tensor.shape[0] == 4 and y.shape == wanted.shape
    assert np.abs(y - wanted).max() <= 1e-5 * np.abs(wanted).max()


CUSTOM = """
import keras

@keras.saving.register_keras_serializable("own")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_custom_layers_are_imported_first(command, tmp_path, monkeypatch):
    gpu_drivers.hide(monkeypatch)
    names = {}
    exec(CUSTOM, names)
    inputs = keras.Input((4, 4, 2))
    keras.Model(inputs, names["Twice"]()(inputs)).save(tmp_path / "m.keras")
    keras.saving.get_custom_objects().pop("own>Twice")
    (tmp_path / "own.py").write_text(CUSTOM)
    arguments = ("convert", tmp_path / "m.keras", "-o", tmp_path / "out")
    status, _, err = command(*arguments)
    assert status == 2 and "--import" in err
    status, text, _ = command(*arguments, "--import", tmp_path / "own.py")
    assert status == 0, text
