"""A hundred layers and small graphs that are converted: a model for every public layer of Keras.

What a layer is called in the model is its case's name, so that a message can be asked for it.
"""

import re
import zlib

import keras
import numpy as np
from keras import layers, ops

from ulsam_keras import ULSAM, SubSpace

MAP, SEQUENCE, VECTOR, VOLUME, SIGNAL = (8, 8, 4), (6, 4), (8,), (4, 4, 4, 2), (160,)
IMAGE, IDS = (8, 8, 3), ("int32", 7)
VOCABULARY = 10

# What is never in a graph that a .tflite file is made of.
LEFT_OUT = {
    "AugMix": "changes images in training only, and at random",
    "CutMix": "mixes samples, in training only",
    "MixUp": "mixes samples, in training only",
    "RandAugment": "changes images in training only, and at random",
    "Equalization": "no layer of a graph: Keras says that it is part of a cycle",
    "FlaxLayer": "of another back end",
    "JaxLayer": "of another back end",
    "TorchModuleWrapper": "of another back end",
    "HashedCrossing": "takes strings or hashes them",
    "Hashing": "takes strings or hashes them",
    "InputLayer": "stands in every graph",
    "IntegerLookup": "a table of TensorFlow, for the input pipeline",
    "StringLookup": "takes strings",
    "TextVectorization": "takes strings",
    "Lambda": "code of the user's own",
    "Layer": "the base class",
    "Wrapper": "the base class of layers around a layer",
    "MaxNumBoundingBoxes": "bounding boxes of the input pipeline",
    "Pipeline": "layers of the input pipeline in a row",
    "TFSMLayer": "a SavedModel of the user's own",
    "RandomElasticTransform": "changes images in training only, and at random",
}


def _input(shape, number):
    if shape[0] == "int32":
        return keras.Input(shape[1:], dtype="int32", name=f"ids_{number}")
    return keras.Input(shape, name=f"x_{number}")


def of(call, *shapes):
    """A function that builds the model of a call; the layer's name is that of the case."""

    def build(name):
        inputs = [_input(shape, number) for number, shape in enumerate(shapes or (MAP,))]
        outputs = call(*inputs)
        return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)

    return build


def single(make, *shapes):
    """The same of a layer, which is made anew for each model."""
    return of(lambda *x: make()(*x), *shapes)


def on_list(layer):
    return lambda *x: layer(list(x))


def _chain(*parts):
    def call(x):
        for part in parts:
            x = part(x)
        return x

    return call


# ------------------------------------------------------------------------------- single layers

LAYERS = {
    "Conv1D": single(lambda: layers.Conv1D(5, 3, padding="same"), SEQUENCE),
    "Conv1D causal": single(
        lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2), SEQUENCE
    ),
    "Conv2D": single(lambda: layers.Conv2D(5, 3, padding="same")),
    "Conv2D strided": single(
        lambda: layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")
    ),
    "Conv2D dilated": single(lambda: layers.Conv2D(5, 3, dilation_rate=2)),
    "Conv2D grouped": single(lambda: layers.Conv2D(8, 3, groups=2)),
    "Conv2D without bias": single(lambda: layers.Conv2D(5, 3, use_bias=False)),
    "Conv3D": single(lambda: layers.Conv3D(3, 2), VOLUME),
    "Conv1DTranspose": single(lambda: layers.Conv1DTranspose(5, 3, strides=2), SEQUENCE),
    "Conv2DTranspose": single(lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same")),
    "Conv2DTranspose valid": single(lambda: layers.Conv2DTranspose(5, 3, activation="relu")),
    "Conv3DTranspose": single(lambda: layers.Conv3DTranspose(3, 2, strides=2), VOLUME),
    "DepthwiseConv1D": single(lambda: layers.DepthwiseConv1D(3), SEQUENCE),
    "DepthwiseConv2D": single(lambda: layers.DepthwiseConv2D(3, padding="same")),
    "DepthwiseConv2D multiplied": single(lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "SeparableConv1D": single(lambda: layers.SeparableConv1D(5, 3), SEQUENCE),
    "SeparableConv2D": single(lambda: layers.SeparableConv2D(5, 3)),
    "Dense": single(lambda: layers.Dense(5), VECTOR),
    "Dense on maps": single(lambda: layers.Dense(5, activation="relu")),
    "Dense softmax": single(lambda: layers.Dense(5, activation="softmax"), VECTOR),
    "EinsumDense": single(
        lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 5)), SEQUENCE
    ),
    "EinsumDense with bias": single(
        lambda: layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
        SEQUENCE,
    ),
    "Embedding": single(lambda: layers.Embedding(VOCABULARY, 5), IDS),
    "ReversibleEmbedding": single(lambda: layers.ReversibleEmbedding(VOCABULARY, 5), IDS),
    "BatchNormalization": single(lambda: layers.BatchNormalization()),
    "BatchNormalization of vectors": single(lambda: layers.BatchNormalization(), VECTOR),
    "LayerNormalization": single(lambda: layers.LayerNormalization()),
    "LayerNormalization of maps": single(lambda: layers.LayerNormalization(axis=(1, 2, 3))),
    "GroupNormalization": single(lambda: layers.GroupNormalization(2)),
    "GroupNormalization per channel": single(lambda: layers.GroupNormalization(-1)),
    "RMSNormalization": single(lambda: layers.RMSNormalization()),
    "UnitNormalization": single(lambda: layers.UnitNormalization()),
    "SpectralNormalization": single(lambda: layers.SpectralNormalization(layers.Conv2D(5, 3))),
    "Normalization": single(
        lambda: layers.Normalization(mean=(0.1, 0.2, -0.1, 0.0), variance=(4.0, 3.0, 2.0, 1.0))
    ),
    "Normalization inverted": single(
        lambda: layers.Normalization(mean=0.5, variance=3.0, invert=True)
    ),
    "Rescaling": single(lambda: layers.Rescaling(1 / 127.5, -1.0)),
    "ReLU": single(lambda: layers.ReLU()),
    "ReLU6": single(lambda: layers.ReLU(6.0)),
    "ReLU with thresholds": single(lambda: layers.ReLU(0.7, 0.1, 0.2)),
    "LeakyReLU": single(lambda: layers.LeakyReLU(0.2)),
    "PReLU": single(lambda: layers.PReLU(shared_axes=(1, 2))),
    "ELU": single(lambda: layers.ELU()),
    "Softmax": single(lambda: layers.Softmax()),
    "Softmax of rows": single(lambda: layers.Softmax(axis=1), SEQUENCE),
    "MaxPooling1D": single(lambda: layers.MaxPooling1D(2), SEQUENCE),
    "MaxPooling2D": single(lambda: layers.MaxPooling2D(3, 2, "same")),
    "MaxPooling3D": single(lambda: layers.MaxPooling3D(2), VOLUME),
    "AveragePooling1D": single(lambda: layers.AveragePooling1D(2), SEQUENCE),
    "AveragePooling2D": single(lambda: layers.AveragePooling2D(3, 2, "same")),
    "AveragePooling3D": single(lambda: layers.AveragePooling3D(2), VOLUME),
    "GlobalMaxPooling1D": single(lambda: layers.GlobalMaxPooling1D(), SEQUENCE),
    "GlobalMaxPooling2D": single(lambda: layers.GlobalMaxPooling2D()),
    "GlobalMaxPooling3D": single(lambda: layers.GlobalMaxPooling3D(), VOLUME),
    "GlobalAveragePooling1D": single(lambda: layers.GlobalAveragePooling1D(), SEQUENCE),
    "GlobalAveragePooling2D": single(lambda: layers.GlobalAveragePooling2D(keepdims=True)),
    "GlobalAveragePooling3D": single(lambda: layers.GlobalAveragePooling3D(), VOLUME),
    "AdaptiveAveragePooling1D": single(lambda: layers.AdaptiveAveragePooling1D(4), SEQUENCE),
    "AdaptiveAveragePooling2D": single(lambda: layers.AdaptiveAveragePooling2D(3)),
    "AdaptiveAveragePooling3D": single(lambda: layers.AdaptiveAveragePooling3D(3), VOLUME),
    "AdaptiveMaxPooling1D": single(lambda: layers.AdaptiveMaxPooling1D(4), SEQUENCE),
    "AdaptiveMaxPooling2D": single(lambda: layers.AdaptiveMaxPooling2D(3)),
    "AdaptiveMaxPooling3D": single(lambda: layers.AdaptiveMaxPooling3D(3), VOLUME),
    "ZeroPadding1D": single(lambda: layers.ZeroPadding1D(2), SEQUENCE),
    "ZeroPadding2D": single(lambda: layers.ZeroPadding2D(((0, 1), (2, 0)))),
    "ZeroPadding3D": single(lambda: layers.ZeroPadding3D(), VOLUME),
    "Cropping1D": single(lambda: layers.Cropping1D(1), SEQUENCE),
    "Cropping2D": single(lambda: layers.Cropping2D(((0, 1), (2, 0)))),
    "Cropping3D": single(lambda: layers.Cropping3D(), VOLUME),
    "UpSampling1D": single(lambda: layers.UpSampling1D(), SEQUENCE),
    "UpSampling2D": single(lambda: layers.UpSampling2D()),
    "UpSampling2D bilinear": single(lambda: layers.UpSampling2D(interpolation="bilinear")),
    "UpSampling3D": single(lambda: layers.UpSampling3D(), VOLUME),
    "Resizing": single(lambda: layers.Resizing(5, 11)),
    "Resizing nearest": single(lambda: layers.Resizing(12, 12, interpolation="nearest")),
    "CenterCrop": single(lambda: layers.CenterCrop(5, 4)),
    "Flatten": single(lambda: layers.Flatten()),
    "Reshape": single(lambda: layers.Reshape((4, -1))),
    "Permute": single(lambda: layers.Permute((3, 1, 2))),
    "RepeatVector": single(lambda: layers.RepeatVector(3), VECTOR),
    "Concatenate": single(lambda: on_list(layers.Concatenate()), MAP, (8, 8, 2)),
    "Concatenate of rows": single(lambda: on_list(layers.Concatenate(axis=1)), MAP, MAP),
    "Add": single(lambda: on_list(layers.Add()), MAP, MAP, MAP),
    "Average": single(lambda: on_list(layers.Average()), MAP, MAP),
    "Maximum": single(lambda: on_list(layers.Maximum()), MAP, MAP),
    "Minimum": single(lambda: on_list(layers.Minimum()), MAP, MAP),
    "Multiply": single(lambda: on_list(layers.Multiply()), MAP, (1, 1, 4)),
    "Subtract": single(lambda: on_list(layers.Subtract()), MAP, MAP),
    "Dot": single(lambda: on_list(layers.Dot(axes=2)), SEQUENCE, (5, 4)),
    "Dot normalized": single(lambda: on_list(layers.Dot(axes=1, normalize=True)), VECTOR, VECTOR),
    "Masking": single(lambda: layers.Masking(), SEQUENCE),
    "Identity": single(lambda: _chain(layers.Identity(), layers.Conv2D(5, 1))),
    "ActivityRegularization": single(
        lambda: _chain(layers.Dense(5), layers.ActivityRegularization(0.1))
    ),
    "TimeDistributed": single(lambda: layers.TimeDistributed(layers.Conv2D(3, 2)), (3, *MAP)),
    "Attention": single(lambda: on_list(layers.Attention()), SEQUENCE, SEQUENCE),
    "AdditiveAttention": single(lambda: on_list(layers.AdditiveAttention()), SEQUENCE, SEQUENCE),
    "MultiHeadAttention": of(lambda x: layers.MultiHeadAttention(2, 3)(x, x), SEQUENCE),
    "MultiHeadAttention causal": of(
        lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True), SEQUENCE
    ),
    "GroupQueryAttention": of(lambda x: layers.GroupQueryAttention(3, 2, 1)(x, x), SEQUENCE),
    "SimpleRNN": single(lambda: layers.SimpleRNN(5), SEQUENCE),
    "SimpleRNN unrolled": single(lambda: layers.SimpleRNN(5, unroll=True), SEQUENCE),
    "GRU": single(lambda: layers.GRU(5), SEQUENCE),
    "GRU unrolled": single(lambda: layers.GRU(5, unroll=True, return_sequences=True), SEQUENCE),
    "GRU of every step": single(lambda: layers.GRU(5, return_sequences=True), SEQUENCE),
    "LSTM": single(lambda: layers.LSTM(5), SEQUENCE),
    "LSTM of every step": single(lambda: layers.LSTM(5, return_sequences=True), SEQUENCE),
    "LSTM unrolled": single(lambda: layers.LSTM(5, unroll=True), SEQUENCE),
    "RNN of cells": single(
        lambda: layers.RNN(
            layers.StackedRNNCells(
                [layers.LSTMCell(4), layers.GRUCell(4), layers.SimpleRNNCell(4)]
            ),
            unroll=True,
        ),
        SEQUENCE,
    ),
    "Bidirectional": single(lambda: layers.Bidirectional(layers.LSTM(3)), SEQUENCE),
    "Bidirectional unrolled": single(
        lambda: layers.Bidirectional(layers.LSTM(3, unroll=True)), SEQUENCE
    ),
    "ConvLSTM1D": single(lambda: layers.ConvLSTM1D(2, 2), (3, *SEQUENCE)),
    "ConvLSTM2D": single(lambda: layers.ConvLSTM2D(2, 2), (3, *MAP)),
    "ConvLSTM2D of every step": single(
        lambda: layers.ConvLSTM2D(2, 2, return_sequences=True), (3, *MAP)
    ),
    "ConvLSTM2D unrolled": single(lambda: layers.ConvLSTM2D(2, 2, unroll=True), (3, *MAP)),
    "ConvLSTM3D": single(lambda: layers.ConvLSTM3D(2, 2), (2, *VOLUME)),
    "CategoryEncoding": single(
        lambda: layers.CategoryEncoding(VOCABULARY, output_mode="multi_hot"), IDS
    ),
    "Discretization": single(lambda: layers.Discretization([-1.0, 0.0, 1.0]), VECTOR),
    "AutoContrast": single(lambda: layers.AutoContrast(value_range=(-1, 1)), IMAGE),
    "Solarization": single(lambda: layers.Solarization(value_range=(-1, 1)), IMAGE),
    "ContrastLimitedAdaptiveHistogramEqualization": single(
        lambda: layers.ContrastLimitedAdaptiveHistogramEqualization(), IMAGE
    ),
    "STFTSpectrogram": single(
        lambda: layers.STFTSpectrogram(frame_length=32, frame_step=16, fft_length=32), (160, 1)
    ),
    "MelSpectrogram": single(
        lambda: layers.MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=8), SIGNAL
    ),
    "GELU": single(lambda: layers.Activation("gelu")),
    "SiLU": single(lambda: layers.Activation("silu")),
    "hard SiLU": single(lambda: layers.Activation("hard_silu")),
    "hard sigmoid": single(lambda: layers.Activation("hard_sigmoid")),
    "sigmoid": single(lambda: layers.Activation("sigmoid")),
    "tanh": single(lambda: layers.Activation("tanh")),
    "softplus": single(lambda: layers.Activation("softplus")),
    "softsign": single(lambda: layers.Activation("softsign")),
    "SELU": single(lambda: layers.Activation("selu")),
    "mish": single(lambda: layers.Activation("mish")),
    "exponential": single(lambda: layers.Activation("exponential")),
    "log softmax": single(lambda: layers.Activation("log_softmax"), VECTOR),
}

# ------------------------------------------------------------------------------- small graphs


def _residual(x):
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(x))
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(y))
    return layers.ReLU()(layers.Add()([x, y]))


def _squeeze_excite(x):
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(2, 1, activation="relu")(y)
    return layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(y)])


def _inverted_residual(x):
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(12, 1, use_bias=False)(x)))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.Conv2D(4, 1)(layers.ReLU(6.0)(layers.BatchNormalization()(y)))
    return layers.Add()([x, y])


def _classifier(x):
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(5, activation="softmax")(layers.Dropout(0.5)(x))


def _u_net(x):
    down = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    low = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(down))
    up = layers.Conv2DTranspose(6, 2, strides=2)(low)
    return layers.Conv2D(2, 1)(layers.Concatenate()([down, up]))


def _split_concat(x):
    first, second = ops.split(x, 2, axis=-1)
    return layers.Concatenate()([layers.Conv2D(3, 3, padding="same")(first), second])


def _channel_shuffle(x):
    x = layers.Reshape((8, 8, 2, 2))(layers.Conv2D(4, 1)(x))
    return layers.Conv2D(4, 1)(layers.Reshape((8, 8, 4))(layers.Permute((1, 2, 4, 3))(x)))


def _shared(a, b):
    layer = layers.Conv2D(4, 3, padding="same", name="shared")
    return layers.Add()([layer(a), layer(b)])


def _shared_by_scales(x):
    layer = layers.Conv2D(4, 3, padding="same", name="shared")
    return layers.Concatenate()([layer(x), layer(layers.Rescaling(20.0)(x))])


def _nested(x):
    inner_input = keras.Input(MAP)
    inner = keras.Model(inner_input, _residual(inner_input), name="inner")
    return layers.Conv2D(3, 1)(inner(inner(x)))


def _transformer(x):
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2)(y, y)])
    y = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(4)(y)])


def _two_outputs(x):
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    classes = layers.Dense(3, activation="softmax", name="classes")
    return {"mask": layers.Conv2D(1, 1)(x), "classes": classes(layers.GlobalMaxPooling2D()(x))}


def _distances(a, b):
    difference = a - b
    return ops.sqrt(ops.sum(difference * difference, axis=-1) + 1e-3)


def _gate(x):
    return layers.Conv2D(4, 1)(x) * ops.sigmoid(layers.Conv2D(4, 1)(x))


def _pixel_shuffle(x):
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Permute((1, 3, 2, 4))(layers.Reshape((8, 8, 2, 2))(x))
    return layers.Reshape((16, 16, 1))(x)


def _dead_branch(x):
    """A branch that is 0 on whatever comes."""
    dead = layers.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(-100.0), name="dead")
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(dead(ops.tanh(x))))
    return layers.Add()([layers.Conv2D(4, 1)(x), y])


def _cosine_attention(x):
    queries, keys = (
        y / ops.maximum(ops.norm(y, axis=-1, keepdims=True), 1e-12)
        for y in (layers.Dense(8)(x), layers.Dense(8)(x))
    )
    return ops.softmax(10 * queries @ ops.transpose(keys, (0, 2, 1))) @ layers.Dense(8)(x)


def _random_layers(x):
    random = [
        layers.RandomBrightness(0.2), layers.RandomColorDegeneration(0.2),
        layers.RandomColorJitter(), layers.RandomContrast(0.2), layers.RandomCrop(8, 8),
        layers.RandomErasing(), layers.RandomFlip(), layers.RandomGaussianBlur(),
        layers.RandomGrayscale(), layers.RandomHue(0.2), layers.RandomInvert(),
        layers.RandomPerspective(), layers.RandomPosterization(4), layers.RandomRotation(0.2),
        layers.RandomSaturation(0.2), layers.RandomSharpness(0.2), layers.RandomShear(0.2, 0.2),
        layers.RandomTranslation(0.2, 0.2), layers.RandomZoom(0.2), layers.Dropout(0.5),
        layers.AlphaDropout(0.5), layers.GaussianDropout(0.5), layers.GaussianNoise(0.5),
        layers.SpatialDropout2D(0.5),
    ]  # fmt: skip
    x = layers.Conv2D(5, 3)(_chain(*random)(x))
    x = layers.SpatialDropout1D(0.5)(layers.Reshape((36, 5))(x))
    return layers.SpatialDropout3D(0.5)(layers.Reshape((2, 3, 6, 5))(x))


GRAPHS = {
    "residual block": of(_residual),
    "squeeze and excite": of(_squeeze_excite),
    "inverted residual": of(_inverted_residual),
    "classifier": of(_classifier),
    "U-Net": of(_u_net),
    "ULSAM of one group": single(lambda: _chain(layers.Conv2D(4, 1), ULSAM(1))),
    "ULSAM of four groups": single(lambda: _chain(layers.Conv2D(8, 1), ULSAM(4))),
    "ULSAM alone": single(lambda: ULSAM(2)),
    "SubSpace": single(lambda: SubSpace()),
    "ULSAM after a residual": single(lambda: _chain(_residual, ULSAM(2))),
    "ULSAM on a large map": single(lambda: ULSAM(2), (28, 28, 4)),
    "two inputs": of(
        lambda a, b: layers.Dense(3)(layers.Concatenate()([layers.Flatten()(a), b])), MAP, VECTOR
    ),
    "two outputs": of(_two_outputs),
    "split and concatenate": of(_split_concat),
    "channel shuffle": of(_channel_shuffle),
    "pixel shuffle": of(_pixel_shuffle),
    "shared layer": of(_shared, MAP, MAP),
    "shared layer of two ranges": of(_shared_by_scales),
    "nested models": of(_nested),
    "transformer": of(_transformer, SEQUENCE),
    "Dense chain": single(
        lambda: _chain(*(layers.Dense(8, activation="relu") for _ in range(3)), layers.Dense(3)),
        VECTOR,
    ),
    "Conv and norm": single(
        lambda: _chain(layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU())
    ),
    "norm and Conv": single(
        lambda: _chain(layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(5, 3))
    ),
    "depthwise and norm": single(
        lambda: _chain(layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.ReLU(6.0))
    ),
    "embedding and LSTM": single(
        lambda: _chain(
            layers.Embedding(VOCABULARY, 4), layers.LSTM(4, unroll=True), layers.Dense(2)
        ),
        IDS,
    ),
    "gate": of(_gate),
    "distances": of(_distances, SEQUENCE, SEQUENCE),
    "dead branch": of(_dead_branch),
    "divided by its mean": of(lambda x: x / (ops.mean(ops.abs(x), (1, 2), keepdims=True) + 0.1)),
    "standardised": of(
        lambda x: (x - ops.mean(x, (1, 2), keepdims=True)) / (ops.std(x, (1, 2), keepdims=True) + 1)
    ),
    "divided by its length": of(
        lambda x: x / ops.maximum(ops.sqrt(ops.sum(x * x, -1, keepdims=True)), 1e-12)
    ),
    "divided by its sum": of(
        lambda x: (lambda y: y / (ops.sum(y, -1, keepdims=True) + 1e-6))(x * x)
    ),
    "divided by itself and 1": of(lambda x: x / (ops.abs(x) + 1.0)),
    "divided by its deviation": of(
        lambda x: (x - ops.mean(x, -1, keepdims=True)) / (ops.std(x, -1, keepdims=True) + 1e-6)
    ),
    "divided by both signs": of(lambda x: x / (x[:, ::-1] + 0.2)),
    "cosine attention": of(_cosine_attention, SEQUENCE),
    "random layers": of(_random_layers, IMAGE),
    "Sequential": lambda name: keras.Sequential(
        [keras.Input(MAP, name="x_0"), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)],
        name=name,
    ),
}

CASES = {**LAYERS, **GRAPHS}
# Younger than the oldest Keras that the tests run on.
_YOUNG = "ContrastLimitedAdaptiveHistogramEqualization"
if not hasattr(layers, _YOUNG):
    del CASES[_YOUNG]

# ------------------------------------------------------------------------------- weights and data

DATA = ("live", "dead", "constant", "huge", "tiny")


KERNELS = (
    "kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings", "vector_u"
)  # fmt: skip


def build(case: str, draw: int = 0) -> keras.Model:
    """The model of a case, with weights of its own that are the same in every process."""
    model = CASES[case](re.sub(r"\W", "_", case))
    rng = np.random.default_rng(zlib.crc32(case.encode()) + draw)
    for weight in model.weights:
        name = weight.path.split("/")[-1]
        if not str(weight.dtype).startswith("float"):
            continue
        if name in ("gamma", "scale", "moving_variance", "variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif name in ("beta", "moving_mean", "bias", "mean", "alpha") and "dead" not in weight.path:
            value = rng.uniform(-0.3, 0.3, weight.shape)
        elif name in KERNELS:
            axes = weight.shape[:2] if weight.shape[-1] == 1 else weight.shape[:-1]
            value = rng.normal(scale=1 / np.sqrt(np.prod(axes)), size=weight.shape)
        else:
            continue
        weight.assign(value.astype("float32"))
    return model


def samples(model: keras.Model, kind: str, count: int, draw: int = 0) -> dict[str, np.ndarray]:
    """Inputs by name, the same ones each time: whole numbers for the inputs that take them."""
    rng = np.random.default_rng(1 + draw)
    found = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        if "int" in tensor.dtype:
            ids = rng.integers(0, VOCABULARY, shape)
            value = {"dead": 0 * ids, "constant": 0 * ids + 3}.get(kind, ids).astype(tensor.dtype)
        else:
            live = rng.normal(size=shape)
            value = {
                "live": live, "dead": 0 * live, "constant": 0 * live + 0.7,
                "huge": 1e6 * live, "tiny": 1e-6 * live,
            }[kind].astype("float32")  # fmt: skip
        found[tensor.name] = value
    return found
