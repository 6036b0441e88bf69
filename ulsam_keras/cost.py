"""What a ULSAM costs, as the paper's formulae say. Imports the standard library only."""

import math


def parameters(channels: int, num_splits: int) -> int:
    """The learned numbers of a ULSAM: two convolutions and two normalizations."""
    return 5 * channels + 3 * num_splits


def multiply_adds(*sizes: int) -> int:
    """The multiply-adds of a ULSAM on one map, of its height, width and channels in any order.

    The depthwise convolution, the scores, and `x * a + x` do one each for every value.
    """
    return 3 * math.prod(sizes)
