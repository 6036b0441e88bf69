"""Graphs that a runtime refuses or computes wrongly, written as equal ones that it does not.

A table: a pattern, what is written for it, and why. Each was seen with LiteRT 2.3 on the GPU
delegate itself, four on the CPU; the CPU's answers stay what they are, to the bit unless the row
says otherwise. What no row knows is left to `lint`.

Imports the flatbuffer reader and NumPy.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from converters.tflite.flatbuffer import TfliteFile
from converters.tflite.rewrites import (
    apart,
    channels,
    comparisons,
    copies,
    divisors,
    groups,
    padding,
    parts,
    powers,
    products,
    ranks,
    roots,
    softmax,
    strides,
    sums,
)
from converters.tflite.rewrites.edit import Edit


@dataclass(frozen=True)
class Rewrite:
    """One row.

    Attributes:
        name: What it is called.
        pattern: What it looks for.
        replacement: What it writes in its place.
        reason: What the delegate makes of the pattern.
        apply: Does so wherever the pattern is.
    """

    name: str
    pattern: str
    replacement: str
    reason: str
    apply: Callable[[Edit], None]


def rewritten(file: TfliteFile) -> TfliteFile:
    """The file with every pattern of `REWRITES` replaced; itself if there is none.

    Raises:
        ValueError: If the file is damaged.
    """
    edit = Edit(file)
    for rewrite in REWRITES.values():
        try:
            rewrite.apply(edit)
            edit = edit.finished()
        except _UNFITTING as error:
            raise ValueError(
                "The operators of the file have shapes or constants that do not fit each other; "
                f"convert or copy it again. Received: {type(error).__name__} in {rewrite.name!r}"
            ) from error
    return edit.file


# What a row runs into where shapes are not those that the operators compute.
_UNFITTING = (
    ValueError, IndexError, KeyError, StopIteration, ArithmeticError, AttributeError, MemoryError,
    TypeError, struct.error,
)  # fmt: skip


_ROWS = [
    Rewrite(
        "moves",
        "RESHAPE, TILE and TRANSPOSE of more than four dimensions that repeat rows and columns, or "
        "spread channels over blocks",
        "RESIZE_NEAREST_NEIGHBOR; DEPTH_TO_SPACE, after a TRANSPOSE where the channels of a block "
        "are far apart",
        "more than four dimensions are refused",
        ranks.moves,
    ),
    Rewrite(
        "ranks",
        "operators of more than four dimensions, some of which can be one",
        "the same operators of four; a TRANSPOSE as several",
        "more than four dimensions are refused",
        ranks.lower,
    ),
    Rewrite(
        "broadcast",
        "BROADCAST_TO",
        "TILE",
        "the delegate has no BROADCAST_TO",
        products.broadcast,
    ),
    Rewrite(
        "one part",
        "SPLIT into one part",
        "nothing",
        "the process is aborted",
        parts.one_way,
    ),
    Rewrite(
        "parts that meet",
        "SPLIT, SPLIT_V and UNPACK whose parts one sum or concatenation reads, in another order or "
        "not all; whose first part meets another in an elementwise operation; in int8, with a "
        "part that nothing reads",
        "a SLICE for each part",
        "the operators are made one that knows nothing of order and axis, or reads what it "
        "writes; the process crashes",
        parts.meeting,
    ),
    Rewrite(
        "one tensor twice",
        "an operator that reads one tensor twice",
        "a RESHAPE of one of them to its own shape in between",
        "refused, or the process is aborted",
        parts.repeated,
    ),
    Rewrite(
        "cumulative sums",
        "CUMSUM that is exclusive or reversed, along an axis from behind, or along the first of "
        "less than four dimensions",
        "the same without options of what is reversed by REVERSE_V2, or moved by SLICE and PAD, of "
        "four dimensions",
        "the options and the batch are left out; an axis from behind crashes the process",
        sums.cumulative,
    ),
    Rewrite(
        "reversed channels",
        "REVERSE_V2 of more than 4 channels that 4 does not divide",
        "GATHER",
        "the packs of four are reversed with what fills the last up",
        channels.backwards,
    ),
    Rewrite(
        "largest channel",
        "ARG_MAX along channels that 4 does not divide, of values that may be below 0",
        "PADV2 with the least number before it, up to a multiple of 4",
        "what fills the last four up is 0, which is the largest where all are below",
        channels.largest,
    ),
    Rewrite(
        "choice by a constant",
        "SELECT_V2 of several samples by a constant of less dimensions",
        "the constant with as many dimensions",
        "the constant's first dimension is taken for the batch",
        channels.conditions,
    ),
    Rewrite(
        "padded samples",
        "PAD, PADV2 and MIRROR_PAD of three dimensions, the first of more than 1",
        "the same of four dimensions, between RESHAPEs",
        "other dimensions are padded",
        padding.samples,
    ),
    Rewrite(
        "padded maximum",
        "PAD or PADV2 before MAX_POOL_2D in float, of values that may be less than the padding",
        "MAXIMUM with the least number in between",
        "the padding becomes the pool's own, which does not count",
        padding.maximum,
    ),
    Rewrite(
        "padded mean",
        "PAD or PADV2 before AVERAGE_POOL_2D in float",
        "a depthwise convolution, equal to a rounding of float32",
        "the padding becomes the pool's own, which does not count",
        padding.mean,
    ),
    Rewrite(
        "padded convolution",
        "PADV2 with other numbers than 0 before a convolution or FULLY_CONNECTED in float",
        "MAXIMUM with the least number in between",
        "the padding becomes the convolution's own, which is of zeros",
        padding.convolution,
    ),
    Rewrite(
        "strided 1x1",
        "CONV_2D of integers, 1x1 with a stride",
        "a 1x1 MAX_POOL_2D with the stride before it",
        "the stride is forgotten",
        strides.pointwise,
    ),
    Rewrite(
        "groups of channels",
        "CONV_2D of groups whose channels or filters are no multiple of 4; in int8, 1x1 of groups",
        "as few groups together as make it one, with weights of 0 between them; a kernel of 1x2 "
        "whose second column is 0",
        "a group is taken for a number of four channels, and the process crashes or says why the "
        "answer is wrong in its log; the groups are forgotten",
        groups.of_packs,
    ),
    Rewrite(
        "1x1 with a multiplier",
        "DEPTHWISE_CONV_2D, 1x1, of several outputs for each input",
        "a kernel of 1x2 whose second column is 0",
        "the outputs are taken for those of other inputs",
        products.multiplied,
    ),
    Rewrite(
        "shared heads",
        "BATCH_MATMUL of many matrices with one",
        "one product of all their rows, in a RESHAPE; or copies of the one, by TILE",
        "all but the first are wrong",
        products.shared,
    ),
    Rewrite(
        "constant along the batch",
        "an elementwise operator with a constant, of which one has less than four dimensions and "
        "the constant lies along the first",
        "the same of four dimensions, between RESHAPEs",
        "the constant is taken along another dimension",
        products.elementwise,
    ),
    Rewrite(
        "power of a number",
        "POW of 2 or 3 with a tensor for the exponent",
        "their square to half of it",
        "the number is taken for the exponent: 2 ** x is computed as x ** 2",
        powers.of_number,
    ),
    Rewrite(
        "power of what is below 0",
        "POW of floats that may be below 0 with a whole exponent other than 2 and 3",
        "the power of ABS; x * |x| ** (n - 1) of an odd one, and one by that where n is below 0; "
        "equal to a few roundings of float32",
        "the sign of numbers below 0 is lost, or the answer is NaN, by the driver",
        powers.negative,
    ),
    Rewrite(
        "small power",
        "POW of floats that may be 0 with exponents below 0.13",
        "the power times the SIGN of its base",
        "0 ** 0.01 is computed as 0.41",
        powers.small,
    ),
    Rewrite(
        "log-softmax",
        "LOG_SOFTMAX of floats",
        "x - max - log(sum(exp(x - max))), equal to a few roundings of float32",
        "the delegate has no log-softmax",
        softmax.logarithm,
    ),
    Rewrite(
        "two for one",
        "in float, a sum of two tensors that a reduction or a mean of a whole image reads, and a "
        "convolution, FULLY_CONNECTED or BATCH_MATMUL by a constant with a sum or product with "
        "constants before or after it, where what is between is an output; a maximum of such a "
        "sum; constants of several channels, or padded channels, beside what is repeated along "
        "them",
        "MAXIMUM with the least number in between",
        "the two are made one, which does not write what is between, begins a maximum with one of "
        "the summed, and has no broadcast",
        apart.mistaken,
    ),
    Rewrite(
        "bounded root",
        "RSQRT of floats and MINIMUM with a number: normalisation by a length that may be 0",
        "MAXIMUM before the RSQRT, equal to a rounding of float32",
        "on the CPU, XNNPACK's answer is NaN for 0",
        roots.bounded,
    ),
    Rewrite(
        "copies",
        "an operator that copies integers into a result of another scale or zero point: REVERSE_V2 "
        "before a maximum, as TensorFlow's converter has it; what meets in a maximum or a "
        "concatenation, where it has a range of its own",
        "the same with the steps of what is copied, then a QUANTIZE; with a QUANTIZE before it "
        "where what meets has several; the CPU's answers change",
        "on the CPU, the integers are read as other numbers than they were",
        copies.requantized,
    ),
    Rewrite(
        "divisor",
        "DIV of integers by a tensor that may be 0: by a length, a sum, a deviation",
        "MAXIMUM with one step before it, or in place of a lesser one that is there; of both "
        "signs EQUAL and SELECT_V2; the quotients of all others are the same",
        "on the CPU, the run fails where a divisor is rounded to 0",
        divisors.above_zero,
    ),
    Rewrite(
        "comparison",
        "EQUAL, LESS and the like of computed integers of steps below 1/512, or of steps of 1 and "
        "more",
        "the same of floats, after a DEQUANTIZE; the CPU's answers change",
        "on the CPU, numbers are compared as multiples of 1/256, by a kernel that has no steps of "
        "1: several are one, or others, and steps of exactly 1 abort the process",
        comparisons.of_numbers,
    ),
]

REWRITES: dict[str, Rewrite] = {row.name: row for row in _ROWS}
