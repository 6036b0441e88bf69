"""Small networks, their random weights, and int8 models run by LiteRT, for the tests of QAT."""

import numpy as np


def randomise(model, seed=0):
    """Weights and statistics under which a signal keeps its size through a deep network."""
    generator = np.random.default_rng(seed)
    for weight in model.variables:
        name = weight.path.split("/")[-1]
        if name in ("gamma", "moving_variance", "variance"):
            value = generator.uniform(0.5, 1.5, weight.shape)
        elif name in ("beta", "moving_mean", "bias", "mean", "alpha"):
            value = generator.uniform(-0.3, 0.3, weight.shape)
        elif len(weight.shape) > 1:
            axes = weight.shape[:2] if weight.shape[-1] == 1 else weight.shape[:-1]
            value = generator.normal(scale=np.sqrt(1 / np.prod(axes)), size=weight.shape)
        else:
            continue
        weight.assign(value.astype("float32"))
    return model


def images(count, *shape, seed=1, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def array(x):
    return np.asarray(x)


def relative_difference(ours, theirs):
    return np.abs(array(ours) - array(theirs)).max() / np.abs(array(theirs)).max()


def network(sizes=(16, 16, 3), num_splits=4, classes=5, name="network"):
    """Conv, norm and ReLU6; a residual; ULSAM; a norm of its own; silu; a classifier."""
    import keras
    from keras import layers

    from ulsam_keras import ULSAM

    image = keras.Input(sizes, name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="conv_norm")(x)
    x = layers.ReLU(6.0, name="conv_relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    y = layers.BatchNormalization(name="depthwise_norm")(y)
    x = layers.Add(name="residual")([x, y])
    x = ULSAM(num_splits, name="ulsam")(x)
    x = layers.BatchNormalization(name="lone_norm")(x)
    x = layers.Activation("silu", name="silu")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(classes, activation="softmax", name="classifier")(x)
    return randomise(keras.Model(image, x, name=name))


def convert(q, io="float32", **kwargs):
    """The int8 LiteRT model of a quantised model, as `inference_function` says."""
    import tensorflow as tf

    from ulsam_keras import quantization

    inference = quantization.inference_function(q, **kwargs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inference.function], inference.trackable
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    return converter.convert()


def run(tflite, x):
    """The first output for every sample of x."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    [given], [taken, *_] = interpreter.get_input_details(), interpreter.get_output_details()
    results = []
    for sample in x:
        interpreter.set_tensor(given["index"], sample[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(taken["index"])[0])
    return np.stack(results)


def operators(tflite):
    """The operators in order, as (name, whether it computes in float)."""
    from converters.tflite.flatbuffer import read_graphs

    [graph] = read_graphs(tflite)
    return [
        (o.name, any(t is not None and t.dtype == "FLOAT32" for t in (*o.inputs, *o.outputs)))
        for o in graph.operators
    ]


def float_operators(tflite):
    """The operators that compute in float, without those at the ends that change the type."""
    return [name for name, floats in operators(tflite) if floats and "QUANTIZE" not in name]
