"""What the bridge covers: a small model for every layer class, option, operation and activation."""

import keras
import numpy as np
from keras import layers, ops

from ulsam_keras import ULSAM, SubSpace
from ulsam_keras.quantization.bridge.activations import ACTIVATIONS

MAP = (8, 6, 4)
FAMILIES = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"minimalistic": True},
    "MobileNetV3Large": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "DenseNet121": {},
}
# The layer by which each has shown all its kinds of blocks, more of the same after it.
SHOWN_BY = {
    "MobileNet": "conv_pw_6_relu",
    "MobileNetV2": "block_2_add",
    "MobileNetV3Small": "expanded_conv_5_add",
    "MobileNetV3Large": "expanded_conv_4_add",
    "EfficientNetB0": "block2b_add",
    "EfficientNetV2B0": "block2b_add",
    "ResNet50": "conv2_block2_out",
    "ResNet50V2": "conv2_block3_out",
    "DenseNet121": "conv3_block4_concat",
}


def of(function, *shapes):
    """A functional model of one call."""
    inputs = [keras.Input(shape) for shape in (shapes or (MAP,))]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], function(*inputs))


def on_list(layer):
    return lambda *x: layer(list(x))


# The coverage table: every layer class and option that is bridged, and a model with it.
LAYERS = {
    "Conv2D": of(layers.Conv2D(5, 3, strides=2, padding="same")),
    "Conv2D dilated": of(layers.Conv2D(5, 3, dilation_rate=2, use_bias=False)),
    "Conv2D regularized": of(
        layers.Conv2D(5, 3, kernel_regularizer="l2", bias_regularizer=keras.regularizers.L1(0.1))
    ),
    "Conv2D constrained": of(layers.Conv2D(5, 3, kernel_constraint=keras.constraints.MaxNorm(2))),
    "Conv2DTranspose": of(layers.Conv2DTranspose(5, 3, strides=2, padding="same")),
    "DepthwiseConv2D": of(layers.DepthwiseConv2D(3, padding="same")),
    "DepthwiseConv2D multiplied": of(layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "SeparableConv2D": of(
        layers.SeparableConv2D(5, 3, depth_multiplier=2, strides=2, activation="relu")
    ),
    "Dense": of(layers.Dense(3, activation="softmax"), (7,)),
    "Dense on maps": of(layers.Dense(3, use_bias=False)),
    "BatchNormalization": of(layers.BatchNormalization(epsilon=0.1)),
    "BatchNormalization bare": of(layers.BatchNormalization(scale=False, center=False)),
    "BatchNormalization of vectors": of(layers.BatchNormalization(), (7,)),
    "ReLU": of(layers.ReLU()),
    "ReLU limited": of(layers.ReLU(0.7, 0.1, 0.2)),
    "LeakyReLU": of(layers.LeakyReLU(0.17)),
    "PReLU": of(layers.PReLU(shared_axes=(1, 2))),
    "ELU": of(layers.ELU(0.5)),
    "Softmax": of(layers.Softmax()),
    "MaxPooling2D": of(layers.MaxPooling2D(3, 2, "same")),
    "AveragePooling2D": of(layers.AveragePooling2D(3, 2, "same")),
    "GlobalAveragePooling2D": of(layers.GlobalAveragePooling2D(keepdims=True)),
    "GlobalMaxPooling2D": of(layers.GlobalMaxPooling2D()),
    "Dropout": of(layers.Dropout(0.5)),
    "SpatialDropout2D": of(layers.SpatialDropout2D(0.5)),
    "GaussianNoise": of(layers.GaussianNoise(0.5)),
    "GaussianDropout": of(layers.GaussianDropout(0.5)),
    "Flatten": of(layers.Flatten()),
    "Reshape": of(layers.Reshape((4, -1))),
    "Permute": of(layers.Permute((3, 1, 2))),
    "ZeroPadding2D": of(layers.ZeroPadding2D(((0, 1), (2, 0)))),
    "Cropping2D": of(layers.Cropping2D(((0, 1), (2, 0)))),
    "UpSampling2D": of(layers.UpSampling2D((2, 3))),
    "UpSampling2D bilinear": of(layers.UpSampling2D(2, interpolation="bilinear")),
    "Concatenate": of(on_list(layers.Concatenate()), MAP, MAP),
    "Concatenate of rows": of(on_list(layers.Concatenate(axis=1)), MAP, MAP),
    "Activation": of(layers.Activation("relu")),
    "Identity": of(lambda x: layers.ReLU()(layers.Identity()(x))),
    "Add": of(on_list(layers.Add()), MAP, MAP, MAP),
    "Average": of(on_list(layers.Average()), MAP, MAP, MAP),
    "Maximum": of(on_list(layers.Maximum()), MAP, MAP),
    "Minimum": of(on_list(layers.Minimum()), MAP, MAP),
    "Multiply": of(on_list(layers.Multiply()), MAP, (1, 1, 4)),
    "Subtract": of(on_list(layers.Subtract()), MAP, MAP),
    "Rescaling": of(layers.Rescaling(0.3)),
    "Rescaling shifted": of(layers.Rescaling(0.3, -1)),
    "Rescaling per channel": of(layers.Rescaling([1, 2, 3, 4], [4, 3, 2, 1])),
    "Rescaling of vectors": of(layers.Rescaling(0.3, -1), (7,)),
    "Normalization": of(layers.Normalization()),
    "Normalization of constants": of(
        layers.Normalization(mean=(1, 2, 3, 4), variance=(4, 3, 2, 1))
    ),
    "Normalization inverted": of(layers.Normalization(mean=2.0, variance=3.0, invert=True)),
}
OPERATION_CALLS = {
    "Add": lambda x: x + 3.0,
    "Add of tensors": lambda x: x + ops.relu(x),
    "Add per channel": lambda x: x + np.float32([1, 2, 3, 4]),
    "Subtract": lambda x: x - 3.0,
    "Subtract turned": lambda x: 3.0 - x,
    "Multiply": lambda x: x * (1 / 6),
    "Divide": lambda x: ops.divide(x, 6.0),
    "TrueDivide": lambda x: x / 6.0,
    "Maximum": lambda x: ops.maximum(x * 0.7, ops.tanh(x)),
    "Minimum": lambda x: ops.minimum(x * 0.7, ops.tanh(x)),
    "Negative": lambda x: -x,
    "Relu": ops.relu,
    "Relu6": lambda x: ops.relu6(x * 9),
    "ReLU": lambda x: keras.activations.relu(x, negative_slope=0.1, max_value=0.6),
    "LeakyRelu": lambda x: ops.leaky_relu(x, 0.15),
    "Elu": lambda x: ops.elu(x, 0.5),
    "Sigmoid": ops.sigmoid,
    "Tanh": ops.tanh,
    "Silu": ops.silu,
    "HardSigmoid": lambda x: ops.hard_sigmoid(x * 3),
    "HardSilu": lambda x: ops.hard_silu(x * 3),
    "Gelu": lambda x: ops.gelu(x, approximate=False),
    "Softmax": ops.softmax,
    "Concatenate": lambda x: ops.concatenate([x, -x], axis=-1),
    "Reshape": lambda x: ops.reshape(x, (-1, 12, 16)),
    "Transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "Mean": lambda x: ops.mean(x, (1, 2)),
    "Max": lambda x: ops.max(x, (1, 2), keepdims=True),
    "Pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
}
# Calls that say more of the int8 model than of the bridge.
COMBINED = {
    "Dense and norm": of(
        lambda x: layers.Dense(3)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(x)))),
        (7,),
    ),
    "norm after a pool": of(
        lambda x: layers.BatchNormalization()(layers.AveragePooling2D(2)(layers.Conv2D(8, 3)(x)))
    ),
    "ULSAM": of(ULSAM(2)),
    "ULSAM channels first": of(ULSAM(2, data_format="channels_first"), (4, 8, 6)),
    "ULSAM on one position": of(ULSAM(2), (1, 1, 4)),
    "SubSpace": of(SubSpace()),
}


def models():
    """Every case by name: layers, operations, activations, and some together."""
    return {
        **LAYERS,
        **COMBINED,
        **{f"operation {name}": of(call) for name, call in OPERATION_CALLS.items()},
        **{f"activation {name}": of(layers.Conv2D(4, 1, activation=name)) for name in ACTIVATIONS},
    }
