"""`add_ulsam`: ULSAM in models that one already has.

The expected outputs come from cutting the original by hand: the part before the site, the new
model's ULSAM, and the part after it.
"""

import re

import keras
import numpy as np
import pytest
from keras import layers

from ulsam_keras import ULSAM, add_ulsam, networks, sites

# Of the largest value: the same float32 kernels in the same order.
TOLERANCE = 1e-6
# What an attention must change at least, so that a forgotten one would be seen.
VISIBLE = 1e-3


def randomise(model, seed=0):
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(generator.uniform(-0.5, 0.5, weight.shape))
        elif len(weight.shape) > 1:
            # Activations keep their scale, so that what is early in a network shows at its end.
            axes = weight.shape[:2] if "depthwise" in weight.path else weight.shape[:-1]
            deviation = np.sqrt(2 / np.prod(axes))
            weight.assign(generator.normal(scale=deviation, size=weight.shape))
    return model


def values(x):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, x)


def largest_difference(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def images(model, seed=1):
    shape = (2, *model.inputs[0].shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def state(model):
    return {weight.path: values(weight) for weight in model.weights}


def nested_weights(model, path=""):
    """Weights by layer, whichever models the layer is in."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found |= nested_weights(layer, f"{path}{layer.name}/")
        elif layer.weights:
            found[path + layer.name] = [values(weight) for weight in layer.weights]
    return found


def ulsams(model):
    return [layer for layer in model.layers if isinstance(layer, ULSAM)]


def check_weights(new, original, removed=()):
    ours, theirs = nested_weights(new), nested_weights(original)
    kept = {name for name in theirs if name not in removed}
    assert {name for name in ours if "_ulsam" not in name} == kept
    for name in kept:
        for a, b in zip(ours[name], theirs[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert not {id(w) for w in new.weights} & {id(w) for w in original.weights}


def check_against_cut(original, new, site, start, end):
    """The new model is: up to tensor `start`, then the ULSAM, then on from tensor `end`."""
    randomise(site, seed=2)
    x = images(original)
    head = keras.Model(original.input, start)
    tail = keras.Model(end, original.output)
    expected = values(tail(site(head(x)), training=False))
    ours, before = values(new(x, training=False)), values(original(x, training=False))
    assert largest_difference(ours, expected) <= TOLERANCE
    assert largest_difference(ours, before) >= VISIBLE


def chain_net():
    """A network with a residual block, all names given."""
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    y = layers.Conv2D(16, 1, name="expand")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    y = layers.Conv2D(8, 1, name="project")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.Conv2D(12, 3, strides=2, name="down")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4, name="logits")(x)
    return randomise(keras.Model(inputs, x, name="net"))


def application(make):
    model = make(weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None)
    return settle(randomise(model))


def settle(model):
    """Gives the batch normalizations the statistics of the images, as training would.

    In a deep network with random ones hardly anything of the image is left at the end.
    """
    norms = [it for it in model.layers if isinstance(it, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images(model), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


APPLICATIONS = {
    "MobileNetV2": (
        lambda: application(keras.applications.MobileNetV2),
        "block_12_add",
        ("block_9_expand", "block_9_add"),
    ),
    "EfficientNetB0": (
        lambda: application(keras.applications.EfficientNetB0),
        "block5c_add",
        ("block4b_expand_conv", "block4b_add"),
    ),
    "ResNet50": (
        lambda: application(keras.applications.ResNet50),
        "conv4_block6_out",
        ("conv3_block2_1_conv", "conv3_block2_out"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_after_a_layer_of_an_application(name, tmp_path):
    make, layer, _ = APPLICATIONS[name]
    original = make()
    new = add_ulsam(original, after=[layer], num_splits=8)
    (site,) = ulsams(new)
    assert (site.name, site.num_splits) == (f"{layer}_ulsam", 8)
    check_weights(new, original)
    cut = original.get_layer(layer).output
    check_against_cut(original, new, site, cut, cut)
    check_saved(new, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_in_place_of_a_residual_block_of_an_application(name):
    make, _, (first, last) = APPLICATIONS[name]
    original = make()
    new = add_ulsam(original, replace=[(first, last)])
    (site,) = ulsams(new)
    gone = {layer.name for layer in original.layers} - {layer.name for layer in new.layers}
    assert {first, last} <= gone
    assert len({layer.rsplit("_", 1)[0].split("_")[0] for layer in gone}) == 1
    check_weights(new, original, removed=gone)
    start, end = original.get_layer(first).input, original.get_layer(last).output
    check_against_cut(original, new, site, start, end)


def check_saved(model, folder):
    model.save(folder / "model.keras")
    again = keras.models.load_model(folder / "model.keras")
    x = images(model)
    np.testing.assert_array_equal(
        values(again(x, training=False)), values(model(x, training=False))
    )


@pytest.mark.slow
def test_a_keras_hub_backbone(tmp_path):
    import keras_hub  # takes seconds to import

    original = randomise(
        keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[2, 2],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            image_shape=(64, 64, 3),
        )
    )
    new = add_ulsam(original, after=["stack1_block0_out"])
    check_weights(new, original)
    cut = original.get_layer("stack1_block0_out").output
    check_against_cut(original, new, ulsams(new)[0], cut, cut)
    check_saved(new, tmp_path)


@pytest.mark.parametrize("layer", ["stem", "relu", "add", "down"])
def test_after_any_layer(layer):
    original = chain_net()
    new = add_ulsam(original, [layer])
    check_weights(new, original)
    (site,) = ulsams(new)
    randomise(site, seed=2)
    # A twin with the ULSAM written in: the original's layers, called by hand.
    twin = {name: original.get_layer(name) for name in [layer.name for layer in original.layers]}

    def step(name, x):
        x = twin[name](x)
        return site(x) if name == layer else x

    x = stem = step("stem", keras.ops.convert_to_tensor(images(original)))
    for name in ("expand", "norm", "relu", "project"):
        x = step(name, x)
    x = step("add", [stem, x])
    for name in ("down", "pool", "logits"):
        x = step(name, x)
    assert largest_difference(values(new(images(original))), values(x)) <= TOLERANCE


def test_in_place_of_a_residual_block():
    original = chain_net()
    new = add_ulsam(original, replace=[("expand", "add")], num_splits=2)
    kept = ["image", "stem", "add_ulsam", "down", "pool", "logits"]
    assert [layer.name for layer in new.layers] == kept
    check_weights(new, original, removed=("expand", "norm", "project"))
    start, end = original.get_layer("expand").input, original.get_layer("add").output
    check_against_cut(original, new, ulsams(new)[0], start, end)


def test_a_block_with_a_projected_shortcut_and_adjacent_blocks_can_go():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 1, name="stem")(inputs)
    for block in ("a", "b"):
        y = layers.Conv2D(8, 3, padding="same", name=f"{block}_conv")(x)
        x = layers.Add(name=f"{block}_add")([layers.Conv2D(8, 1, name=f"{block}_short")(x), y])
    original = keras.Model(inputs, x)
    new = add_ulsam(original, replace=[("b_conv", "b_add"), ("a_conv", "a_add")])
    assert [layer.name for layer in new.layers[1:]] == ["stem", "a_add_ulsam", "b_add_ulsam"]


def test_after_and_replace_together_with_splits_for_each():
    new = add_ulsam(
        chain_net(),
        after=["stem", "down"],
        replace=[("expand", "add")],
        num_splits={"stem": 1, "down": 3, "add": 8},
    )
    assert {layer.name: layer.num_splits for layer in ulsams(new)} == {
        "stem_ulsam": 1,
        "add_ulsam": 8,
        "down_ulsam": 3,
    }


def test_the_original_stays_as_it_is():
    original = chain_net()
    original.compile("sgd", "mse")
    before = original.to_json(), state(original), [layer.output for layer in original.layers]
    x = images(original)
    outputs = values(original(x))
    new = add_ulsam(original, ["relu"])
    new.compile("sgd", "mse")
    new.fit(x, np.ones((2, 4)), verbose=0)
    assert original.to_json() == before[0]
    for path, value in state(original).items():
        np.testing.assert_array_equal(value, before[1][path])
    assert all(
        layer.output is output for layer, output in zip(original.layers, before[2], strict=True)
    )
    np.testing.assert_array_equal(values(original(x)), outputs)


def test_the_new_model_is_not_compiled_and_keeps_name_inputs_and_outputs():
    original = chain_net()
    original.compile("sgd", "mse")
    new = add_ulsam(original, ["stem"])
    assert not new.compiled
    assert (new.name, new.input.name, new.output_shape) == ("net", "image", (None, 4))
    inputs = keras.Input((8, 8, 4))
    unnamed = keras.Model(inputs, layers.ReLU(name="relu")(inputs))
    assert add_ulsam(unnamed, ["relu"]).layers[0].name == unnamed.layers[0].name


def test_a_new_ulsam_changes_little():
    original = chain_net()
    x = images(original)
    cut = keras.Model(original.input, original.get_layer("stem").output)
    stem = values(cut(x))
    with_ulsam = add_ulsam(cut, ["stem"])
    factor = values(with_ulsam(x)) / stem
    # 1 + a, where a is positive and averages 1 / (H * W) over the 64 positions.
    assert factor.min() > 1
    np.testing.assert_allclose(factor.mean(axis=(1, 2)), 1 + 1 / 64, rtol=1e-5)


def test_a_sequential_model(tmp_path):
    original = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(4, name="logits"),
        ]
    )
    new = add_ulsam(original, ["conv"])
    check_weights(new, original)
    cut = original.get_layer("conv").output
    check_against_cut(
        keras.Model(original.inputs[0], original.outputs[0]), new, *ulsams(new), cut, cut
    )
    check_saved(new, tmp_path)


@pytest.mark.parametrize("sequential", [False, True])
def test_inside_a_nested_model(sequential, tmp_path):
    if sequential:
        inner = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Conv2D(8, 1, name="conv"), layers.ReLU(name="act")],
            name="base",
        )
    else:
        a = keras.Input((8, 8, 3))
        b = layers.Conv2D(8, 1, name="conv")(a)
        inner = keras.Model(a, layers.ReLU(name="act")(b), name="base")
    x = keras.Input((8, 8, 3))
    y = inner(layers.Rescaling(2.0, name="scale")(x), training=False)
    original = keras.Model(x, layers.GlobalMaxPooling2D(name="pool")(y))
    new = add_ulsam(original, ["base/conv", "base"], num_splits={"base/conv": 2, "base": 4})
    names = [layer.name for layer in new.get_layer("base").layers]
    assert names[-3:] == ["conv", "conv_ulsam", "act"]
    assert new.layers[-2].name == "base_ulsam"
    check_weights(new, original)
    image = images(original)
    y = layers.Rescaling(2.0)(image)
    y = new.get_layer("base").get_layer("conv_ulsam")(inner.get_layer("conv")(y))
    y = new.get_layer("base_ulsam")(layers.ReLU()(y))
    assert largest_difference(values(new(image)), values(y).max(axis=(1, 2))) <= TOLERANCE
    check_saved(new, tmp_path)


def test_a_chain_inside_a_nested_model():
    inner = chain_net()
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, layers.Dense(2, name="out")(inner(x)))
    new = add_ulsam(original, replace=[("net/expand", "net/add")], num_splits=8)
    check_weights(new, original, removed=("net/expand", "net/norm", "net/project"))
    assert [layer.name for layer in ulsams(new.get_layer("net"))] == ["add_ulsam"]


def test_a_frozen_base_stays_frozen_and_its_ulsam_learns():
    inner = chain_net()
    inner.trainable = False
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, layers.Dense(2, name="out")(inner(x, training=False)))
    new = add_ulsam(original, ["net/stem"])
    base = new.get_layer("net")
    site = base.get_layer("stem_ulsam")
    learn = {id(weight) for weight in new.trainable_weights}
    assert learn == {id(w) for w in site.trainable_weights + new.get_layer("out").weights}
    assert site.trainable_weights


def test_a_shared_layer_shares_its_ulsam():
    shared = layers.Conv2D(8, 3, name="shared")
    one, two = keras.Input((8, 8, 3), name="a"), keras.Input((6, 6, 3), name="b")
    pool = layers.GlobalAveragePooling2D()
    original = keras.Model({"a": one, "b": two}, [pool(shared(one)), pool(shared(two))])
    new = add_ulsam(original, ["shared"])
    (site,) = ulsams(new)
    randomise(site)
    generator = np.random.default_rng(0)
    x = {
        "a": generator.normal(size=(2, 8, 8, 3)).astype("float32"),
        "b": generator.normal(size=(2, 6, 6, 3)).astype("float32"),
    }
    for ours, image in zip(new(x), x.values(), strict=True):
        assert largest_difference(values(ours), values(pool(site(shared(image))))) <= TOLERANCE


def test_several_outputs_stay_where_they_were():
    x = keras.Input((8, 8, 3))
    stem = layers.Conv2D(8, 1, name="stem")(x)
    top = layers.Conv2D(4, 1, name="top")(stem)
    original = keras.Model(x, {"features": stem, "top": top})
    new = add_ulsam(original, ["stem", "top"])
    image = images(original)
    ours = values(new(image))
    features = new.get_layer("stem_ulsam")(original.get_layer("stem")(image))
    expected = new.get_layer("top_ulsam")(original.get_layer("top")(features))
    assert set(ours) == {"features", "top"}
    assert largest_difference(ours["features"], values(features)) <= TOLERANCE
    assert largest_difference(ours["top"], values(expected)) <= TOLERANCE


def test_bare_operations_are_layers_too():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(8, 1, name="conv")(x)
    y = y * keras.ops.sigmoid(y)
    original = keras.Model(x, y)
    (name,) = (op.name for op in original.operations if op.name.startswith("multiply"))
    new = add_ulsam(original, [name])
    image = images(original)
    expected = ulsams(new)[0](original(image))
    assert largest_difference(values(new(image)), values(expected)) <= TOLERANCE


def test_state_that_is_derived_from_weights_comes_along():
    normalize = layers.Normalization(name="normalize")
    normalize.adapt(np.random.default_rng(0).normal(3.0, 2.0, (100, 8, 8, 3)))
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, layers.Conv2D(4, 1, name="conv")(normalize(x)))
    new = add_ulsam(original, ["conv"])
    image = images(original)
    expected = ulsams(new)[0](original(image))
    assert largest_difference(values(new(image)), values(expected)) <= TOLERANCE


@pytest.mark.parametrize("after", ["conv", "norm", "relu", "add"])
def test_the_data_format_follows_the_layers(after):
    inputs = keras.Input((3, 8, 9))
    x = layers.Conv2D(8, 1, data_format="channels_first", name="conv")(inputs)
    y = layers.BatchNormalization(axis=1, name="norm")(x)
    y = layers.ReLU(name="relu")(y)
    x = layers.Add(name="add")([x, y])
    new = add_ulsam(keras.Model(inputs, x), [after], num_splits=4)
    (site,) = ulsams(new)
    assert site.data_format == "channels_first"
    assert site.output.shape == (None, 8, 8, 9)
    # The height is 8 too, so reading the wrong axis would go unnoticed but for the weights.
    assert site.depthwise_norm.gamma.shape == (8,)


def test_the_data_format_can_be_given():
    inputs = keras.Input((8, 4, 12))
    model = keras.Model(inputs, layers.ReLU(name="relu")(inputs))
    assert ulsams(add_ulsam(model, ["relu"], data_format="channels_first"))[0].num_splits == 4
    channels = [
        ulsams(add_ulsam(model, ["relu"], data_format=it))[0].depthwise_norm.gamma.shape[0]
        for it in ("channels_first", "channels_last", None)
    ]
    assert channels == [8, 12, 12]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def test_the_dtype_follows_the_layers(policy):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 1, dtype=policy, name="conv")(inputs)
    (site,) = ulsams(add_ulsam(keras.Model(inputs, x), ["conv"]))
    assert site.dtype_policy.name == policy


def test_arguments_of_the_ulsam_are_handed_on():
    (site,) = ulsams(add_ulsam(chain_net(), ["stem"], momentum=0.9, epsilon=1e-3))
    assert (site.momentum, site.epsilon) == (0.9, 1e-3)


def test_a_second_ulsam_gets_a_name_of_its_own():
    once = add_ulsam(chain_net(), ["stem"])
    (first,) = ulsams(randomise(once))
    twice = add_ulsam(once, ["stem"])
    assert [layer.name for layer in ulsams(twice)] == ["stem_ulsam_1", "stem_ulsam"]
    # A layer made of layers, whose weights come along too.
    for ours, theirs in zip(twice.get_layer("stem_ulsam").weights, first.weights, strict=True):
        np.testing.assert_array_equal(values(ours), values(theirs))


def test_the_new_model_trains():
    new = add_ulsam(chain_net(), ["stem"])
    new.compile("sgd", "mse")
    before = state(new)
    new.fit(images(new), np.ones((2, 4)), verbose=0)
    changed = {path for path, value in state(new).items() if (value != before[path]).any()}
    assert any("stem_ulsam" in path for path in changed)


def multi():
    """Two inputs, a layer with two outputs, a shared layer, and a skip across a block."""

    @keras.saving.register_keras_serializable("test_add_ulsam")
    class Halves(layers.Layer):
        def call(self, x):
            return x[..., :4], x[..., 4:]

    x, other = keras.Input((8, 8, 8), name="x"), keras.Input((8, 8, 4), name="other")
    a, b = Halves(name="halves")(x)
    shared = layers.Conv2D(4, 1, name="shared")
    a, b = shared(a), shared(b)
    c = layers.ReLU(name="begin")(a)
    d = layers.ReLU(name="middle")(c)
    e = layers.Add(name="end")([d, other])
    f = layers.Add(name="late")([c, d])
    pooled = layers.GlobalAveragePooling2D(name="pooled")(layers.Add(name="sum")([b, e, f]))
    return keras.Model([x, other], pooled, name="multi")


REFUSED = [
    ({"after": ["halves"]}, "Layer 'halves' has several outputs"),
    ({"after": ["pooled"]}, "Received: layer 'pooled' with output shape (None, 4)"),
    ({"after": ["x"]}, "has no layer of this name that something could be put after"),
    ({"after": ["begn"]}, "is it 'begin'? Received: 'begn'"),
    ({"after": ["begin/relu"]}, "Layer 'begin' is not a functional or Sequential model"),
    ({"after": None}, "`after` must be layers, or names of layers, of the model. Received: after="),
    ({"after": [3]}, "Received: after=[3]"),
    ({"after": layers.ReLU(name="foreign")}, "has no such layer. Received: 'foreign'"),
    ({"replace": None}, "`replace` must be pairs"),
    ({"replace": 3}, "Received: replace=3"),
    ({"after": ["begin", "begin"]}, "Received more than once: ['begin']"),
    ({}, "`after` or `replace` must name a layer; ulsam_keras.sites(model) lists them. Received"),
    ({"after": ["begin"], "num_splits": 3}, "layer 'begin' has 4 channels, so its num_splits"),
    ({"after": ["begin"], "num_splits": {"end": 2}}, "lacks ['begin'] and names ['end'] in vain"),
    ({"after": ["begin"], "data_format": "NHWC"}, "Received: data_format='NHWC'"),
    ({"replace": [("shared", "begin")]}, "Layer 'shared' is called 2 times"),
    ({"replace": [("middle", "begin")]}, "'begin' must depend on 'middle' and its input, and"),
    ({"replace": [("begin", "end")]}, "'end' must depend on 'begin' and its input, and"),
    (
        {"replace": [("begin", "middle")]},
        "The output of 'begin', inside the chain, is also used by",
    ),
    ({"replace": [("end", "end")]}, "'end' has 2 and 'end' 1. Received: replace=[('end', 'end')]"),
    ({"replace": ["begin"]}, "`replace` must be pairs (first, last) of layers, or of names"),
    ({"replace": [("begin", "net/end")]}, "The ends of a replaced chain must lie in the same"),
    (
        {"after": ["begin"], "replace": [("begin", "late")]},
        "Layer 'begin' lies in a chain that is replaced",
    ),
]


@pytest.mark.parametrize(("kwargs", "message"), REFUSED)
def test_refused_by_name(kwargs, message):
    model = multi()
    before = model.to_json()
    if "late" in str(kwargs):
        # Here the block from `begin` to `late` is enclosed: nothing else uses `middle`.
        x = keras.Input((8, 8, 4))
        c = layers.ReLU(name="begin")(x)
        model = keras.Model(x, layers.Add(name="late")([c, layers.ReLU(name="middle")(c)]))
        before = model.to_json()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        add_ulsam(model, **kwargs)
    assert "Received" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert model.to_json() == before


def test_a_chain_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=re.escape("from (None, 8, 8, 8) to (None, 3, 3, 12)")):
        add_ulsam(chain_net(), replace=[("down", "down")])


def test_overlapping_chains_are_refused():
    with pytest.raises(ValueError, match="must not overlap.*'norm' in two of them"):
        add_ulsam(chain_net(), replace=[("expand", "add"), ("norm", "norm")])


def test_an_inner_name_gets_the_hint_where_it_is():
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, layers.Dense(2)(chain_net()(x)))
    with pytest.raises(ValueError, match="is it 'net/stem'. Received: 'stem'"):
        add_ulsam(original, ["stem"])


def test_models_without_a_graph_are_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    class OwnCall(keras.Model):
        def call(self, x):
            return -super().call(x)

    x = keras.Input((8, 8, 3))
    own_call = OwnCall(x, layers.Conv2D(4, 1, name="conv")(x))
    unbuilt = keras.Sequential([layers.Conv2D(3, 1, name="conv")])
    for model in (Subclassed(), own_call, unbuilt, "net"):
        with pytest.raises(ValueError, match="must be a functional or built Sequential model"):
            add_ulsam(model, ["conv"])


def test_layers_or_names_one_or_several():
    original = chain_net()
    get = original.get_layer
    for one in ("relu", get("relu"), ["relu"], (get("relu"),)):
        assert [it.name for it in ulsams(add_ulsam(original, one))] == ["relu_ulsam"]
    for pair in (
        ("expand", "add"),
        (get("expand"), get("add")),
        [("expand", "add")],
        [[get("expand"), "add"]],
    ):
        assert [it.name for it in ulsams(add_ulsam(original, replace=pair))] == ["add_ulsam"]
    x = keras.Input((8, 8, 3))
    outer = keras.Model(x, layers.Dense(2, name="out")(original(x)))
    new = add_ulsam(outer, original.get_layer("relu"), num_splits=np.int64(2))
    assert [it.num_splits for it in ulsams(new.get_layer("net"))] == [2]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"after": "net/relux"}, "is it 'net/relu'. Received: 'net/relux'"),
        ({"after": "net/zzzz"}, "sites.model. lists them. Received: 'net/zzzz'"),
        ({"after": "net/logits"}, "layer 'net/logits' with output shape"),
        ({"after": "net/relu", "num_splits": 3}, "ULSAM at layer 'net/relu' has 16"),
        ({"replace": ("net/relu", "net/norm")}, r"replace=\[\('net/relu', 'net/norm'\)\]"),
        ({"replace": ("net/down", "net/down")}, r"replace=\[\('net/down', 'net/down'\)\]"),
    ],
)
def test_a_nested_site_is_quoted_as_it_was_typed(kwargs, words):
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, layers.Dense(2, name="out")(chain_net()(x)))
    with pytest.raises(ValueError, match=words) as caught:
        add_ulsam(original, **kwargs)
    assert "\n" not in str(caught.value)


def test_a_layer_used_inside_and_outside_of_a_nested_model_is_refused():
    shared = layers.Conv2D(3, 1, name="shared")
    a = keras.Input((8, 8, 3))
    inner = keras.Model(a, shared(a), name="inner")
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, shared(inner(x)))
    with pytest.raises(
        ValueError, match="'inner/shared' is used in another model|as 'inner/shared'"
    ):
        add_ulsam(original, "inner")


def test_a_lambda_is_taken_along():
    scale = 3.0
    x = keras.Input((8, 8, 4))
    y = layers.Lambda(lambda x, by: scale * x + by, arguments={"by": 1.0}, name="lambda")(x)
    original = keras.Model(x, layers.ReLU(name="relu")(y))
    new = add_ulsam(original, "lambda")
    image = images(original)
    expected = layers.ReLU()(ulsams(new)[0](3.0 * image + 1.0))
    assert largest_difference(values(new(image)), values(expected)) <= TOLERANCE


def test_inputs_keep_all_that_they_say():
    x = keras.Input((8, 8, 4), dtype="uint8", name="image")
    ragged = keras.Input((None, 4), ragged=True, name="ragged", optional=True)
    y = layers.Rescaling(1 / 255, name="scaled")(x)
    new = add_ulsam(keras.Model([x, ragged], [y, layers.Identity()(ragged)]), "scaled")
    assert [it.dtype for it in new.inputs] == ["uint8", "float32"]
    assert [it.ragged for it in new.inputs] == [False, True]
    assert new.get_layer("ragged").optional


def test_the_data_format_of_norms_nested_models_and_moved_axes():
    # Sizes that every format's channel axis would divide, so that a mistake would go unnoticed.
    inputs = keras.Input((8, 12, 16))
    norm = keras.Model(inputs, layers.BatchNormalization(axis=1, name="site")(inputs))
    conv = layers.Conv2D(8, 1, data_format="channels_first", name="conv")
    inner = keras.Sequential([keras.Input((8, 12, 16)), conv, layers.ReLU()], name="site")
    permuted = layers.Permute((2, 3, 1), name="site")(conv(inputs))
    turned = keras.Model(inputs, keras.ops.transpose(conv(inputs), (0, 2, 3, 1)))
    transposed = turned.operations[-1].name
    for model, name, data_format in (
        (norm, "site", "channels_first"),
        (keras.Model(inputs, inner(inputs)), "site", "channels_first"),
        (keras.Model(inputs, permuted), "site", "channels_last"),
        (turned, transposed, "channels_last"),
    ):
        assert ulsams(add_ulsam(model, name))[0].data_format == data_format


def test_sites_are_where_a_ulsam_can_go():
    x = keras.Input((8, 8, 3))
    original = keras.Model(x, layers.Dense(2, name="out")(chain_net()(x)))
    found = {site.name: site for site in sites(original)}
    assert list(found) == [
        *(f"net/{n}" for n in ("stem", "expand", "norm", "relu", "project", "add", "down")),
    ]
    down = found["net/down"]
    assert (down.channels, down.height, down.width) == (12, 3, 3)
    assert down.num_splits == (1, 2, 3, 4, 6, 12)
    new = add_ulsam(original, [*found], num_splits=1)
    counted = {row.name: row.multiply_adds for row in networks.count(new).layers}
    for name, site in found.items():
        assert counted[f"{name}_ulsam"] == site.multiply_adds
    assert str(down) == "net/down: 3 x 3 x 12, num_splits 1, 2, 3, 4, 6, 12, 324 multiply-adds"


def test_sites_of_open_sizes_and_shared_layers():
    x = keras.Input((None, None, 4))
    conv = layers.Conv2D(4, 1, name="conv")
    model = keras.Model(x, layers.GlobalMaxPooling2D()(conv(conv(x))))
    (site,) = sites(model)
    assert (site.height, site.width, site.multiply_adds) == (None, None, None)
    x = keras.Input((5, 6, 4))
    (site,) = sites(keras.Model(x, layers.GlobalMaxPooling2D()(conv(conv(x)))))
    assert site.multiply_adds == 2 * 3 * 4 * 5 * 6
    with pytest.raises(ValueError, match="functional or built Sequential"):
        sites(keras.Sequential([layers.ReLU()]))
