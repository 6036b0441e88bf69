"""What is frozen stays frozen: every way to freeze, every way that a model goes, one training step.

After the step all weights of all layers are compared with those before: those of frozen layers must
be the same to the last bit, running statistics included, and every other layer must have moved.
"""

import keras
import numpy as np
import pytest
from keras import layers

from quantization_tools import images, randomise
from ulsam_keras import ULSAM, SubSpace, add_ulsam, quantization, with_attention

FREEZABLE = ("conv", "norm", "ulsam", "block")
LEARNING = ("stem", "head")


def base(**kwargs):
    """The layers that are frozen, in order."""
    return [
        layers.Conv2D(8, 3, padding="same", name="conv", **kwargs),
        layers.BatchNormalization(name="norm", **kwargs),
        ULSAM(2, name="ulsam", **kwargs),
        SubSpace(name="block", **kwargs),
    ]


def model_of(parts, **call):
    image = x = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 1, name="stem")(x)
    for part in parts:
        x = part(x, **call) if isinstance(part, keras.Model) else part(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return randomise(keras.Model(image, layers.Dense(3, name="head")(x)))


def by_argument():
    return model_of(base(trainable=False))


def before_build():
    parts = base()
    for part in parts:
        part.trainable = False
    return model_of(parts)


def after_build():
    model = model_of(base())
    for name in FREEZABLE:
        model.get_layer(name).trainable = False
    return model


def nested(**call):
    inner = keras.Sequential([keras.Input((6, 6, 4)), *base()], name="inner")
    inner.trainable = False
    return model_of([inner], **call)


def nested_in_inference_mode():
    return nested(training=False)


def thawed_but_for_them():
    model = model_of(base())
    model.trainable = False
    model.trainable = True
    for name in FREEZABLE:
        model.get_layer(name).trainable = False
    return model


FREEZE = (
    by_argument,
    before_build,
    after_build,
    nested,
    nested_in_inference_mode,
    thawed_but_for_them,
)


def saved(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def cloned(model, folder):
    return keras.models.clone_model(model)


def cut(model, folder):
    """The functional constructor on the same tensors."""
    return keras.Model(model.input, model.output)


def operated_on(model, folder):
    return add_ulsam(model, after=["stem"], num_splits=2)


def with_maps(model, folder):
    return with_attention(model)


def saved_with_maps(model, folder):
    return saved(with_attention(model), folder)


WAYS = (saved, cloned, cut, operated_on, with_maps, saved_with_maps)


def state(model):
    """{(layer, weight): value} of all weights."""
    found = {}
    for weight in model.weights:
        parts = weight.path.split("/")
        owner = next(part for part in parts if part.startswith((*FREEZABLE, *LEARNING)))
        found[owner, weight.path] = np.array(keras.ops.convert_to_numpy(weight))
    return found


def quantized_state(q):
    """The same of a tf_keras model, in which ULSAM is several layers."""
    found = {}
    for wrapper in q.layers:
        layer = getattr(wrapper, "layer", None)
        for weight in layer.weights if layer else ():
            name = layer.name.replace("/", "_").removeprefix("inner_").split("_")[0]
            found[name, weight.name] = weight.numpy()
    return found


def moved(before, after):
    assert before.keys() == after.keys()
    return {owner for owner, key in before if (before[owner, key] != after[owner, key]).any()}


def step(model, read=state):
    """The layers that moved in one step of plain gradient descent."""
    x = images(4, 6, 6, 3)
    model.compile("sgd", "mse", run_eagerly=True)
    y = keras.tree.map_structure(lambda x: np.ones_like(x), model.predict_on_batch(x))
    before = read(model)
    model.train_on_batch(x, y)
    return moved(before, read(model))


@pytest.mark.parametrize("freeze", FREEZE)
def test_in_the_model_itself(freeze):
    assert step(freeze()) == {*LEARNING}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("freeze", FREEZE)
def test_in_what_is_made_of_it(freeze, way, tmp_path):
    site = {"stem_ulsam"} if way is operated_on else set()
    assert step(way(freeze(), tmp_path)) == {*LEARNING} | site


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_frozen_moves(way, tmp_path):
    # The control: this test sees a weight move.
    assert step(way(model_of(base()), tmp_path)) >= {*LEARNING, *FREEZABLE}


def test_what_is_thawed_moves_all_its_weights():
    layer = ULSAM(2, trainable=False, name="ulsam")
    layer.build((None, 6, 6, 4))
    assert not layer.trainable_weights
    layer.trainable = True
    assert len(layer.trainable_weights) == 8


@pytest.mark.parametrize("freeze", FREEZE)
def test_in_quantisation_aware_training(freeze, tmp_path):
    model = freeze()
    before = state(model)
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [images(8, 6, 6, 3)])
    assert step(q, quantized_state) == {*LEARNING}
    quantization.save(q, tmp_path / "q.h5")
    q = quantization.load(tmp_path / "q.h5")
    assert step(q, quantized_state) == {*LEARNING}
    assert moved(before, state(quantization.restore(q, model))) == {*LEARNING}
    assert step(model) == {*LEARNING}


@pytest.mark.slow
def test_in_a_savedmodel_of_quantisation_aware_training(tmp_path):
    q = quantization.quantize_model(by_argument())
    quantization.calibrate(q, [images(8, 6, 6, 3)])
    quantization.save(q, tmp_path / "q")
    assert step(quantization.load(tmp_path / "q"), quantized_state) == {*LEARNING}


def test_what_is_frozen_on_the_quantised_model_itself():
    q = quantization.quantize_model(model_of(base()))
    quantization.calibrate(q, [images(8, 6, 6, 3)])
    assert step(q, quantized_state) == {*LEARNING, *FREEZABLE}
    for layer in q.layers:
        layer.trainable = layer.name in ("quant_stem", "quant_head")
    assert step(q, quantized_state) == {*LEARNING}


def test_a_part_of_ulsam_and_a_model_as_a_whole_in_quantisation_aware_training():
    model = model_of(base()[:1] + [ULSAM(2, name="ulsam")])
    model.get_layer("ulsam").depthwise_conv.trainable = False
    q = quantization.quantize_model(model)
    names = {weight.name.split("/")[0] for weight in q.trainable_weights}
    assert not any("depthwise_conv" in name for name in names)
    assert any("depthwise_norm" in name for name in names)
    model.trainable = False
    assert not quantization.quantize_model(model).trainable_weights


def test_a_weight_that_is_frozen_by_itself_stays_so_in_surgery():
    model = model_of(base())
    model.get_layer("ulsam").pointwise_kernel.trainable = False
    model.get_layer("conv").kernel.trainable = False
    before = {w.path for w in model.trainable_weights}
    new = add_ulsam(model, "stem", num_splits=2)
    assert {w.path for w in new.trainable_weights if "stem_ulsam" not in w.path} == before


def test_a_part_that_is_frozen_by_itself_stays_so_in_surgery():
    model = model_of(base())
    model.get_layer("ulsam").depthwise_norm.trainable = False
    new = add_ulsam(model, "stem", num_splits=2)

    def fixed(name):
        return [w for w in state(new) if f"/{name}/" in w[1] and w[0] == "ulsam"]

    before = state(new)
    assert step(new) >= {"ulsam", "stem_ulsam"}
    still = [key for key, value in state(new).items() if (value == before[key]).all()]
    assert len(fixed("depthwise_norm")) == 4
    assert {*fixed("depthwise_norm")} <= {*still}
    assert not {*fixed("pointwise_norm")} & {*still}


def test_a_model_that_is_frozen_as_a_whole_stays_so_in_surgery():
    inner = keras.Sequential([keras.Input((6, 6, 4)), *base()], name="inner")
    model = model_of([inner])
    model.trainable = False
    # Of no effect in the model, which is not trainable.
    model.get_layer("head").trainable = inner.get_layer("conv").trainable = True
    assert not model.trainable_weights
    new = add_ulsam(model, ["stem", "inner/conv"], num_splits=2)
    assert step(new) == {"stem_ulsam", "conv_ulsam"}


def test_a_weight_that_is_frozen_by_itself_is_refused():
    model = model_of(base())
    model.get_layer("conv").bias.trainable = False
    with pytest.raises(ValueError, match="'conv'.*'bias' is frozen by itself; freeze the whole"):
        quantization.quantize_model(model)


def test_ranges_follow_the_training_where_the_model_fixes_the_mode():
    inner = keras.Sequential([keras.Input((6, 6, 4)), *base()[:2]], name="inner")
    q = quantization.quantize_model(model_of([inner], training=False))
    quantization.calibrate(q, [images(8, 6, 6, 3)])

    def ranges():
        ends = ("_min", "_max")
        values = [v for v in q.variables if v.name.split(":")[0].endswith(ends)]
        return {v.ref(): float(v.numpy()) for v in values}

    before = ranges()
    q(5 * images(4, 6, 6, 3), training=True)
    assert len(before) == 10
    assert all(ranges()[key] != value for key, value in before.items())
