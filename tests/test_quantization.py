"""Quantisation-aware training: what is rounded, ranges from data, and the int8 model.

The oracles are NumPy for the rounding itself, and LiteRT's int8 kernels for the whole.
"""

import keras
import numpy as np
import pytest
from keras import layers

from quantization_tools import (
    array,
    convert,
    float_operators,
    images,
    network,
    operators,
    randomise,
    relative_difference,
    run,
)
from ulsam_keras import ULSAM, quantization

# Steps of an int8 output that the kernels' integer arithmetic may differ by from the simulation's
# float32: a value next to the middle between two steps falls to either side, here and in each of
# the layers before.
STEPS = 2
# The step of a softmax output.
STEP = 1 / 256
FORMS = ("log_softmax", "softmax", "float")


def quantized(model, count=16, **kwargs):
    q = quantization.quantize_model(model, **kwargs)
    quantization.calibrate(q, [images(count, *model.inputs[0].shape[1:])])
    return q


def train(q, epochs=1, rate=1e-3):
    """Losses of learning to tell which channels of an image are the brightest."""
    import tf_keras

    x = images(64, *q.inputs[0].shape[1:], seed=3)
    y = np.arange(64) % x.shape[-1]
    x[np.arange(64), ..., y] += 2
    q.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return q.fit(x, y, batch_size=8, epochs=epochs, verbose=0).history["loss"]


def ranges(q):
    return {
        f"{layer.name.removeprefix('quant_')}/{v.name.split('/')[-1]}": float(v.numpy())
        for layer in q.layers
        for v in layer.weights
        if v.name.split(":")[0][-4:] in ("_min", "_max")
    }


def block(size, num_splits=4, channels=16):
    image = keras.Input((size, size, channels), name="image")
    return randomise(keras.Model(image, ULSAM(num_splits, name="ulsam")(image)))


def layer_output(q, name):
    import tf_keras

    return tf_keras.Model(q.input, q.get_layer(name).output)


@pytest.mark.parametrize("shape, axis", [((3, 3, 4, 5), 3), ((3, 3, 6, 1), 2), ((7, 5), None)])
def test_weights_are_rounded_over_their_own_ranges(shape, axis):
    from ulsam_keras.quantization.quantizers import WeightQuantizer

    weight = images(1, *shape)[0] * np.geomspace(0.01, 10, shape[axis or 0]).reshape(
        [-1 if n == (axis or 0) else 1 for n in range(len(shape))]
    ).astype("float32")
    others = None if axis is None else tuple(n for n in range(len(shape)) if n != axis)
    scale = np.abs(weight).max(others, keepdims=True) / 127
    expected = np.round(weight / scale) * scale
    rounded = array(WeightQuantizer(axis)(weight, True, {}))
    # A tie may go either way, for one step; the rest agrees to float32's rounding.
    assert np.mean(np.abs(rounded - expected) > 1e-5 * np.abs(expected).max()) < 0.01
    assert np.abs(rounded - weight).max() <= (scale / 2 * 1.001).max()
    if axis is not None:
        assert (np.abs(rounded - weight) <= scale / 2 * 1.001).all()


@pytest.mark.parametrize(
    "form", [FORMS[0], *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[1:])]
)
def test_the_int8_model_computes_what_training_sees(form):
    model = network()
    q = quantized(model, attention=form)
    train(q)
    tflite = convert(q)
    x = images(32, 16, 16, 3, seed=9)
    ours, theirs = run(tflite, x), array(q(x, training=False))
    assert np.abs(ours - theirs).max() <= STEPS * STEP
    assert np.mean(ours.argmax(-1) == theirs.argmax(-1)) >= 0.95
    # Only the form that says so leaves float operators, and only those of its softmax.
    allowed = {"REDUCE_MAX", "SUB", "EXP", "SUM", "DIV"} if form == "float" else set()
    assert {*float_operators(tflite)} <= allowed
    # And it still is the model: the outputs are not all the same.
    assert np.ptp(ours, 0).max() > 8 * STEP


def test_norms_and_relus_are_folded_into_every_convolution():
    names = [name for name, _ in operators(convert(quantized(network())))]
    assert names.count("CONV_2D") == 3  # the network's own, ULSAM's scores and its spreading
    assert names.count("DEPTHWISE_CONV_2D") == 3  # the network's, ULSAM's, the lone norm
    assert names.count("MUL") == 2  # the attention, silu
    assert names.count("ADD") == 2  # the residual, ULSAM's
    assert not {"RELU", "RELU6", "SUB", "SHAPE", "PACK"} & {*names}


def test_nothing_is_rounded_within_an_operator():
    # One range for each tensor that the int8 model holds and that no kernel fixes.
    named = {name.split("/")[0] for name in ranges(quantized(network()))}
    assert named == {
        "image_range",
        "conv_relu",
        "depthwise_norm",
        "residual",
        "ulsam_depthwise_relu",
        "ulsam_pointwise_relu",
        "ulsam_attention",
        "ulsam_attended",
        "ulsam",
        "lone_norm",
        "silu",
        "mean",
        "classifier_linear",
    }


def test_kernels_have_a_scale_for_each_channel():
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=convert(quantized(network())))
    scales = {
        tuple(int(n) for n in d["shape"]): len(d["quantization_parameters"]["scales"])
        for d in interpreter.get_tensor_details()
    }
    # Of the stem, the depthwise convolution, ULSAM's scores and spreading, and the classifier.
    assert scales[16, 3, 3, 3] == 16
    assert scales[1, 3, 3, 16] == 16
    assert scales[4, 1, 1, 16] == 4
    assert scales[16, 1, 1, 4] == 16
    assert scales[5, 16] == 1


def test_a_layer_may_have_the_name_of_a_range():
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 1, name="image_range")(image)
    x = layers.BatchNormalization(name="norm")(layers.ReLU(name="relu")(x), training=False)
    x = layers.Conv2D(4, 1, name="norm_output_range")(x)
    model = randomise(keras.Model(image, layers.ReLU(name="quant_image_range")(x)))
    q = quantized(model)
    x = images(4, 8, 8, 4)
    assert relative_difference(q(x), model(x)) < 0.1  # 8 bits of each tensor on the way
    before = [array(w) for w in model.weights]
    quantization.restore(q, model)
    assert all(np.array_equal(a, w) for a, w in zip(before, model.weights, strict=True))


def test_layers_of_nested_models_go_by_their_path():
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 1, name="c")], name="base")
    image = keras.Input((8, 8, 4), name="image")
    model = randomise(keras.Model(image, layers.Conv2D(4, 3, name="last")(inner(image))))
    q = quantized(model, quantize={"base/c": False})
    assert [name for name in ranges(q) if name.startswith("base")] == []
    with pytest.raises(ValueError, match=r"no such layers. Received: \['base_c'\]"):
        quantization.quantize_model(model, quantize={"base_c": False})


def test_images_of_bytes_are_rounded_as_floats():
    image = keras.Input((8, 8, 3), dtype="uint8", name="image")
    x = layers.Conv2D(4, 3, name="conv")(layers.Rescaling(1 / 127.5, -1)(image))
    model = randomise(keras.Model(image, x))
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [x])
    tflite = convert(q)
    assert {*float_operators(tflite)} <= {"CAST"}
    step = np.ptp(array(q(x))) / 255
    assert np.abs(run(tflite, x) - array(q(x))).max() <= STEPS * step


def test_a_layer_that_cannot_be_made_again_is_named():
    import tf_keras

    class Mine(layers.Identity):
        pass

    class Bare(tf_keras.layers.Layer):
        def __init__(self, factor, name):
            super().__init__(name=name)

    @quantization.bridges(Mine)
    def bridge(layer, inputs, emit):
        return emit(Bare(object(), name=emit.name()), inputs)

    image = keras.Input((8, 8, 4))
    with pytest.raises(ValueError, match="'mine'.*give Bare a get_config.*Received: ") as caught:
        quantization.quantize_model(keras.Model(image, Mine(name="mine")(image)))
    assert "\n" not in str(caught.value)


def test_a_layer_of_ones_own_has_a_recipe_of_its_own():
    import tf_keras

    class Gain(layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="ones")

        def call(self, x):
            return x * self.gain

    class TheirGain(tf_keras.layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight("gain", (shape[-1],))

        def call(self, x):
            return x * self.gain

        def get_config(self):
            return super().get_config()

    def bridge(layer, inputs, emit):
        return emit(TheirGain(name=emit.name()), inputs, weights={"gain": layer.gain})

    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 3, use_bias=False)(image)
    model = keras.Model(image, layers.ReLU()(Gain(name="mine")(x)))
    gain = np.float32([0.111, 0.777, 0.345, 1.0])
    model.get_layer("mine").gain.assign(gain)
    fused = quantization.Recipe(role="norm")
    rounded = quantization.Recipe(weights=(("gain", None),), output=None)
    names = {}
    for recipe in None, rounded, fused:
        quantization.bridges(Gain, recipe=recipe)(bridge)
        q = quantization.quantize_model(model)
        layer = q.get_layer("quant_mine")
        config = layer.quantize_config
        names[recipe] = (config.weights, config.output, len(layer.weights))
        conv = q.get_layer("quant_" + model.layers[1].name)
        assert (conv.quantize_config.output is None) == (recipe is fused)
        if recipe is rounded:
            (quantizer,) = (each for _, each in config.get_weights_and_quantizers(layer.layer))
            assert type(quantizer).__name__ == "WeightQuantizer"
            x = np.ones((1, 2, 2, 4), "float32")
            steps = array(layer(x))[0, 0, 0] * 127
            np.testing.assert_allclose(steps, np.round(gain * 127), rtol=1e-5)
    assert names[None][:2] == ([], "moving") and names[rounded][0] == [("gain", None)]
    with pytest.raises(ValueError, match="`recipe` must be .*Received: recipe='relu'"):
        quantization.bridges(Gain, recipe="relu")


@pytest.mark.parametrize("change", ["quantize", "LoRA"])
def test_restore_touches_nothing_of_a_model_that_holds_more_than_float_weights(change):
    q = quantized(network())
    target = randomise(network(), seed=8)
    if change == "quantize":
        target.get_layer("classifier").quantize("int8")
    else:
        target.get_layer("classifier").enable_lora(2)
    before = [array(w) for w in target.weights]
    with pytest.raises(ValueError, match="'classifier' .Dense.*before quantize"):
        quantization.restore(q, target)
    assert all(np.array_equal(a, w) for a, w in zip(before, target.weights, strict=True))


def test_norms_without_a_convolution_keep_a_constant_each():
    # Two equal constants are one to the converter: what it folds into the one, the other has too.
    image = keras.Input((8, 8, 6), name="image")
    x = layers.BatchNormalization(name="one")(image)
    y = layers.BatchNormalization(name="two")(layers.ReLU(name="relu")(x))
    model = randomise(keras.Model(image, layers.Concatenate(name="both")([x, y])))
    q = quantized(model)
    x = images(4, 8, 8, 6, seed=2)
    tflite = convert(q)
    assert not float_operators(tflite)
    step = np.ptp(array(q(x))) / 255
    assert np.abs(run(tflite, x) - array(q(x))).max() <= STEPS * 1.1 * step


def joined():
    """What CONCATENATION and AVERAGE_POOL_2D give one scale, read by others too."""
    image = keras.Input((8, 8, 4), name="image")
    a = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(image)
    b = layers.Conv2D(8, 1, name="b")(image)
    both = layers.Concatenate(name="both")([a, b])
    pooled = [layers.AveragePooling2D(2)(x) for x in (both, a, layers.ReLU(name="relu")(b))]
    narrow = layers.Conv2D(4, 1, activation="sigmoid", name="narrow")(pooled[0])
    model = randomise(keras.Model(image, layers.Concatenate(name="all")([*pooled, narrow])))
    model.get_layer("b").kernel.assign(5 * model.get_layer("b").kernel)
    return model


def test_what_is_joined_has_one_range():
    q = quantized(joined())
    assert {name.split("/")[0] for name in ranges(q)} == {
        "image_range",
        "narrow_linear",
        "both_range",
    }
    tflite = convert(q)
    # The input, and the sigmoid, whose own range is fixed.
    assert [name for name, _ in operators(tflite)].count("QUANTIZE") == 2
    x = images(8, 8, 8, 4, seed=2)
    y = array(q(x))
    span = ranges(q)["both_range/output_max:0"] - ranges(q)["both_range/output_min:0"]
    assert np.abs(run(tflite, x) - y).max() <= 1.01 * span / 255


def test_a_shared_range_follows_all_that_it_is_for():
    q = quantized(joined())
    before = {end: ranges(q)[f"both_range/output_{end}:0"] for end in ("min", "max")}
    kernel = next(w for w in q.get_layer("quant_b").weights if "kernel" in w.name)
    kernel.assign(3 * kernel)
    x = images(8, 8, 8, 4, seed=2)
    values = [array(layer_output(q, f"quant_{n}")(x)) for n in ("a", "b", "relu", "narrow")]
    q(x, training=True)
    for end, furthest in ("min", min(v.min() for v in values)), ("max", max(map(np.max, values))):
        moved = ranges(q)[f"both_range/output_{end}:0"] - before[end]
        # A thousandth of the way to what this batch shows.
        assert moved == pytest.approx(0.001 * (furthest - before[end]), rel=0.1)


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
@pytest.mark.parametrize("num_splits", [1, 4, 16])
@pytest.mark.parametrize("size", [7, 28])
def test_the_attention_of_the_int8_block_is_the_simulated_one(size, num_splits):
    model = block(size, num_splits)
    q = quantized(model)
    x = images(2, size, size, 16, seed=4)
    attention = layer_output(q, "quant_ulsam_attention")(x, training=False)
    tflite = convert(q)
    assert not float_operators(tflite)
    a = attention_of(tflite, x)
    # The kernels know log-softmax to one of its steps, 1/16: the exponential to a factor.
    assert np.abs(a - array(attention)).max() <= array(attention).max() * (np.exp(1 / 16) - 1)
    # It is alive, everywhere that it is in float.
    float_attention = model.get_layer("ulsam")(x, return_attention_scores=True)[1]
    spread = np.repeat(array(float_attention), 16 // num_splits, -1)
    signal, noise = (spread**2).sum(), ((a - spread) ** 2).sum()
    assert 10 * np.log10(signal / noise) >= 25
    assert np.mean(a == 0) <= 0.01


def attention_of(tflite, x):
    """The attention, dequantised: what the first MUL multiplies the image by."""
    from ai_edge_litert.interpreter import Interpreter

    from converters.tflite.flatbuffer import read_graphs

    [graph] = read_graphs(tflite)
    [multiply] = [o for o in graph.operators if o.name == "MUL"]
    name = next(t.name for t in multiply.inputs if t in {*graph.operators[-4].outputs})
    interpreter = Interpreter(model_content=tflite, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    [detail] = [d for d in interpreter.get_tensor_details() if d["name"] == name]
    scale, zero = detail["quantization"]
    results = []
    for sample in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        raw = interpreter.get_tensor(detail["index"])[0].astype("float32")
        results.append((raw - zero) * scale)
    return np.stack(results)


def test_a_plain_softmax_dies_on_large_maps_and_the_simulation_says_so():
    # Its int8 kernel writes in steps of 1/256; flat attention on 56 x 56 positions is 1/3136.
    q = quantized(block(56), attention="softmax")
    attention = layer_output(q, "quant_ulsam_attention")(images(1, 56, 56, 16), training=False)
    assert np.mean(array(attention) == 0) > 0.9
    alive = layer_output(quantized(block(56)), "quant_ulsam_attention")
    assert np.mean(array(alive(images(1, 56, 56, 16), training=False)) == 0) < 0.01


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_inputs_and_outputs(io):
    q = quantized(network())
    tflite = convert(q, io=io)
    assert all(not floats for _, floats in operators(tflite))


def test_names_shapes_and_batch_of_the_inference_function():
    q = quantized(network())
    inference = quantization.inference_function(q, batch_size=3)
    assert inference.input_shapes == {"image": (3, 16, 16, 3)}
    assert inference.output_names == ["classifier"]


def test_several_inputs_and_outputs():
    a, b = keras.Input((8, 8, 4), name="left"), keras.Input((8, 8, 4), name="right")
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = layers.Concatenate(name="joined")([shared(a), layers.ReLU()(shared(b))])
    outputs = {
        "maps": ULSAM(2, name="ulsam")(x),
        "vector": layers.Dense(3, name="dense")(layers.GlobalMaxPooling2D()(x)),
    }
    model = randomise(keras.Model({"left": a, "right": b}, outputs))
    data = {"left": images(8, 8, 8, 4), "right": images(8, 8, 8, 4, seed=7, scale=3)}
    q = quantization.quantize_model(model)
    assert quantization.calibrate(q, [data]) == 8
    ours, theirs = q(data), model(data)
    for name in outputs:
        # 8 bits of each tensor on the way.
        assert relative_difference(ours[name], theirs[name]) < 0.1
    inference = quantization.inference_function(q)
    assert inference.input_shapes == {"left": (1, 8, 8, 4), "right": (1, 8, 8, 4)}
    assert inference.output_names == ["maps", "vector"]
    assert not float_operators(convert(q))


def test_quantisation_costs_little_at_first_and_training_goes_down():
    model = network()
    q = quantized(model)
    x = images(32, 16, 16, 3, seed=9)
    assert np.abs(array(q(x)) - array(model(x))).max() < 0.05
    losses = train(q, epochs=4, rate=0.01)
    assert losses[-1] < 0.5 * losses[0]


def test_every_weight_gets_a_gradient():
    import tensorflow as tf

    q = quantized(network())
    x = images(4, 16, 16, 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(q(x, training=True) ** 2)
    gradients = tape.gradient(loss, q.trainable_weights)
    assert len(gradients) == len(network().trainable_weights)
    for weight, gradient in zip(q.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.name
        # A bias before a norm has no effect in training; that of the scores' norm has none on a
        # softmax, but for the ReLU between.
        if "bias" not in weight.name:
            assert np.abs(array(gradient)).max() > 0, weight.name


def test_layers_left_out_stay_float():
    model = network()
    q = quantized(model, quantize={"classifier": False})
    # The classifier, and the softmax that reads it.
    assert {*float_operators(convert(q))} <= {"FULLY_CONNECTED", "SOFTMAX"}
    assert "FULLY_CONNECTED" in float_operators(convert(q))
    q = quantized(model, quantize={"conv": False})
    floats = float_operators(convert(q))
    assert floats[0] == "CONV_2D" and "FULLY_CONNECTED" not in floats
    kernel = images(1, 16, 16, 3)
    relu = keras.Model(model.input, model.get_layer("conv_relu").output)
    assert (
        relative_difference(
            layer_output(q, "quant_conv_relu")(kernel, training=False),
            relu(layer_output(q, "quant_image_range")(kernel, training=False)),
        )
        <= 1e-5
    )
    with pytest.raises(ValueError, match=r"no such layers. Received: \['clasifier'\]"):
        quantization.quantize_model(network(), quantize={"clasifier": False})


def test_the_model_to_quantise_is_left_as_it_was():
    model = network()
    before = [array(w) for w in model.weights]
    train(quantized(model))
    assert all(np.array_equal(a, w) for a, w in zip(before, model.weights, strict=True))


# Calibration


def test_ranges_are_those_of_the_data():
    model = network()
    q = quantization.quantize_model(model)
    assert {*ranges(q).values()} == {-6.0, 6.0}
    batches = [images(8, 16, 16, 3), images(4, 16, 16, 3, seed=5, scale=2)]
    assert quantization.calibrate(q, batches) == 12
    data = np.concatenate(batches)
    inner = keras.Model(model.input, [model.get_layer(n).output for n in ("conv_relu", "mean")])
    relu, mean = (array(x) for x in inner(data))
    expected = {
        "image_range": (data.min(), data.max()),
        "conv_relu": (0, relu.max()),
        "mean": (mean.min(), mean.max()),
    }
    for name, (low, high) in expected.items():
        found = ranges(q)
        # Weights are rounded on the way, activations are not.
        for end, value in ("min", min(low, 0)), ("max", max(high, 0)):
            assert abs(found[f"{name}/output_{end}:0"] - value) <= 0.03 * (high - low)
    # In inference mode: statistics did not move.
    norm = q.get_layer("quant_conv_norm").layer
    assert np.array_equal(norm.moving_mean, model.get_layer("conv_norm").moving_mean)


def test_calibration_takes_what_fit_takes():
    import tensorflow as tf

    x = images(8, 16, 16, 3)
    found = []
    q = quantization.quantize_model(network())
    for batches in (
        [x],
        iter([x[:3], x[3:]]),
        [(x, np.zeros(8))],
        tf.data.Dataset.from_tensor_slices((x, np.zeros(8))).batch(4),
    ):
        assert quantization.calibrate(q, batches) == 8
        found.append([*ranges(q).values()])
    for other in found[1:]:
        assert np.allclose(found[0], other, rtol=1e-5)


def test_calibration_takes_as_many_steps_as_it_is_told(capsys):
    import tensorflow as tf

    x = images(8, 16, 16, 3)
    q = quantization.quantize_model(network())
    endless = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    with pytest.raises(ValueError, match="`batches` has no end.*steps.*Received: "):
        quantization.calibrate(q, endless)
    with pytest.raises(ValueError, match="Received: steps=0"):
        quantization.calibrate(q, endless, steps=0)
    assert quantization.calibrate(q, endless, steps=np.int64(3)) == 12
    assert "3/3" in capsys.readouterr().out
    assert quantization.calibrate(q, iter([x, x, x]), steps=2, verbose=0) == 16
    assert capsys.readouterr().out == ""


def test_a_dead_activation_gets_a_range_that_converts():
    model = network()
    model.get_layer("conv_norm").beta.assign(np.full(16, -100.0))
    q = quantized(model)
    assert np.isfinite(run(convert(q), images(2, 16, 16, 3))).all()


GOOD = images(2, 16, 16, 3)
BAD_BATCHES = {
    "none": ([], "at least one batch"),
    "one array": (GOOD, "put a single batch in a list"),
    "a path": ("images", "iterable of batches"),
    "empty": ([GOOD[:0]], "at least one sample"),
    "NaN": ([GOOD, GOOD * np.nan], "Batch 1 must be finite"),
    "infinite": ([GOOD * np.inf], "Batch 0 must be finite"),
    "shape": ([images(2, 8, 8, 3)], r"\(None, 16, 16, 3\).*\(2, 8, 8, 3\)"),
    "no batch": ([GOOD[0]], r"\(16, 16, 3\)"),
    "strings": ([np.full((2, 16, 16, 3), "x")], "numbers"),
    "many inputs": ([{"image": GOOD, "other": GOOD}], "shape of the model's inputs"),
}


@pytest.fixture(scope="module")
def calibrated():
    return quantized(network())


@pytest.mark.parametrize("batches, message", BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_bad_data_is_refused_and_no_range_changes(calibrated, batches, message):
    before = ranges(calibrated)
    with pytest.raises(ValueError, match=message) as caught:
        quantization.calibrate(calibrated, batches)
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ranges(calibrated) == before


def test_weights_that_are_not_finite_are_refused():
    model = network()
    model.get_layer("lone_norm").moving_variance.assign(np.full(16, -9.0))
    q = quantization.quantize_model(model)
    with pytest.raises(ValueError, match="not finite where quant_lone_norm"):
        quantization.calibrate(q, [GOOD])
    model.get_layer("conv").kernel.assign(np.full((3, 3, 3, 16), np.nan))
    q = quantization.quantize_model(model)
    with pytest.raises(ValueError, match="quant_conv/kernel"):
        quantization.calibrate(q, [GOOD])
    with pytest.raises(ValueError, match="quant_conv/kernel"):
        quantization.inference_function(q)
    good = network()
    good.get_layer("classifier").kernel.assign(np.full((16, 5), np.inf))
    q = quantization.quantize_model(good)
    target = network()
    randomise(target, seed=8)
    before = [array(w) for w in target.weights]
    with pytest.raises(ValueError, match="'classifier/kernel'"):
        quantization.restore(q, target)
    assert all(np.array_equal(a, w) for a, w in zip(before, target.weights, strict=True))


def test_a_model_that_has_seen_no_data_is_not_exported():
    with pytest.raises(ValueError, match="call calibrate"):
        quantization.inference_function(quantization.quantize_model(network()))


@pytest.mark.parametrize("call", ["calibrate", "restore", "inference_function", "save"])
def test_other_models_are_refused(call, tmp_path):
    more = {"calibrate": [[GOOD]], "restore": [network()], "save": [tmp_path / "q.h5"]}
    with pytest.raises(ValueError, match="quantize_model. Received"):
        getattr(quantization, call)(network(), *more.get(call, []))


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="attention='exp'"):
        quantization.quantize_model(network(), attention="exp")
