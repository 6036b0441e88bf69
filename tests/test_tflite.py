"""`to_tflite`: every kind of model, its signature and shapes, and every refusal."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from converters import lint, to_tflite
from converters.tflite import FLOAT_PRECISIONS, Exporter
from converters.tflite.ahead import done_ahead
from converters.tflite.flatbuffer import read_graphs
from ulsam_keras import ULSAM

# Share of the largest output. float32 sums in another order.
FLOAT32 = 1e-5
# A model's weights as it holds them are exact in float32, what it computes in half precision is
# not: 2**-8 per operation in bfloat16.
HALF = {"mixed_float16": 2e-2, "mixed_bfloat16": 1e-1, "float16": 2e-2, "float64": 1e-5}

SHAPE = (8, 8, 4)


@keras.saving.register_keras_serializable("test_tflite")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(6, 3, padding="same", activation="relu")
        self.attention = ULSAM(2)

    def call(self, inputs):
        return self.attention(self.conv(inputs))


class WithoutConfig(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.conv = keras.layers.Conv2D(width, 3)

    def call(self, inputs):
        return self.conv(inputs)


class Half(keras.layers.Layer):
    """A composite layer whose inner layer `Model.layers` does not show."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(3, dtype=self.dtype_policy)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)


def functional(name="net"):
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    x = ULSAM(4)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(
        image, keras.layers.Dense(5, activation="softmax", name="probs")(x), name=name
    )


def sequential():
    return keras.Sequential(
        [keras.Input(SHAPE), ULSAM(2), keras.layers.Flatten(), keras.layers.Dense(3, name="out")]
    )


def nested():
    image = keras.Input(SHAPE, name="image")
    return keras.Model(image, keras.layers.Dense(2, name="top")(functional("inner")(image)))


def subclassed():
    model = Subclassed()
    model(np.zeros((2, *SHAPE), "float32"))
    return model


def shared():
    image = keras.Input(SHAPE, name="image")
    conv, attention = keras.layers.Conv2D(4, 3, padding="same"), ULSAM(2)
    return keras.Model(image, keras.layers.Add(name="sum")([attention(conv(image)), conv(image)]))


MODELS = {
    "functional": (functional, "image", "probs"),
    "sequential": (sequential, "input", "out"),
    "nested": (nested, "image", "top"),
    "subclassed": (subclassed, "input", "output"),
    "shared": (shared, "image", "sum"),
}


def randomise(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        low = 0.5 if weight.path.endswith("variance") else -0.5
        weight.assign(rng.uniform(low, 1.5, weight.shape).astype("float32"))
    return model


def data(shape=(1, *SHAPE)):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def run(tflite, **inputs):
    return Interpreter(model_content=tflite).get_signature_runner()(**inputs)


def signature(tflite):
    (entry,) = Interpreter(model_content=tflite).get_signature_list().items()
    return entry[0], set(entry[1]["inputs"]), set(entry[1]["outputs"])


def difference(actual, expected):
    expected = np.asarray(expected, "float32")
    return np.abs(actual - expected).max() / np.abs(expected).max()


# --------------------------------------------------------------------------- kinds of models


@pytest.mark.parametrize("kind", MODELS)
def test_kinds_of_models(kind):
    make, input_name, output_name = MODELS[kind]
    model = randomise(make())
    before = [weight.numpy() for weight in model.weights]
    tflite = to_tflite(model)
    assert signature(tflite) == ("serving_default", {input_name}, {output_name})
    outputs = run(tflite, **{input_name: data()})
    assert difference(outputs[output_name], model(data(), training=False)) < FLOAT32
    assert lint(tflite) == []
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_several_precisions_from_one_trace():
    model = randomise(functional())
    exporter = Exporter(model)
    assert exporter.input_shapes == {"image": (1, *SHAPE)}
    assert exporter.output_names == ["probs"]
    exporter.begin(FLOAT_PRECISIONS[:2])
    for precision in FLOAT_PRECISIONS:
        assert exporter.convert(precision).content == to_tflite(model, precision=precision)


def test_nothing_is_done_ahead_after_a_failure():
    begun = []

    def work(name):
        begun.append(name)
        return {"a": 1}[name]

    results = done_ahead(work, ["a", "b", "c"])
    assert results["a"].result() == 1
    for name in ("b", "c"):
        with pytest.raises(KeyError, match="b"):
            results[name].result()
    assert begun == ["a", "b"]


def test_outputs_by_name_and_in_order():
    image = keras.Input(SHAPE, name="image")
    y, scores = ULSAM(2, name="site")(image, return_attention_scores=True)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled-features")(y)
    listed = randomise(keras.Model(image, [y, scores, pooled]))
    tflite = to_tflite(listed)
    assert signature(tflite)[2] == {"site", "site_1", "pooled_features"}
    outputs = run(tflite, image=data())
    for name, expected in zip(("site", "site_1", "pooled_features"), listed(data()), strict=True):
        assert difference(outputs[name], expected) < FLOAT32

    keyed = keras.Model(image, {"z/features": y, "attention": scores, "1st": pooled})
    tflite = to_tflite(keyed)
    assert signature(tflite)[2] == {"z_features", "attention", "output_1st"}
    outputs = run(tflite, image=data())
    expected = keyed(data())
    for name, key in (
        ("z_features", "z/features"),
        ("attention", "attention"),
        ("output_1st", "1st"),
    ):
        assert difference(outputs[name], expected[key]) < FLOAT32


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_several_inputs(structure):
    # In an order that is not the alphabet's, and with a name that the converter cannot use.
    image, self_ = keras.Input((None, None, 4), name="image"), keras.Input((3,), name="self")
    x = keras.layers.GlobalAveragePooling2D()(ULSAM(2)(image))
    y = keras.layers.Concatenate(name="y")([x, keras.layers.Dense(2)(self_)])
    inputs = [self_, image] if structure == "list" else {"self": self_, "image": image}
    model = randomise(keras.Model(inputs, y))
    values = {"image": data((1, 6, 5, 4)), "self": data((1, 3))}
    expected = model([values["self"], values["image"]] if structure == "list" else values)
    by_name = to_tflite(model, input_shape={"image": (6, 5, 4)})
    order = ["self", "image"] if structure == "list" else sorted(values)
    in_order = to_tflite(model, input_shape=[values[name].shape[1:] for name in order])
    for tflite in (by_name, in_order):
        assert signature(tflite)[1] == {"image", "input_self"}
        outputs = run(tflite, image=values["image"], input_self=values["self"])
        assert difference(outputs["y"], expected) < FLOAT32


def test_unnamed_inputs_are_numbered():
    a, b = keras.Input((3,)), keras.Input((3,))
    tflite = to_tflite(keras.Model([a, b], keras.layers.Subtract(name="y")([a, b])))
    assert signature(tflite)[1] == {"input_1", "input_2"}
    x, zero = data((1, 3)), np.zeros((1, 3), "float32")
    np.testing.assert_array_equal(run(tflite, input_1=x, input_2=zero)["y"], x)


@pytest.mark.parametrize(
    ("name", "input_name", "output_name"),
    [
        ("training", "training", "training"),
        ("inputs", "inputs", "inputs"),
        ("Image_2", "Image_2", "Image_2"),
        ("a b.c-d", "a_b_c_d", "a_b_c_d"),
        ("class", "input_class", "output_class"),
        ("überall", "input_berall", "output_berall"),
        ("_x", "input_x", "output_x"),
        ("3d", "input_3d", "output_3d"),
    ],
)
def test_names_that_are_hard_to_use(name, input_name, output_name):
    x = keras.Input((3,), name=name)
    tflite = to_tflite(keras.Model(x, {name: keras.layers.ReLU()(x)}))
    assert signature(tflite) == ("serving_default", {input_name}, {output_name})
    ones = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(run(tflite, **{input_name: ones})[output_name], ones)


def test_integer_input_keeps_its_type():
    image = keras.Input(SHAPE, dtype="uint8", name="image")
    model = keras.Model(image, keras.layers.Rescaling(1 / 255, name="y")(image))
    pixels = np.random.default_rng(0).integers(0, 256, (1, *SHAPE)).astype("uint8")
    assert difference(run(to_tflite(model), image=pixels)["y"], pixels / 255) < FLOAT32


# ------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ((None, None, 4), (9, 6, 4), (1, 9, 6, 4)),
        ((None, None, 4), [2, 9, 6, 4], (2, 9, 6, 4)),
        ((None, 6, 4), (9, 6, 4), (1, 9, 6, 4)),
        (SHAPE, None, (1, *SHAPE)),
        (SHAPE, SHAPE, (1, *SHAPE)),
        (SHAPE, (3, *SHAPE), (3, *SHAPE)),
    ],
)
def test_shapes(declared, given, expected):
    image = keras.Input(declared, name="image")
    model = randomise(keras.Model(image, ULSAM(2, name="y")(image)))
    tflite = to_tflite(model, input_shape=given)
    (graph,) = read_graphs(tflite)
    assert graph.inputs[0].shape == graph.outputs[0].shape == expected
    assert lint(tflite) == []
    assert difference(run(tflite, image=data(expected))["y"], model(data(expected))) < FLOAT32


def test_declared_batch_is_kept():
    image = keras.Input(SHAPE, batch_size=2)
    model = keras.Model(image, keras.layers.ReLU()(image))
    assert Exporter(model).input_shapes == {"input": (2, *SHAPE)}


@pytest.mark.parametrize("given", [(10, 12, 4), (3, 10, 12, 4)])
def test_shape_of_a_subclassed_model(given):
    model = randomise(subclassed())
    shape = given if len(given) == 4 else (1, *given)
    outputs = run(to_tflite(model, input_shape=given), input=data(shape))
    assert difference(outputs["output"], model(data(shape), training=False)) < FLOAT32


@pytest.mark.parametrize(
    ("declared", "given", "match"),
    [
        ((None, None, 4), None, r"give them with `input_shape`.*\(None, None, None, 4\)"),
        ((None, None, 4), (9, 6), r"agree.*input_shape=\(9, 6\)"),
        ((None, None, 4), (9, 6, 3), r"agree.*input_shape=\(9, 6, 3\)"),
        ((None, None, 4), (9, 0, 4), "at least 1"),
        ((None, None, 4), (9, -6, 4), "at least 1"),
        ((None, None, 4), (9, None, 4), "must be"),
        ((None, None, 4), (9, 6.0, 4), "must be"),
        ((None, None, 4), 224, "must be.*input_shape=224"),
        ((None, None, 4), "224,224,4", "must be"),
        ((None, None, 4), {"picture": (9, 6, 4)}, r"\['image'\].*picture"),
        ((None, None, 4), [(9, 6, 4), (9, 6, 4)], "has 1 inputs"),
        (SHAPE, (9, 8, 4), "agree"),
    ],
)
def test_wrong_shapes(declared, given, match):
    image = keras.Input(declared, name="image")
    refused(keras.Model(image, keras.layers.ReLU()(image)), match, input_shape=given)


# ------------------------------------------------------------------------------------ dtypes


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", HALF, indirect=True)
@pytest.mark.parametrize("kind", MODELS)
def test_other_dtype_policies_export_in_float32(kind, policy):
    make, input_name, output_name = MODELS[kind]
    model = randomise(make())
    # Not the policy that the model was made under: the copy must not take it from there.
    keras.config.set_dtype_policy("float32")
    tflite = to_tflite(model)
    (graph,) = read_graphs(tflite)
    assert {t.dtype for t in graph.tensors} <= {"FLOAT32", "INT32"}
    actual = run(tflite, **{input_name: data()})[output_name]
    assert difference(actual, model(data(), training=False)) < HALF[policy]
    assert model.dtype_policy.name == policy
    if policy != "float16" and policy != "float64":
        # The same weights in a float32 model: there the difference is float32's.
        keras.config.set_dtype_policy("float32")
        float32 = make()
        float32.set_weights(model.get_weights())
        assert difference(actual, float32(data(), training=False)) < FLOAT32


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_half_precision_inside_of_layers_and_operations(policy):
    x = keras.Input((4,), name="x")
    y = keras.ops.cast(keras.layers.Dense(3)(x), "float16")
    y = keras.layers.Lambda(lambda t: t * 2, name="twice")(Half()(y))
    model = randomise(keras.Model(x, keras.layers.Dense(2, dtype="float32", name="y")(y)))
    model.compile("adam", "mse")
    tflite = to_tflite(model)
    assert {t.dtype for t in read_graphs(tflite)[0].tensors} <= {"FLOAT32", "INT32"}
    assert difference(run(tflite, x=data((1, 4)))["y"], model(data((1, 4)))) < HALF[policy]


def test_a_map_of_dtype_policies():
    policies = keras.dtype_policies.DTypePolicyMap(default_policy="mixed_bfloat16")
    x = keras.Input((4,), name="x")
    layer = keras.layers.Dense(3, name="y", dtype=policies)
    model = randomise(keras.Model(x, layer(x)))
    assert layer.compute_dtype == "bfloat16"
    actual = run(to_tflite(model), x=data((1, 4)))["y"]
    kernel, bias = layer.get_weights()
    assert difference(actual, data((1, 4)) @ kernel + bias) < FLOAT32


def test_half_precision_written_in_the_code_of_a_layer():
    class Fixed(Half):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = keras.layers.Dense(3, dtype="mixed_float16", name="inside")

    model = keras.Sequential([keras.Input((4,)), Fixed()])
    assert refused(model, "inside in mixed_float16").count("Received: ") == 1


def test_a_model_quantized_by_keras():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="small")])
    model.quantize("int8")
    refused(model, "quantized by Keras.*small")


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_half_precision_without_config(policy):
    model = WithoutConfig(3)
    model(np.zeros((1, *SHAPE)))
    refused(model, "mixed_float16.*get_config.*set_dtype_policy")


# ---------------------------------------------------------------------------------- refusals


def refused(model, match, **arguments):
    with pytest.raises(ValueError, match=match) as caught:
        to_tflite(model, **arguments)
    assert "\n" not in str(caught.value)
    assert "Received: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("precision", ["int4", "INT8", "float64", "", None, "FLOAT32", []])
def test_unknown_precision_lists_the_known(precision):
    refused(functional(), "'float32', 'float16', 'dynamic_range'", precision=precision)
    with pytest.raises(ValueError, match="'float32', 'float16', 'dynamic_range'"):
        Exporter(functional()).convert(precision)


@pytest.mark.parametrize("precision", FLOAT_PRECISIONS)
def test_arguments_of_integer_precisions_are_not_ignored(precision):
    model = functional()
    refused(model, "representative_data", precision=precision, representative_data=[data()])
    refused(model, "inference_type='int8'", precision=precision, inference_type="int8")


def test_not_a_model():
    refused(ULSAM(2), r"keras\.Sequential\(\[keras\.Input.*model=ULSAM")
    refused("model.keras", r"load_model.*builtins\.str")
    refused(None, "NoneType")


def test_not_built():
    refused(keras.Sequential([keras.layers.Dense(2)]), "not built")
    refused(Subclassed(), "not built", input_shape=SHAPE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value):
    """Refused by name before the converter sees them: it turns infinity into 3.4e38."""
    model = functional()
    attention = next(layer for layer in model.layers if isinstance(layer, ULSAM))
    kernel = attention.pointwise_kernel.numpy()
    kernel[0, 0, 1, 2] = value
    attention.pointwise_kernel.assign(kernel)
    refused(model, f"NaN or infinite.*{attention.name}/pointwise_kernel")


def test_many_weights_that_are_not_finite_are_counted():
    model = functional()
    for weight in model.weights:
        weight.assign(np.full(weight.shape, np.nan))
    refused(model, f"and {len(model.weights) - 5} more")


def test_constants_that_fold_to_nan():
    model = functional()
    norm = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm.moving_variance.assign(-np.ones(8))
    refused(model, "NON_FINITE")


def test_weights_beyond_float16_warn():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64, use_bias=False)])
    model.set_weights([np.full((4, 64), 1e5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_tflite(model)
    with pytest.warns(UserWarning, match="FLOAT16_SATURATED") as caught:
        to_tflite(model, precision="float16")
    assert caught[0].filename == __file__
    exporter = Exporter(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of something else that goes on meanwhile
        exporter.begin(["float16", "float32"])
        exporter.convert("float32")
    with pytest.warns(UserWarning, match="FLOAT16_SATURATED"):
        exporter.convert("float16")


def test_operations_without_a_builtin():
    x = keras.Input((4,))
    message = refused(keras.Model(x, keras.ops.erfinv(x)), "without a LiteRT builtin, Erfinv")
    assert "'erfinv' (Erfinv)" in message


def test_a_sequential_model_that_keras_could_not_trace():
    lengths = keras.layers.Lambda(lambda text: tf.strings.length(text))
    model = keras.Sequential([keras.Input((1,), dtype="string"), lengths])
    refused(model, "give `input_shape`|cannot be called")


def test_a_size_that_cannot_work():
    image = keras.Input((None, None, 3))
    x = keras.layers.MaxPooling2D(2)(keras.layers.MaxPooling2D(2)(image))
    refused(keras.Model(image, keras.layers.Conv2D(2, 3)(x)), "cannot", input_shape=(4, 4, 3))


def test_data_dependent_shapes():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda t: tf.where(t > 0))])
    refused(model, "DYNAMIC_SHAPE")


@pytest.mark.needs("jax")
def test_other_back_ends():
    program = (
        "import keras; from converters import to_tflite; m = keras.Sequential([keras.Input((3,)), "
        "keras.layers.Dense(2)])\ntry: to_tflite(m)\nexcept ValueError as e: print(e)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "KERAS_BACKEND=tensorflow" in result.stdout
    assert "back end 'jax'" in result.stdout
    assert len(result.stdout.splitlines()) == 1


# ------------------------------------------------------------------------------ the terminal


def test_the_terminal_stays_clean(capfd):
    model = functional()
    capfd.readouterr()
    to_tflite(model)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_other_output_is_passed_on(capfd):
    class Talking(keras.layers.Layer):
        def call(self, inputs):
            os.write(2, b"to stderr\n")
            print("to stdout")
            return inputs

    model = keras.Sequential([keras.Input((3,)), Talking()])
    capfd.readouterr()
    to_tflite(model)
    assert capfd.readouterr() == ("to stdout\n", "to stderr\n")


def test_standard_error_is_back_after_an_error(capfd):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.erfinv(x))
    capfd.readouterr()
    refused(model, "Erfinv")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
