"""MobileNetV1 with ULSAM after or in place of any block.

Imports Keras (public names only) and its neighbours.

Papers: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, https://arxiv.org/abs/1704.04861; Saini et al., "ULSAM", WACV 2020,
https://arxiv.org/abs/2006.15102.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from ulsam_keras.networks import parts
from ulsam_keras.networks.sites import Block, sites

STEM = 32
# Output channels and stride of the depthwise-separable blocks 1 to 13.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
# The least number of channels that a width multiplier leaves.
FEWEST_CHANNELS = 8


def MobileNetV1(  # noqa: N802, a name as in keras.applications
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    *,
    ulsam_after: Iterable[int] = (),
    ulsam_instead_of: Iterable[int] = (),
    num_splits: int | Mapping[int, int] = 4,
    widths: Sequence[int] | None = None,
    dropout: float = 0.001,
    name: str = "mobilenet_v1",
) -> keras.Model:
    """MobileNetV1 with ULSAM layers after or in place of any of its 13 blocks.

    Block i is a 3x3 depthwise and a 1x1 convolution, each with batch normalization and ReLU. The
    network is equal to the PyTorch ones: symmetric padding where the stride is 2, batch
    normalization with an epsilon of 1e-5. In that it differs from `keras.applications.MobileNet`,
    whose activation also is ReLU6.

    Layer names tell block and role: `stem_conv`, `stem_bn`, `stem_relu`; `block_2_depthwise_pad`
    (stride 2 only), `block_2_depthwise`, `block_2_depthwise_bn`, `block_2_depthwise_relu`,
    `block_2_pointwise`, `block_2_pointwise_bn`, `block_2_pointwise_relu`; `block_11_ulsam`;
    `average_pool`, `dropout`, `classifier`. `block_output_names` gives the last of each block.

    Args:
        input_shape: `(H, W, C)`, H and W at least 32 or `None`. Defaults to `(224, 224, 3)`.
        alpha: Float, the width multiplier: widths are `int(alpha * width)` and at least 8.
            Defaults to `1.0`.
        include_top: Boolean, whether the network ends in its classifier. Defaults to `True`.
        weights: `None`, random weights, or the path of a `.weights.h5` file.
        input_tensor: Symbolic tensor to build the network on, in place of `input_shape`.
        pooling: With `include_top=False`, `None` for the last feature map, `"avg"` or `"max"` for
            a vector. Defaults to `None`.
        classes: Integer, the number of classes. Defaults to 1000.
        classifier_activation: Activation of the classifier; `None` gives logits. Defaults to
            `"softmax"`.
        ulsam_after: Numbers, 1 to 13, of the blocks to put a ULSAM after.
        ulsam_instead_of: Numbers of the blocks that a ULSAM takes the place of. Only blocks with
            stride 1 and as many output as input channels can be replaced: 3, 5, 7 to 11 and 13.
        num_splits: The number of groups of every ULSAM, or a mapping from block number to it.
            Defaults to 4.
        widths: Channels of the stem and of the 13 blocks' outputs, 14 numbers, in place of those
            that follow from `alpha`.
        dropout: Float, the rate before the classifier; 0 leaves the layer out. Defaults to 0.001,
            as in `keras.applications.MobileNet`.
        name: String, the model's name.

    Input shape:
        `(N, H, W, C)`, channels last whatever `keras.config.image_data_format()` says.

    Output shape:
        `(N, classes)`; with `include_top=False` `(N, H / 32, W / 32, C)`, rounded up, or `(N, C)`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If an argument does not fit; the message says what would.

    Example:
    >>> model = MobileNetV1(ulsam_instead_of=(11,), num_splits=8)
    >>> model.get_layer("block_11_ulsam").num_splits
    8
    """
    parts.check_alpha(alpha)
    if widths is None:
        plain = (STEM, *(filters for filters, _ in BLOCKS))
        widths = [max(FEWEST_CHANNELS, int(alpha * filters)) for filters in plain]
    parts.check_widths("widths", widths, "stem and 13 blocks", len(BLOCKS) + 1)
    blocks = [
        Block(channels_in, channels_out, stride)
        for channels_in, channels_out, (_, stride) in zip(
            widths[:-1], widths[1:], BLOCKS, strict=True
        )
    ]
    placed = sites(blocks, ulsam_after, ulsam_instead_of, num_splits)

    inputs = parts.image_input(input_shape, input_tensor)
    x = parts.convolution(inputs, "stem_conv", widths[0], 3, 2, bn_name="stem_bn")
    x = parts.relu(x, "stem_relu")
    for number, block in enumerate(blocks, 1):
        if number in placed.instead_of:
            x = parts.ulsam(x, number, placed.instead_of[number])
        else:
            x = _separable(x, f"block_{number}", block)
        if number in placed.after:
            x = parts.ulsam(x, number, placed.after[number])
    x = parts.top(x, include_top, pooling, dropout, classes, classifier_activation)

    model = parts.model(inputs, input_tensor, x, name)
    parts.load_weights(model, weights)
    return model


def _separable(x: Any, name: str, block: Block) -> Any:
    x = parts.depthwise_convolution(x, f"{name}_depthwise", block.stride)
    x = parts.relu(x, f"{name}_depthwise_relu")
    x = parts.convolution(x, f"{name}_pointwise", block.channels_out)
    return parts.relu(x, f"{name}_pointwise_relu")
