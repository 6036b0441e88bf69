"""Small .tflite models for the tests of the runtime and of the GPU delegate."""

import functools

import numpy as np

import parity
from lint_graphs import T, one


def from_function(function, calibration=None, **inputs):
    """A .tflite model of a TensorFlow function; `inputs` are shapes, or (shape, dtype) pairs.

    With calibration samples it is an int8 model, its input and output too.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec(*(shape if isinstance(shape[0], tuple) else (shape, "float32")), name=name)
        for name, shape in inputs.items()
    ]
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


@functools.cache
def block(groups, channels, height, width):
    """(exporter, x, {"y", "a"}) of a ULSAM block; the reference is PyTorch's, in float64."""
    import keras
    import torch

    from converters.tflite import Exporter
    from ulsam_keras import ULSAM

    module = parity.oracle(groups, channels, seed=groups + height).eval()
    layer = ULSAM(groups)
    inputs = keras.Input((height, width, channels), name="x")
    y, a = layer(inputs, return_attention_scores=True)
    parity.fill(layer, module)
    rng = np.random.default_rng(channels)
    x = rng.normal(size=(2, height, width, channels)).astype("float32")
    with torch.no_grad():
        tx = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float64)
        reference = {"y": module(tx), "a": module.attention(tx)}
    reference = {name: value.numpy().transpose(0, 2, 3, 1) for name, value in reference.items()}
    return Exporter(keras.Model(inputs, {"y": y, "a": a})), x, reference


@functools.cache
def block_bytes(groups, channels, height, width, precision):
    """The .tflite model of `block` in one precision."""
    return block(groups, channels, height, width)[0].convert(precision).content


def int8_convolution():
    """(int8 model, int8 inputs) of a convolution of (N, 6, 6, 8)."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 8, 8)).astype("float32")
    calibration = rng.normal(size=(16, 6, 6, 8)).astype("float32")

    def convolution(x):
        return tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))

    model = from_function(convolution, calibration, x=(1, 6, 6, 8))
    return model, rng.integers(-128, 128, size=(3, 6, 6, 8), dtype="int8")


def one_way_split():
    """SPLIT into one part, on which the GPU delegate aborts."""
    import tensorflow as tf

    return from_function(
        lambda x: tf.raw_ops.Split(axis=3, value=x, num_split=1)[0] * 2.0, x=(1, 4, 4, 8)
    )


def broadcast_to():
    """BROADCAST_TO, which the GPU delegate does not support; not every converter writes it."""
    return one("BROADCAST_TO", T((1, 1, 1, 8)), T((4,), "INT32", (1, 4, 4, 8)))


def rank_five():
    """The five-dimensional form of the group product, which the GPU delegate does not support."""
    import tensorflow as tf

    def group_product(x):
        groups = tf.reshape(x, (1, 4, 4, 2, 4)) * tf.constant([[2.0], [3.0]])
        return tf.reshape(groups, (1, 4, 4, 8))

    return from_function(group_product, x=(1, 4, 4, 8))


def mobilenet(size, alpha, sites):
    """A Keras MobileNetV2 with a ULSAM after each of the named layers.

    Its weights are random and its statistics those of a batch of noise, so that activations keep
    their size through all layers as they do in a trained network.
    """
    import keras

    from ulsam_keras import ULSAM

    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(
        (size, size, 3), alpha=alpha, weights=None, classes=10, classifier_activation=None
    )
    norms, scores = [], {}

    def call(layer, *args, **kwargs):
        output = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.BatchNormalization):
            norms.append(layer)
        if layer.name in sites:
            block = ULSAM(4)
            output, scores[layer.name] = block(output, return_attention_scores=True)
            norms.extend([block.depthwise_norm, block.pointwise_norm])
        return output

    model = keras.models.clone_model(base, call_function=call)
    for norm in norms:
        norm.momentum = 0.0
    model(np.random.default_rng(0).normal(size=(8, size, size, 3)), training=True)
    return keras.Model(model.inputs, {"logits": model.outputs[0], **scores})


def in_half_precision(model):
    """The same Keras model, computing in float16."""
    import keras

    half = keras.dtype_policies.DTypePolicy("mixed_float16")

    def clone(layer):
        return layer.__class__.from_config({**layer.get_config(), "dtype": half})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def has_int8_weights(model):
    """Whether any tensor of the .tflite model is int8."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=model).get_tensor_details()
    return any(detail["dtype"] is np.int8 for detail in details)
