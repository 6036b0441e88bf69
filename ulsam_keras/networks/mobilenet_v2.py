"""MobileNetV2 with ULSAM after or in place of any bottleneck.

Imports Keras (public names only) and its neighbours.

Papers: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
https://arxiv.org/abs/1801.04381; Saini et al., "ULSAM", WACV 2020,
https://arxiv.org/abs/2006.15102.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import layers

from ulsam_keras.networks import parts
from ulsam_keras.networks.sites import Block, sites

STEM = 32
HEAD = 1280
# Output channels and stride of the bottlenecks 1 to 17.
BLOCKS = (
    (16, 1),
    (24, 2),
    (24, 1),
    (32, 2),
    *[(32, 1)] * 2,
    (64, 2),
    *[(64, 1)] * 3,
    *[(96, 1)] * 3,
    (160, 2),
    *[(160, 1)] * 2,
    (320, 1),
)
# How many times as many channels a bottleneck has inside as at its input; the first has as many.
EXPANSION = 6


def MobileNetV2(  # noqa: N802, a name as in keras.applications
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
    hidden_widths: Sequence[int | None] | None = None,
    dropout: float = 0.2,
    name: str = "mobilenet_v2",
) -> keras.Model:
    """MobileNetV2 with ULSAM layers after or in place of any of its 17 bottlenecks.

    A bottleneck is a 1x1 convolution that expands the channels, a 3x3 depthwise one and a 1x1 one
    that projects them, each with batch normalization, the first two with ReLU6, and the addition
    of the input where the shapes agree. The network is equal to the PyTorch ones: symmetric padding
    where the stride is 2, batch normalization with an epsilon of 1e-5. In these two it differs
    from `keras.applications.MobileNetV2`.

    Layer names tell block and role: `stem_conv`, `stem_bn`, `stem_relu`; `block_2_expand`,
    `block_2_expand_bn`, `block_2_expand_relu`, `block_2_depthwise_pad` (stride 2 only),
    `block_2_depthwise`, `block_2_depthwise_bn`, `block_2_depthwise_relu`, `block_2_project`,
    `block_2_project_bn`, `block_3_add`; `block_12_ulsam`; `head_conv`, `head_bn`, `head_relu`;
    `average_pool`, `dropout`, `classifier`. `block_output_names` gives the last of each block.

    Args:
        input_shape: `(H, W, C)`, H and W at least 32 or `None`. Defaults to `(224, 224, 3)`.
        alpha: Float, the width multiplier. Widths are rounded to the nearest multiple of 8, up
            where that would lose more than a tenth, and the head is not made narrower, as in
            torchvision and in `keras.applications`. Defaults to `1.0`.
        include_top: Boolean, whether the network ends in its classifier. Defaults to `True`.
        weights: `None`, random weights, or the path of a `.weights.h5` file.
        input_tensor: Symbolic tensor to build the network on, in place of `input_shape`.
        pooling: With `include_top=False`, `None` for the last feature map, `"avg"` or `"max"` for
            a vector. Defaults to `None`.
        classes: Integer, the number of classes. Defaults to 1000.
        classifier_activation: Activation of the classifier; `None` gives logits. Defaults to
            `"softmax"`.
        ulsam_after: Numbers, 1 to 17, of the bottlenecks to put a ULSAM after.
        ulsam_instead_of: Numbers of the bottlenecks that a ULSAM takes the place of. Only those
            with stride 1 and as many output as input channels can be replaced: 3, 5, 6, 8, 9, 10,
            12, 13, 15 and 16, and with a small `alpha` perhaps others.
        num_splits: The number of groups of every ULSAM, or a mapping from block number to it.
            Defaults to 4.
        widths: Channels of the stem, of the 17 bottlenecks' outputs and of the head, 19 numbers,
            in place of those that follow from `alpha`. Networks differ in their rounding.
        hidden_widths: Channels inside the 17 bottlenecks, after the expansion; `None` stands for a
            bottleneck without an expanding convolution, whose hidden channels are its input's.
            Defaults to `None` for the first and 6 times the input's channels for the others.
        dropout: Float, the rate before the classifier; 0 leaves the layer out. Defaults to 0.2, as
            in torchvision.
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
    >>> backbone = MobileNetV2((96, 96, 3), include_top=False, ulsam_after=(14,))
    >>> backbone.output_shape
    (None, 3, 3, 1280)
    >>> features = keras.Model(backbone.input, backbone.get_layer("block_14_ulsam").output)
    """
    parts.check_alpha(alpha)
    if widths is None:
        widths = [
            *(_rounded(alpha * filters) for filters in (STEM, *(filters for filters, _ in BLOCKS))),
            _rounded(max(1.0, alpha) * HEAD),
        ]
    parts.check_widths("widths", widths, "stem, 17 bottlenecks, head", len(BLOCKS) + 2)
    blocks = [
        Block(channels_in, channels_out, stride)
        for channels_in, channels_out, (_, stride) in zip(
            widths[:-2], widths[1:-1], BLOCKS, strict=True
        )
    ]
    if hidden_widths is None:
        hidden_widths = [None, *(EXPANSION * block.channels_in for block in blocks[1:])]
    parts.check_widths("hidden_widths", hidden_widths, "17 bottlenecks", len(BLOCKS))
    placed = sites(blocks, ulsam_after, ulsam_instead_of, num_splits)

    inputs = parts.image_input(input_shape, input_tensor)
    x = parts.convolution(inputs, "stem_conv", widths[0], 3, 2, bn_name="stem_bn")
    x = _relu6(x, "stem_relu")
    for number, (block, hidden) in enumerate(zip(blocks, hidden_widths, strict=True), 1):
        if number in placed.instead_of:
            x = parts.ulsam(x, number, placed.instead_of[number])
        else:
            x = _bottleneck(x, f"block_{number}", block, hidden)
        if number in placed.after:
            x = parts.ulsam(x, number, placed.after[number])
    x = parts.convolution(x, "head_conv", widths[-1], bn_name="head_bn")
    x = _relu6(x, "head_relu")
    x = parts.top(x, include_top, pooling, dropout, classes, classifier_activation)

    model = parts.model(inputs, input_tensor, x, name)
    parts.load_weights(model, weights)
    return model


def _bottleneck(inputs: Any, name: str, block: Block, hidden: int | None) -> Any:
    x = inputs
    if hidden is not None:
        x = parts.convolution(x, f"{name}_expand", hidden)
        x = _relu6(x, f"{name}_expand_relu")
    x = parts.depthwise_convolution(x, f"{name}_depthwise", block.stride)
    x = _relu6(x, f"{name}_depthwise_relu")
    x = parts.convolution(x, f"{name}_project", block.channels_out)
    return layers.Add(name=f"{name}_add")([inputs, x]) if block.keeps_shape else x


def _relu6(x: Any, name: str) -> Any:
    return parts.relu(x, name, max_value=6.0)


def _rounded(width: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, up where that would lose more than a tenth."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * width else rounded + divisor
