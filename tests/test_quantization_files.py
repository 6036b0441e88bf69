"""Quantised models in files and back in Keras 3, and what importing leaves in the process."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from quantization_tools import array, convert, float_operators, images, network, relative_difference
from ulsam_keras import quantization

X = images(16, 16, 16, 3)
Y = np.arange(16) % 5
# Of the float model's largest output: what 8 bits in every tensor cost a network of 20 of them.
ROUNDING = 0.1
# Of a loss: float32 in sums whose order the number of threads changes.
SAME = 1e-4


def prepared(model):
    import tf_keras

    q = quantization.quantize_model(model)
    quantization.calibrate(q, [X])
    q.compile(tf_keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    return q


def fit(q, epochs=1, **kwargs):
    """The loss of each epoch."""
    history = q.fit(X, Y, epochs=epochs, batch_size=4, shuffle=False, verbose=0, **kwargs)
    return history.history["loss"]


@pytest.fixture(scope="module")
def q():
    q = prepared(network())
    fit(q)
    return q


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
    assert relative_difference(quantization.to_tf_keras(model)(X), after) <= 1e-5
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
def test_a_saved_model_is_the_same(q, tmp_path, name):
    quantization.save(q, tmp_path / name)
    loaded = quantization.load(tmp_path / name)
    assert [v.name.split("/")[-1] for v in loaded.variables] == [
        v.name.split("/")[-1] for v in q.variables
    ]
    assert all(np.array_equal(a, b) for a, b in zip(values(q), values(loaded), strict=True))
    assert np.array_equal(array(loaded(X)), array(q(X)))
    assert not float_operators(convert(loaded))
    model = network()
    assert np.array_equal(
        array(quantization.restore(loaded, model)(X)), array(quantization.restore(q, model)(X))
    )


@pytest.mark.filterwarnings("ignore:.*HDF5 file")
def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(tmp_path):
    import tf_keras

    q = prepared(network())
    whole = fit(q, 3, callbacks=[tf_keras.callbacks.ModelCheckpoint(str(tmp_path / "q{epoch}.h5"))])
    resumed = quantization.load(tmp_path / "q1.h5")
    assert fit(resumed, 2) == pytest.approx(whole[1:], rel=SAME)
    for a, b in zip(values(q), values(resumed), strict=True):
        assert np.allclose(a, b, rtol=100 * SAME, atol=SAME)
    # It is the optimizer's state and the ranges that do it: without them the way is another.
    fresh = quantization.load(tmp_path / "q1.h5")
    fresh.compile(tf_keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    assert fit(fresh, 2) != pytest.approx(whole[1:], rel=100 * SAME)


@pytest.mark.parametrize("name", ["weights.h5", "q.weights.h5", "weights"])
def test_weights_alone_go_into_a_new_model(q, tmp_path, name):
    q.save_weights(tmp_path / name)
    other = quantization.quantize_model(network(name="network"))
    other.load_weights(tmp_path / name)
    assert all(np.array_equal(a, b) for a, b in zip(values(q), values(other), strict=True))


def test_training_goes_on_from_a_checkpoint_in_a_new_model(tmp_path):
    import tensorflow as tf
    import tf_keras

    q = prepared(network())
    fit(q)
    saved = tf.train.Checkpoint(model=q, optimizer=q.optimizer).save(tmp_path / "step")
    rest = fit(q, 2)
    other = quantization.quantize_model(network())
    other.compile(tf_keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(saved)
    assert fit(other, 2) == pytest.approx(rest, rel=SAME)
    assert other.optimizer.iterations.numpy() == q.optimizer.iterations.numpy() == 12


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
    result = python("""
import os, sys
extra = {"tf_keras", "tensorflow_model_optimization"}
before = dict(os.environ)
import ulsam_keras
from ulsam_keras import quantization
assert not extra & {*sys.modules} and dict(os.environ) == before, "by importing the package"
from ulsam_keras.quantization import bridges
assert not extra & {*sys.modules}, "by a name that needs none of it"

import keras
before = dict(os.environ)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
for name in sorted({*extra, "tensorflow"}):
    kept = sys.modules.pop(name, None)
    sys.modules[name] = None
    try:
        quantization.quantize_model(model)
    except ImportError as error:
        print(error)
    del sys.modules[name]
    if kept is not None:
        sys.modules[name] = kept

quantization.quantize_model(model)
assert extra <= {*sys.modules}
assert dict(os.environ) == before, {*os.environ.items()} ^ {*before.items()}
import tensorflow as tf
assert tf.keras.Model is keras.Model
""")
    assert result.returncode == 0, result.stderr
    missing = ("tensorflow", "tensorflow_model_optimization", "tf_keras")
    for line, name in zip(result.stdout.splitlines(), missing, strict=True):
        assert 'pip install "ulsam-keras[qat]"' in line
        assert name in line


def test_the_choice_of_a_keras_for_tensorflow_is_put_back():
    result = python(
        """
import os
from ulsam_keras.quantization import scope
with scope():
    pass
assert os.environ["TF_USE_LEGACY_KERAS"] == "0"
""",
        TF_USE_LEGACY_KERAS="0",
    )
    assert result.returncode == 0, result.stderr
