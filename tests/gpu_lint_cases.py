"""What the GPU delegate computes wrongly, and the nearest neighbour that it computes rightly.

By reason code, graphs of a few operators; the smallest that the sweep's findings came down to.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lint_graphs import T, build

MAP = (1, 6, 5, 8)
HALF = (1, 6, 5, 4)
PADDED = (1, 8, 7, 8)
_drawn = np.random.default_rng(0)


def values(*shape):
    """A constant of random numbers."""
    return T(shape, value=_drawn.normal(size=shape))


def options(kind, **settings):
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in settings.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def convolution(x, kernel, bias, y, stride=1):
    settings = {"strideH": stride, "strideW": stride, "padding": 1}
    rates = {"dilationHFactor": 1, "dilationWFactor": 1}
    return ("CONV_2D", [x, kernel, bias], [y], options("Conv2D", **settings, **rates))


def dense(x, kernel, bias, y, keep=True):
    return ("FULLY_CONNECTED", [x, kernel, bias], [y], options("FullyConnected", keepNumDims=keep))


def both(operator, a, b, y):
    return (operator, [a, b], [y], options(operator.title()))


def pad(x, amounts, y):
    return ("PAD", [x, amounts], [y], options("Pad"))


def around(*amounts):
    """What is padded, before and after each dimension."""
    return T((4, 2), "INT32", np.reshape(amounts, (4, 2)))


BORDER = around(0, 0, 1, 1, 1, 1, 0, 0)


def pool(operator, x, y):
    size = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
    return (operator, [x], [y], options("Pool2D", **size))


def padded_pool(*, between):
    tensors = {"x": T(MAP), "p": BORDER, "m": T(PADDED), "r": T(PADDED), "y": T((1, 4, 3, 8))}
    calls = [pad("x", "p", "m"), pool("AVERAGE_POOL_2D", "r" if between else "m", "y")]
    calls[1:1] = [("RELU", ["m"], ["r"])] * between
    return build(tensors, calls, ["x"], ["y"])


def padded_below(rows):
    """A pool of 2x2 of an image of 6 rows and some of padding."""
    sizes = T((1, 6 + rows, 5, 8)), T((1, 3 + rows // 2, 2, 8))
    tensors = {"x": T(MAP), "p": around(0, 0, 0, rows, 0, 0, 0, 0), "m": sizes[0], "y": sizes[1]}
    calls = [pad("x", "p", "m"), pool("AVERAGE_POOL_2D", "m", "y")]
    return build(tensors, calls, ["x"], ["y"])


def padded_constant(number):
    tensors = {"x": T(MAP), "p": BORDER, "v": T((1,), value=number), "m": T(PADDED)}
    tensors |= {"k": values(8, 3, 3, 8), "b": values(8), "y": T(MAP)}
    padding = ("PADV2", ["x", "p", "v"], ["m"], options("PadV2"))
    return build(tensors, [padding, convolution("m", "k", "b", "y")], ["x"], ["y"])


def padded_dense(number):
    tensors = {"x": T(MAP), "p": BORDER, "v": T((1,), value=number), "m": T(PADDED)}
    tensors |= {"k": values(4, 8), "b": values(4), "y": T((1, 8, 7, 4))}
    padding = ("PADV2", ["x", "p", "v"], ["m"], options("PadV2"))
    return build(tensors, [padding, dense("m", "k", "b", "y")], ["x"], ["y"])


def whole_map(*, flattened):
    tensors = {"x": T(MAP), "v": T((1, 240)), "s": T((2,), "INT32", [1, 240])}
    tensors |= {"k": values(4, 240), "b": values(4), "y": T((1, 4))}
    calls = [("RESHAPE", ["x", "s"], ["v"], options("Reshape"))] * flattened
    calls.append(dense("v" if flattened else "x", "k", "b", "y", keep=False))
    return build(tensors, calls, ["x"], ["y"])


def padded_batch(batch):
    amounts, shape = around(0, 1, 0, 0, 0, 0, 0, 0), (batch, 6, 5, 8)
    tensors = {"x": T(shape), "p": amounts, "y": T((batch + 1, 6, 5, 8))}
    return build(tensors, [pad("x", "p", "y")], ["x"], ["y"])


def padded_samples(count, operator="PAD"):
    tensors = {"x": T((count, 6, 8)), "y": T((count, 9, 8))}
    tensors["p"] = T((3, 2), "INT32", [[0, 0], [1, 2], [0, 0]])
    made = options("MirrorPad", mode=0) if operator == "MIRROR_PAD" else options("Pad")
    return build(tensors, [(operator, ["x", "p"], ["y"], made)], ["x"], ["y"])


def padded_sum(channels):
    """12 channels, 4 of them padded, and a map of some channels, added."""
    tensors = {"x": T(MAP), "p": around(0, 0, 0, 0, 0, 0, 0, 4), "m": T((1, 6, 5, 12))}
    tensors |= {"k": values(channels, 1, 1, 8), "b": values(channels)}
    tensors |= {"h": T((1, 6, 5, channels)), "y": T((1, 6, 5, 12))}
    calls = [pad("x", "p", "m"), convolution("x", "k", "b", "h"), both("ADD", "m", "h", "y")]
    return build(tensors, calls, ["x"], ["y"])


def product(x, matrix, y, **settings):
    return ("BATCH_MATMUL", [x, matrix], [y], options("BatchMatMul", **settings))


def turned_product(**settings):
    """A square matrix on square images, so that it fits either way."""
    shape = (1, 6, 8, 8)
    tensors = {"x": T(shape), "k": values(8, 8), "y": T(shape)}
    return build(tensors, [product("x", "k", "y", **settings)], ["x"], ["y"])


def folded_broadcast(channels):
    tensors = {"x": T(MAP), "k": values(channels, 1, 1, 8), "b": values(channels)}
    tensors |= {"m": T((1, 6, 5, channels)), "c": values(8), "y": T(MAP)}
    calls = [convolution("x", "k", "b", "m"), both("MUL", "m", "c", "y")]
    return build(tensors, calls, ["x"], ["y"])


def folded_sum(channels, by):
    """A mean of some channels and a constant of 8, in a sum before a Dense or a product before."""
    tensors = {"x": T(MAP), "axes": T((1,), "INT32", 3 if channels == 1 else 0), "b": values(4)}
    tensors |= {"g": T((1, 6, 5, channels)), "c": values(8), "m": T(MAP), "y": T((1, 6, 5, 4))}
    first = both("ADD" if by == "Dense" else "MUL", "g", "c", "m")
    last = dense("m", "k", "b", "y") if by == "Dense" else product("m", "k", "y")
    tensors["k"] = values(4, 8) if by == "Dense" else values(8, 4)
    mean = ("MEAN", ["x", "axes"], ["g"], options("Reducer", keepDims=True))
    return build(tensors, [mean, first, last], ["x"], ["y"])


def padded_output(*, kept):
    """A padded image that is an output, and what a Dense makes of it, or of something between."""
    tensors = {"x": T(MAP), "p": BORDER, "m": T(PADDED), "r": T(PADDED)}
    tensors |= {"k": values(4, 8), "b": values(4), "y": T((1, 8, 7, 4))}
    calls = [pad("x", "p", "m"), dense("r" if kept else "m", "k", "b", "y")]
    calls[1:1] = [("TANH", ["m"], ["r"])] * kept
    return build(tensors, calls, ["x"], ["m", "y"])


def inner_output(operator):
    tensors = {"x": T(MAP), "k": values(8, 1, 1, 8), "b": values(8), "m": T(MAP)}
    tensors |= {"c": values(8), "y": T(MAP)}
    after = both("MUL", "m", "c", "y") if operator == "MUL" else ("TANH", ["m"], ["y"])
    return build(tensors, [convolution("x", "k", "b", "m"), after], ["x"], ["m", "y"])


def product_output(operator):
    """What is made of a map and a constant, which is an output, and its product with a matrix."""
    tensors = {"x": T(MAP), "a": T(MAP), "c": values(8), "m": T(MAP), "k": values(8, 4)}
    calls = [("TANH", ["x"], ["a"]), both(operator, "a", "c", "m"), product("m", "k", "y")]
    return build(tensors | {"y": T((1, 6, 5, 4))}, calls, ["x"], ["m", "y"])


def dense_output(rank):
    """A sum with a constant, which is an output, and a Dense of it."""
    shape = MAP[4 - rank :] if rank > 2 else (1, 8)
    tensors = {"x": T(shape), "a": T(shape), "c": values(8), "m": T(shape), "k": values(4, 8)}
    tensors |= {"b": values(4), "y": T((*shape[:-1], 4))}
    calls = [("TANH", ["x"], ["a"]), both("ADD", "a", "c", "m"), dense("m", "k", "b", "y")]
    return build(tensors, calls, ["x"], ["m", "y"])


def summed_output(reduction, *, given=MAP, total="ADD"):
    """A sum of two maps, which is an output, and a reduction of it, or a mean over a window."""
    tensors = {"x": T(MAP), "a": T(MAP), "h": T(given), "m": T(MAP), "axes": T((1,), "INT32", 1)}
    other = ("ABS", ["x"], ["h"])
    if given != MAP:
        other = ("MEAN", ["x", "axes"], ["h"], options("Reducer", keepDims=True))
    last = (reduction, ["m", "axes"], ["y"], options("Reducer"))
    tensors["y"] = T((1, 5, 8))
    if not isinstance(reduction, str):
        height, width = reduction
        window = {"filterHeight": height, "filterWidth": width, "strideH": 1, "strideW": 1}
        last = ("AVERAGE_POOL_2D", ["m"], ["y"], options("Pool2D", padding=1, **window))
        tensors["y"] = T((1, 7 - height, 6 - width, 8))
    added = ("ADD_N", ["a", "h"], ["m"]) if total == "ADD_N" else both(total, "a", "h", "m")
    return build(tensors, [("TANH", ["x"], ["a"]), other, added, last], ["x"], ["m", "y"])


def output_twice(first):
    tensors = {"x": T(MAP), "y": T(MAP), "z": T(MAP), "w": T(MAP)}
    calls = [("TANH", ["x"], ["y"]), ("ABS", ["x"], ["z"]), ("NEG", ["x"], ["w"])]
    return build(tensors, calls, ["x"], [first, "z", "y"])


def split(x, *parts):
    return ("SPLIT", ["axis", x], [*parts], options("Split", numSplits=len(parts)))


PARTS = {"x": T(MAP), "a": T(MAP), "axis": T((), "INT32", 3), "p": T(HALF), "q": T(HALF)}


def split_joined(*order):
    calls = [
        ("TANH", ["x"], ["a"]),
        split("a", "p", "q"),
        ("CONCATENATION", [*order], ["y"], options("Concatenation", axis=3)),
    ]
    return build(PARTS | {"y": T(MAP)}, calls, ["x"], ["y"])


def split_mixed(changed, other):
    """One part times the sigmoid of the other."""
    calls = [
        ("TANH", ["x"], ["a"]),
        split("a", "p", "q"),
        ("LOGISTIC", [changed], ["s"]),
        both("MUL", "s", other, "y"),
    ]
    return build(PARTS | {"s": T(HALF), "y": T(HALF)}, calls, ["x"], ["y"])


def split_viewed():
    """The sigmoid of one part times the other, which has another shape in between."""
    shape = (1, 6, 1, 20)
    tensors = {"t": T((4,), "INT32", shape), "b": T((4,), "INT32", HALF), "f": T(shape)}
    calls = [
        ("TANH", ["x"], ["a"]),
        ("SPLIT_V", ["a", "sizes", "axis"], ["p", "q"], options("SplitV", numSplits=2)),
        ("LOGISTIC", ["p"], ["s"]),
        ("RESHAPE", ["q", "t"], ["f"], options("Reshape", newShape=shape)),
        ("RESHAPE", ["f", "b"], ["r"], options("Reshape", newShape=HALF)),
        both("MUL", "s", "r", "y"),
    ]
    tensors |= {"sizes": T((2,), "INT32", 4), "s": T(HALF), "r": T(HALF), "y": T(HALF)}
    return build(PARTS | tensors, calls, ["x"], ["y"])


def integers(*shape, value=None):
    """A tensor of int8 numbers of 1/32."""
    return T(shape, "INT8", value, 1 / 32)


def between_floats(tensors, calls, outputs):
    """A graph of integers with float ends."""
    ends = {f"{name}_float": T(tensors[name].shape) for name in outputs}
    calls = [
        ("QUANTIZE", ["in"], ["x"], options("Quantize")),
        *calls,
        *(("DEQUANTIZE", [name], [f"{name}_float"], options("Dequantize")) for name in outputs),
    ]
    tensors = {"in": T(MAP), "x": integers(*MAP)} | tensors | ends
    return build(tensors, calls, ["in"], [*ends])


def split_unread(*outputs):
    tensors = {"axis": T((), "INT32", 3), "p": integers(*HALF), "q": integers(*HALF)}
    return between_floats(tensors, [split("x", "p", "q")], outputs)


def pointwise_depthwise(size):
    tensors = {"x": T(MAP), "k": values(1, size, size, 16), "b": values(16), "y": T((1, 6, 5, 16))}
    settings = {"strideH": 1, "strideW": 1, "padding": 0, "depthMultiplier": 2}
    rates = {"dilationHFactor": 1, "dilationWFactor": 1}
    made = options("DepthwiseConv2D", **settings, **rates)
    return build(tensors, [("DEPTHWISE_CONV_2D", ["x", "k", "b"], ["y"], made)], ["x"], ["y"])


def steep_leak(slope):
    call = ("LEAKY_RELU", ["x"], ["y"], options("LeakyRelu", alpha=slope))
    return build({"x": T(MAP), "y": T(MAP)}, [call], ["x"], ["y"])


def transposed_same(width):
    shape = (1, 12, 2 * width, 8)
    tensors = {"x": T((1, 6, width, 8)), "s": T((4,), "INT32", shape), "k": values(8, 3, 3, 8)}
    made = options("TransposeConv", strideH=2, strideW=2, padding=0)
    call = ("TRANSPOSE_CONV", ["s", "k", "x"], ["y"], made)
    return build(tensors | {"y": T(shape)}, [call], ["x"], ["y"])


def broadcast_product(heads):
    """Four heads of queries of 6, on keys of as many heads as are given."""
    tensors = {"x": T((1, 4, 6, 8)), "axes": T((1,), "INT32", 1), "k": T((1, heads, 6, 8))}
    mean = ("MEAN", ["x", "axes"], ["k"], options("Reducer", keepDims=True))
    product = ("BATCH_MATMUL", ["x", "k"], ["y"], options("BatchMatMul", adjY=True))
    before = mean if heads == 1 else ("TANH", ["x"], ["k"])
    return build(tensors | {"y": T((1, 4, 6, 6))}, [before, product], ["x"], ["y"])


def extreme_of_sum(operator, rows=6):
    """The largest of what is made of two maps, or of one and of rows of its means."""
    tensors = {"x": T(MAP), "t": T(MAP), "s": T(MAP), "c": T(MAP, value=-30.0), "m": T(MAP)}
    tensors |= {"axes": T((1,), "INT32", 1), "y": T((1, 5, 8)), "h": T((1, rows, 5, 8))}
    mean = ("MEAN", ["x", "axes"], ["h"], options("Reducer", keepDims=True))
    made = (
        [("ADD_N", ["m", "h"], ["s"])] if operator == "ADD_N" else [both(operator, "m", "h", "s")]
    )
    calls = [
        ("ABS", ["x"], ["h"]) if rows == 6 else mean,
        ("TANH", ["x"], ["t"]),
        both("ADD", "t", "c", "m"),
        *made,
        ("REDUCE_MAX", ["s", "axes"], ["y"], options("Reducer")),
    ]
    return build(tensors, calls, ["x"], ["y"])


def strided_pointwise(size):
    kernel = _drawn.integers(-64, 64, (8, size, size, 8))
    tensors = {
        "k": integers(8, size, size, 8, value=kernel),
        "b": T((8,), "INT32", 100, 1 / 1024),
        "m": T((1, 3, 3, 8) if size == 1 else (1, 2, 2, 8), "INT8", None, 1 / 4),
    }
    return between_floats(tensors, [convolution("x", "k", "b", "m", stride=2)], ["m"])


def strided_means(*axes):
    """The same of means over rows, or over all."""
    width = 5 if len(axes) == 1 else 1
    tensors = {
        "axes": T((len(axes),), "INT32", axes),
        "g": integers(1, 1, width, 8),
        "k": integers(8, 1, 1, 8, value=_drawn.integers(-64, 64, (8, 1, 1, 8))),
        "b": T((8,), "INT32", 100, 1 / 1024),
        "m": T((1, 1, 3 if width == 5 else 1, 8), "INT8", None, 1 / 16),
    }
    mean = ("MEAN", ["x", "axes"], ["g"], options("Reducer", keepDims=True))
    return between_floats(tensors, [mean, convolution("g", "k", "b", "m", stride=2)], ["m"])


def grouped_integers(size):
    """Two groups of four channels."""
    kernel = _drawn.integers(-64, 64, (8, size, size, 4))
    result = (1, 7 - size, 6 - size, 8)
    tensors = {
        "k": integers(8, size, size, 4, value=kernel),
        "b": T((8,), "INT32", 100, 1 / 1024),
        "m": T(result, "INT8", None, 1 / 4),
    }
    return between_floats(tensors, [convolution("x", "k", "b", "m")], ["m"])


def constant_along(shape, number, operator="MUL"):
    """A tensor of some shape and a constant of another."""
    result = np.broadcast_shapes(shape, number)
    tensors = {"x": T(shape), "m": T(shape), "c": values(*number), "y": T(result)}
    return build(tensors, [("TANH", ["x"], ["m"]), both(operator, "m", "c", "y")], ["x"], ["y"])


def mixed_ranks(*, reshaped):
    """A map times what a Dense makes of its means."""
    tensors = {
        "axes": T((2,), "INT32", (1, 2)),
        "g": integers(1, 8),
        "k": integers(8, 8, value=_drawn.integers(-64, 64, (8, 8))),
        "b": T((8,), "INT32", 100, 1 / 1024),
        "h": T((1, 8), "INT8", None, 1 / 16),
        "s": T((4,), "INT32", (1, 1, 1, 8)),
        "r": T((1, 1, 1, 8), "INT8", None, 1 / 16),
        "m": T(MAP, "INT8", None, 1 / 8),
    }
    calls = [
        ("MEAN", ["x", "axes"], ["g"], options("Reducer")),
        ("FULLY_CONNECTED", ["g", "k", "b"], ["h"], options("FullyConnected")),
        *[("RESHAPE", ["h", "s"], ["r"])] * reshaped,
        both("MUL", "x", "r" if reshaped else "h", "m"),
    ]
    return between_floats(tensors, calls, ["m"])


def wide_weights(channels):
    shape = (1, 24, 24, channels)
    tensors = {"x": T((1, 24, 24, 1)), "n": T((4,), "INT32", (1, 1, 1, channels)), "w": T(shape)}
    tensors |= {"k": values(64, 3, 3, channels), "b": values(64), "y": T((1, 22, 22, 64))}
    calls = [("TILE", ["x", "n"], ["w"], options("Tile")), convolution("w", "k", "b", "y")]
    return build(tensors, calls, ["x"], ["y"])


def batched_blocks(batch):
    call = ("SPACE_TO_DEPTH", ["x"], ["y"], options("SpaceToDepth", blockSize=2))
    return build({"x": T((batch, 4, 4, 8)), "y": T((batch, 2, 2, 32))}, [call], ["x"], ["y"])


def cumsum_from_behind(axis):
    call = ("CUMSUM", ["x", "axis"], ["y"], options("Cumsum"))
    return build({"x": T(MAP), "axis": T((), "INT32", axis), "y": T(MAP)}, [call], ["x"], ["y"])


def cumulated(shape, axis, **settings):
    tensors = {"x": T(shape), "m": T(shape), "axis": T((), "INT32", axis), "y": T(shape)}
    calls = [
        ("TANH", ["x"], ["m"]),
        ("CUMSUM", ["m", "axis"], ["y"], options("Cumsum", **settings)),
    ]
    return build(tensors, calls, ["x"], ["y"])


def reversed_channels(channels):
    shape = (1, 6, 5, channels)
    call = ("REVERSE_V2", ["x", "axes"], ["y"], options("ReverseV2"))
    return build({"x": T(shape), "axes": T((1,), "INT32", 3), "y": T(shape)}, [call], ["x"], ["y"])


def largest_channel(*shape, above=False):
    """The largest of numbers below 0, or of their squares."""
    tensors = {"x": T(shape), "a": T(shape), "m": T(shape), "axis": T((), "INT32", len(shape) - 1)}
    calls = [
        ("ABS", ["x"], ["a"]),
        ("SQUARE" if above else "NEG", ["a"], ["m"]),
        ("ARG_MAX", ["m", "axis"], ["y"], options("ArgMax", outputType=2)),
    ]
    return build(tensors | {"y": T(shape[:-1], "INT32")}, calls, ["x"], ["y"])


def short_condition(*shape):
    """A map of two samples or 0, by a constant."""
    whole = (2, 6, 5, 8)
    chosen = _drawn.integers(0, 2, shape)
    tensors = {"x": T(whole), "c": T(shape, "BOOL", chosen), "0": T((), value=0.0), "y": T(whole)}
    call = ("SELECT_V2", ["c", "x", "0"], ["y"], options("SelectV2"))
    return build(tensors, [call], ["x"], ["y"])


def leak_after_prelu(after, *, kept=False):
    """A convolution, a PReLU and what comes after; with the PReLU's result for an output too."""
    tensors = {"x": T(MAP), "k": values(8, 1, 1, 8), "b": values(8), "c": T(MAP)}
    tensors |= {"a": values(1, 1, 8), "m": T(MAP), "y": T(MAP)}
    last = [options("LeakyRelu", alpha=0.3)] if after == "LEAKY_RELU" else []
    calls = [
        convolution("x", "k", "b", "c"),
        ("PRELU", ["c", "a"], ["m"]),
        (after, ["m"], ["y"], *last),
    ]
    return build(tensors, calls, ["x"], ["m", "y"] if kept else ["y"])


def power(*, base=None, exponent=None, before="TANH"):
    """What is computed of x, raised to a constant, or a constant raised to it."""
    number = np.asarray(exponent if base is None else base, "float32")
    tensors = {"x": T(MAP), "m": T(MAP), "c": T(number.shape, value=number), "y": T(MAP)}
    inputs = ["m", "c"] if base is None else ["c", "m"]
    calls = [(before, ["x"], ["m"]), ("POW", inputs, ["y"], options("Pow"))]
    return build(tensors, calls, ["x"], ["y"])


def signed_power():
    tensors = {"x": T(MAP), "m": T(MAP), "c": T((), value=0.01), "p": T(MAP), "s": T(MAP)}
    calls = [
        ("RELU", ["x"], ["m"]),
        ("POW", ["m", "c"], ["p"], options("Pow")),
        ("SIGN", ["m"], ["s"], options("Sign")),
        both("MUL", "s", "p", "y"),
    ]
    return build(tensors | {"y": T(MAP)}, calls, ["x"], ["y"])


CASES = {
    "PADDED_POOL": (padded_pool(between=False), padded_pool(between=True)),
    "PADDED_CONSTANT": (padded_constant(1.5), padded_constant(0.0)),
    "PADDED_BATCH": (padded_batch(1), padded_batch(2)),
    "PADDED_SAMPLES": (padded_samples(2), padded_samples(1)),
    "PADDED_SUM": (padded_sum(1), padded_sum(12)),
    "FOLDED_BROADCAST": (folded_broadcast(1), folded_broadcast(8)),
    "INNER_OUTPUT": (inner_output("MUL"), inner_output("TANH")),
    "OUTPUT_TWICE": (output_twice("x"), output_twice("w")),
    "SPLIT_JOINED": (split_joined("q", "p"), split_joined("p", "q")),
    "SPLIT_MIXED": (split_mixed("p", "q"), split_mixed("q", "p")),
    "SPLIT_UNREAD": (split_unread("q"), split_unread("p", "q")),
    "POINTWISE_DEPTHWISE": (pointwise_depthwise(1), pointwise_depthwise(3)),
    "WHOLE_MAP": (whole_map(flattened=False), whole_map(flattened=True)),
    "STEEP_LEAK": (steep_leak(2.0), steep_leak(0.5)),
    "TRANSPOSED_SAME": (transposed_same(5), transposed_same(4)),
    "BROADCAST_PRODUCT": (broadcast_product(1), broadcast_product(4)),
    "TURNED_PRODUCT": (turned_product(adjY=True), turned_product()),
    "EXTREME_OF_SUM": (extreme_of_sum("ADD"), extreme_of_sum("MUL")),
    "CONSTANT_ALONG_BATCH": (constant_along((4, 8), (4, 8)), constant_along((4, 8), (1, 8))),
    "MIXED_RANKS": (mixed_ranks(reshaped=False), mixed_ranks(reshaped=True)),
    "STRIDED_POINTWISE": (strided_pointwise(1), strided_pointwise(3)),
    "BATCHED_BLOCKS": (batched_blocks(2), batched_blocks(1)),
    "CUMSUM_FROM_BEHIND": (cumsum_from_behind(-1), cumsum_from_behind(3)),
    "CUMSUM_OPTIONS": (cumulated(MAP, 1, exclusive=True), cumulated(MAP, 1)),
    "REVERSED_CHANNELS": (reversed_channels(7), reversed_channels(8)),
    "ARGMAX_OF_NEGATIVES": (largest_channel(1, 6, 5, 21), largest_channel(1, 6, 5, 20)),
    "SHORT_CONDITION": (short_condition(6, 5, 8), short_condition(1, 6, 5, 8)),
    "LEAK_AFTER_PRELU": (leak_after_prelu("LEAKY_RELU"), leak_after_prelu("RELU")),
    "WIDE_WEIGHTS": (wide_weights(912), wide_weights(904)),
    "CONSTANT_BASE": (power(base=2.0), power(base=4.0)),
    "NEGATIVE_BASE": (power(exponent=5.0), power(exponent=5.0, before="ABS")),
    "SMALL_POWER": (power(exponent=0.01, before="RELU"), power(exponent=0.01, before="LOGISTIC")),
}
# Further graphs that break a rule, and their neighbours.
KIN = [
    ("PADDED_SAMPLES", padded_samples(3, "MIRROR_PAD"), padded_samples(1, "MIRROR_PAD")),
    ("PADDED_POOL", padded_below(2), padded_below(1)),
    ("STRIDED_POINTWISE", strided_means(1), strided_means(1, 2)),
    (
        "LEAK_AFTER_PRELU",
        leak_after_prelu("LEAKY_RELU"),
        leak_after_prelu("LEAKY_RELU", kept=True),
    ),
    ("PADDED_CONSTANT", padded_dense(1.5), padded_dense(0.0)),
    ("CONSTANT_ALONG_BATCH", constant_along((8,), (8,), "ADD"), constant_along((8,), (1,), "ADD")),
    (
        "CONSTANT_ALONG_BATCH",
        constant_along((2, 4, 8), (2, 1, 1), "SUB"),
        constant_along((2, 4, 8), (4, 1), "SUB"),
    ),
    (
        "CONSTANT_ALONG_BATCH",
        constant_along((1, 3, 4, 8), (2, 1, 1, 1)),
        constant_along((2, 3, 4, 8), (2, 1, 1, 1)),
    ),
    ("GROUPED_CONV", grouped_integers(1), grouped_integers(3)),
    ("CUMSUM_OPTIONS", cumulated((1, 6, 8), 2, reverse=True), cumulated((1, 6, 8), 2)),
    ("CUMSUM_OPTIONS", cumulated((4, 8), 0), cumulated((4, 8), 1)),
    ("REVERSED_CHANNELS", reversed_channels(5), reversed_channels(3)),
    ("ARGMAX_OF_NEGATIVES", largest_channel(2, 3), largest_channel(2, 3, above=True)),
    ("SHORT_CONDITION", short_condition(8), short_condition(2, 1, 1, 8)),
    ("CONSTANT_BASE", power(base=[3.0]), power(base=[2.0, 3.0] * 4)),
    ("NEGATIVE_BASE", power(exponent=-1.0), power(exponent=3.0)),
    ("NEGATIVE_BASE", power(exponent=[2.0, 3.0] * 4), power(exponent=[2.0, 3.0] * 4, before="ABS")),
    ("NEGATIVE_BASE", power(base=-4.0, before="ROUND"), power(base=5.0, before="ROUND")),
    ("SMALL_POWER", power(exponent=[0.03, 0.3] * 4, before="RELU"), signed_power()),
    ("TURNED_PRODUCT", turned_product(adjX=True), turned_product()),
    ("EXTREME_OF_SUM", extreme_of_sum("ADD_N"), extreme_of_sum("ADD", rows=1)),
    ("FOLDED_BROADCAST", folded_sum(1, "Dense"), folded_sum(8, "Dense")),
    ("FOLDED_BROADCAST", folded_sum(1, "matrix"), folded_sum(8, "matrix")),
    ("INNER_OUTPUT", padded_output(kept=False), padded_output(kept=True)),
    ("INNER_OUTPUT", product_output("MUL"), product_output("ADD")),
    ("INNER_OUTPUT", dense_output(3), dense_output(2)),
    ("INNER_OUTPUT", summed_output("MEAN"), summed_output("MEAN", given=(1, 1, 5, 8))),
    ("INNER_OUTPUT", summed_output("SUM", total="ADD_N"), summed_output("SUM", total="MUL")),
    ("INNER_OUTPUT", summed_output((6, 5)), summed_output((6, 4))),
]
