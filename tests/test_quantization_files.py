"""Quantised models in files and back in Keras 3, and what importing leaves in the process."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from quantization_tools import array, convert, float_operators, images, network
from ulsam_keras import quantization

X = images(16, 16, 16, 3)
Y = np.arange(16) % 5
# Of the float model's largest output: what 8 bits in every tensor cost a network of 20 of them.
ROUNDING = 0.1


def trained(model, epochs=1, q=None):
    import tf_keras

    if q is None:
        q = quantization.quantize_model(model)
        quantization.calibrate(q, [X])
        q.compile(tf_keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    q.fit(X, Y, epochs=epochs, batch_size=4, shuffle=False, verbose=0)
    return q


@pytest.fixture(scope="module")
def q():
    return trained(network())


def values(q):
    return [array(v) for v in q.variables]


def test_restored_weights_are_the_trained_ones(q):
    model = network()
    before = array(model(X))
    assert quantization.restore(q, model) is model
    kernel = next(w for w in q.get_layer("quant_conv").weights if "kernel" in w.name)
    assert np.array_equal(array(model.get_layer("conv").kernel), array(kernel))
    after = array(model(X))
    rounded = array(q(X))
    assert np.abs(after - rounded).max() < ROUNDING
    # Training moved further than rounding does, so the comparison has seen the weights come back.
    assert np.abs(after - rounded).max() < 0.5 * np.abs(after - before).max()
    # All of them: quantised once more, with the same ranges, the restored model is the trained one.
    again = quantization.quantize_model(model)
    again.set_weights(q.get_weights())
    fresh = quantization.quantize_model(model)
    for name in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"):
        for a, b in zip(again.variables, fresh.variables, strict=True):
            if a.name.split("/")[-1].split(":")[0] == name:
                assert np.array_equal(array(a), array(b)), a.name


def test_restoring_into_a_loaded_model(q, tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = array(quantization.restore(q, model)(X))
    assert np.array_equal(array(quantization.restore(q, loaded)(X)), x)


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: network(num_splits=2), "ulsam_pointwise_conv"),
        (lambda: network(classes=7), r"shape \(16, 7\).*shape \(16, 5\)"),
        (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), "no such weight"),
        (lambda: 3, "keras.Model"),
    ],
)
def test_another_model_is_refused_and_left_alone(q, other, message):
    model = other()
    before = [array(w) for w in getattr(model, "weights", ())]
    with pytest.raises(ValueError, match=message):
        quantization.restore(q, model)
    after = getattr(model, "weights", ())
    assert all(np.array_equal(a, w) for a, w in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["q.h5", "q"])
def test_a_saved_model_is_the_same_and_trains_on(tmp_path, name):
    q = trained(network())
    quantization.save(q, tmp_path / name)
    loaded = quantization.load(tmp_path / name)
    assert [v.name.split("/")[-1] for v in loaded.variables] == [
        v.name.split("/")[-1] for v in q.variables
    ]
    assert all(np.array_equal(a, b) for a, b in zip(values(q), values(loaded), strict=True))
    assert np.array_equal(array(loaded(X)), array(q(X)))
    assert not float_operators(convert(loaded))
    model = network()
    quantization.restore(loaded, model)
    if name.endswith(".h5"):
        # The optimizer goes on too: with another state Adam takes another way.
        trained(None, q=q)
        trained(None, q=loaded)
        for a, b in zip(values(q), values(loaded), strict=True):
            assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["weights.h5", "q.weights.h5", "weights"])
def test_weights_alone_go_into_a_new_model(q, tmp_path, name):
    q.save_weights(tmp_path / name)
    other = quantization.quantize_model(network(name="network"))
    other.load_weights(tmp_path / name)
    assert all(np.array_equal(a, b) for a, b in zip(values(q), values(other), strict=True))


def test_checkpoints_keep_ranges_and_optimizer(tmp_path):
    import tensorflow as tf

    q = trained(network())
    saved = tf.train.Checkpoint(model=q, optimizer=q.optimizer).save(tmp_path / "step")
    other = trained(network())
    trained(None, epochs=2, q=other)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(saved).assert_consumed()
    assert all(np.array_equal(a, b) for a, b in zip(values(q), values(other), strict=True))
    assert other.optimizer.iterations.numpy() == q.optimizer.iterations.numpy() == 4


def test_the_format_that_does_not_load_is_refused(q, tmp_path):
    with pytest.raises(ValueError, match=".h5, or a folder"):
        quantization.save(q, tmp_path / "q.keras")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="save it as .h5"):
        quantization.load(tmp_path / "q.keras")
    with pytest.raises(OSError, match="no model at this path"):
        quantization.load(tmp_path / "q.h5")


@pytest.mark.filterwarnings("ignore:.*HDF5 file")
def test_the_scope_loads_without_help(q, tmp_path):
    import tf_keras

    q.save(tmp_path / "q.h5")
    with quantization.scope():
        loaded = tf_keras.models.load_model(tmp_path / "q.h5")
        clone = tf_keras.models.clone_model(q)
    assert np.array_equal(array(loaded(X)), array(q(X)))
    clone.set_weights(q.get_weights())
    assert np.array_equal(array(clone(X)), array(q(X)))


def test_a_model_written_in_tf_keras():
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tf_keras import layers

    annotate = tfmot.quantization.keras.quantize_annotate_layer

    def part(layer, fused=False):
        return annotate(layer, quantization.ULSAMQuantizeConfig(layer, fused=fused))

    image = tf_keras.Input((14, 14, 8))
    x = part(layers.Conv2D(8, 3, padding="same", activation=None), fused=True)(image)
    x = part(layers.ReLU())(x)
    s = part(quantization.BlockDiagonalConv2D(4), fused=True)(x)
    s = part(layers.ReLU())(s)
    a = part(quantization.SubspaceAttention(8))(s)
    x = part(layers.Add())([x, part(layers.Multiply())([x, a])])
    with quantization.scope():
        q = tfmot.quantization.keras.quantize_apply(tf_keras.Model(image, x))
    data = images(4, 14, 14, 8)
    quantization.calibrate(q, [data])
    assert not float_operators(convert(q))


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
    )


def test_importing_and_using_leave_no_trace_in_the_process():
    code = """
import os, sys
before = dict(os.environ)
import ulsam_keras
from ulsam_keras import quantization
assert not {"tf_keras", "tensorflow_model_optimization"} & {*sys.modules}, "imported"
from ulsam_keras.quantization import bridges
assert not {"tf_keras", "tensorflow_model_optimization"} & {*sys.modules}, "imported"
import keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
quantization.quantize_model(model)
assert {"tf_keras", "tensorflow_model_optimization"} <= {*sys.modules}
assert os.environ.get("TF_USE_LEGACY_KERAS") == before.get("TF_USE_LEGACY_KERAS")
import tensorflow as tf
assert tf.keras.Model is keras.Model
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    kept = python(code.replace("assert tf.keras", "0 and tf.keras"), TF_USE_LEGACY_KERAS="0")
    assert kept.returncode == 0, kept.stderr


@pytest.mark.parametrize("missing", ["tf_keras", "tensorflow_model_optimization"])
def test_without_the_extra_the_error_says_what_to_install(missing):
    result = python(f"""
import sys
sys.modules[{missing!r}] = None
import keras
from ulsam_keras import quantization
try:
    quantization.quantize_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
except ImportError as error:
    print(error)
""")
    assert 'pip install "ulsam-keras[qat]"' in result.stdout, result.stderr
    assert missing in result.stdout
