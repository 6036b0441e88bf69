"""Grouped convolutions that the GPU delegate computes wrongly.

It packs channels in fours, and takes a group for a number of whole packs; and of integers it takes
a 1x1 for a product of all channels.

Imports the flatbuffer reader.
"""

from converters.tflite.flatbuffer import Operator

PACK = 4


def grouped(operator: Operator) -> int:
    """The number of groups of a convolution; 1 if it is none, or has shapes that do not fit."""
    image, kernel = (*operator.inputs, None, None)[:2]
    if operator.name != "CONV_2D" or image is None or kernel is None or len(kernel.shape) != 4:
        return 1
    channels, each = (image.shape or (0,))[-1], kernel.shape[-1]
    whole = channels > each > 0 == channels % each
    return channels // each if whole and kernel.shape[0] % (channels // each) == 0 else 1


def mistaken(operator: Operator) -> bool:
    """Whether the delegate is wrong about a grouped convolution."""
    count = grouped(operator)
    return count > 1 and (count != merged(operator) or flat(operator))


def merged(operator: Operator) -> int:
    """The most groups that groups can be put together to, so that all are of whole packs.

    All their own where they are, or where each is of one channel, which is a depthwise convolution.
    """
    count, kernel = grouped(operator), operator.inputs[1]
    if count == 1 or kernel is None:
        return 1
    each = (kernel.shape[0] // count, kernel.shape[-1])
    if each == (1, 1):
        return count
    fitting = (n for n in range(1, count) if count % n == 0 and not any(n * e % PACK for e in each))
    return count // next(fitting, count)


def flat(operator: Operator) -> bool:
    """Whether a grouped convolution is a 1x1 of integers."""
    kernel = operator.inputs[1]
    integers = kernel is not None and kernel.dtype in ("INT8", "UINT8")
    return integers and kernel is not None and kernel.shape[1:3] == (1, 1)
