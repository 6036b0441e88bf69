"""Small networks, their random weights, and int8 models run by LiteRT, for the tests of QAT."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Covered:
    """What became of one model in int8.

    Attributes:
        parts: The tf_keras layers it is made of, by class.
        parity: Largest difference of the tf_keras model from the Keras 3 model, of the largest
            output.
        operators: The operators between its inputs and its output in the file.
        floats: Those of them that compute in float.
        floating: The Keras 3 model's output.
        trained: What training sees: the quantised model's output.
        file: The output of the file.
        step: The step of the file's output.
    """

    parts: tuple[str, ...]
    parity: float
    operators: tuple[str, ...]
    floats: tuple[str, ...]
    floating: np.ndarray
    trained: np.ndarray
    file: np.ndarray
    step: float


def covered(models, samples=64):
    """Quantises, converts and runs many small models at once, side by side in one model.

    Each has inputs of its own, so nothing connects them; a conversion takes seconds however small
    the model.
    """
    import keras
    from ai_edge_litert.interpreter import Interpreter

    from converters.tflite.flatbuffer import read_graphs
    from ulsam_keras import quantization

    inputs, outputs = {}, {}
    for number, model in enumerate(models.values()):
        own = [keras.Input(x.shape[1:], name=f"x{number}_{n}") for n, x in enumerate(model.inputs)]
        inputs |= {x.name: x for x in own}
        case = keras.Model(model.inputs, model.outputs[0], name=f"case{number}")
        outputs[f"y{number}"] = case(own if len(own) > 1 else own[0])
    whole = randomise(keras.Model(inputs, outputs))
    data = {x.name: images(samples, *x.shape[1:], seed=n) for n, x in enumerate(whole.inputs)}
    bridged = quantization.to_tf_keras(whole)
    parts = {}
    for layer in bridged.layers:
        parts.setdefault(layer.name.split("/")[0], []).append(type(layer).__name__)
    q = quantization.quantize_model(whole)
    quantization.calibrate(q, [data])
    tflite = convert(q, batch_size=samples)
    [graph] = read_graphs(tflite)
    file = Interpreter(model_content=tflite).get_signature_runner()(**data)
    floating, float_twin, trained = whole(data), bridged(data), q(data)
    found = {}
    for number, name in enumerate(models):
        key = f"y{number}"
        path = between(graph, graph.named_outputs[key])
        ends = [o for o in path if o.name not in ("QUANTIZE", "DEQUANTIZE")]
        last = path[-1].inputs[0] if path[-1].name == "DEQUANTIZE" else path[-1].outputs[0]
        found[name] = Covered(
            tuple(parts.get(f"case{number}", ())),
            float(relative_difference(float_twin[key], floating[key])),
            tuple(o.name for o in ends),
            tuple(o.name for o in ends if any(t and t.dtype == "FLOAT32" for t in tensors(o))),
            array(floating[key]),
            array(trained[key]),
            file[key],
            last.scales[0] if last.scales else np.ptp(file[key]) / 255,
        )
    return found


def tensors(operator):
    return [*operator.inputs, *operator.outputs]


def between(graph, output):
    """The operators that an output is computed by, in order."""
    wanted, found = {output}, []
    for operator in reversed(graph.operators):
        if not wanted.isdisjoint(operator.outputs):
            found.append(operator)
            wanted.update(operator.inputs)
    return found[::-1]


def snr(signal, other):
    """Signal-to-noise ratio in dB."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10((signal**2).sum() / ((other - signal) ** 2).sum())
