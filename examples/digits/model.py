"""The digits network in Keras: the twin of `network.py`, layer by layer.

Every layer with weights bears the name of its PyTorch module, with `_` for dots, so that the
weights of a checkpoint are found by name. Imports keras and ulsam_keras only.
"""

import keras
from keras import layers

from ulsam_keras import ULSAM

CLASSES = 10
NUM_SPLITS = 4
# PyTorch's default in every batch normalization; Keras's own is 1e-3.
BATCH_NORM_EPSILON = 1e-5


def build() -> keras.Model:
    """Builds the network: `(N, 32, 32, 3)` floats in [0, 1] in, `(N, 10)` logits out."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = conv_norm(inputs, 16, "stem", kernel_size=3, stride=2)
    x = bottleneck(x, 16, "block1")
    x = ULSAM(NUM_SPLITS, name="ulsam1")(x)
    x = bottleneck(x, 32, "block2", stride=2)
    x = bottleneck(x, 32, "block3")
    x = ULSAM(NUM_SPLITS, name="ulsam2")(x)
    x = bottleneck(x, 48, "block4")
    x = ULSAM(NUM_SPLITS, name="ulsam3")(x)
    x = conv_norm(x, 96, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(CLASSES, name="classifier")(x)
    return keras.Model(inputs, outputs, name="digits_ulsam")


def conv_norm(x, filters, name, kernel_size=1, stride=1, activate=True):
    """Convolution, batch normalization and ReLU6; `filters=None` is a depthwise convolution."""
    # At stride 2, Keras's "same" pads one side only, PyTorch's padding=1 both.
    padding = "valid" if stride > 1 else "same"
    if stride > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    options = {"strides": stride, "padding": padding, "use_bias": False, "name": f"{name}_conv"}
    if filters is None:
        x = layers.DepthwiseConv2D(kernel_size, **options)(x)
    else:
        x = layers.Conv2D(filters, kernel_size, **options)(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=BATCH_NORM_EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(x) if activate else x


def bottleneck(x, filters, name, stride=1):
    """MobileNetV2's inverted residual, expanding the channels by a factor of four."""
    y = conv_norm(x, 4 * x.shape[-1], f"{name}_expand")
    y = conv_norm(y, None, f"{name}_depthwise", kernel_size=3, stride=stride)
    y = conv_norm(y, filters, f"{name}_project", activate=False)
    if stride == 1 and x.shape[-1] == filters:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y
