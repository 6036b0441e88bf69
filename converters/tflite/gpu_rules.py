"""What LiteRT's GPU delegate was seen to compute wrongly or to crash on, but to take.

Found by `benchmarks/gpu_sweep.py` on graphs by the thousand. Most of it comes of what the delegate
makes of two operators where it takes them for one. Imports NumPy and the flatbuffer reader.
"""

from collections.abc import Iterator

import numpy as np

from converters.tflite.broadcasts import ELEMENTWISE as _DOUBLE
from converters.tflite.broadcasts import misplaced
from converters.tflite.channels import broken_pack, reversed_channels, short_condition
from converters.tflite.flatbuffer import Operator, Tensor
from converters.tflite.pads import PADS, amounts, fill, of_samples, spatial, uncounted
from converters.tflite.powers import constant_base, negative, small
from converters.tflite.rule import Find, Place, Rule, operators, place, repeated
from converters.tflite.sums import from_behind, mistaken
from converters.tflite.view import VIEWS, View

# What the delegate folds a sum or a product with a constant into, beside a product with a matrix.
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}
# What it makes one with a sum of two tensors, beside the mean of a whole image.
_REDUCTIONS = {"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"}
_POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
# What a padding of zeros becomes part of; a Dense is a convolution of 1x1 to the delegate.
_WINDOWS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
# What is split, by the operator: the position of its input.
SPLITS = {"SPLIT": 1, "SPLIT_V": 0, "UNPACK": 0}
# Operators of one value each, that are computed where the value before them is.
_SINGLE = {
    "ABS", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC",
    "NEG", "PRELU", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT", "SIN", "SQRT",
    "SQUARE", "TANH",
}  # fmt: skip
# The largest side of a texture of most drivers; weights are one on large maps and for many filters.
_TEXTURE, _MANY, _LARGE = 8192, 64, 256
# Padding below this is below all that a maximum is taken over.
_LOWEST = -1e4


def _same(size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """What `"same"` puts around a side of an image."""
    reach = (kernel - 1) * dilation + 1
    return max((-(-size // stride) - 1) * stride + reach - size, 0)


def _input(operator: Operator, number: int) -> Tensor | None:
    return operator.inputs[number] if number < len(operator.inputs) else None


def _option(operator: Operator, name: str) -> int:
    """An option, 0 if it is not there, as the schema has it."""
    return int(getattr(operator.options, name, 0) or 0)


def _strides(operator: Operator) -> tuple[int, int]:
    return max(_option(operator, "strideH"), 1), max(_option(operator, "strideW"), 1)


def _integer(operator: Operator) -> bool:
    return any(t is not None and t.dtype in ("INT8", "UINT8") and t.scales for t in operator.inputs)


def _padded(view: View, names: set[str]) -> Iterator[tuple[Operator, Operator]]:
    """Pads that become part of the operator that alone reads them, and that operator."""
    for operator in view.operators:
        reader, tensor = operator, _input(operator, 0) if operator.name in names else None
        while tensor is not None and view.reader(tensor) is reader:
            pad = view.producer.get(tensor)
            if pad is None or not spatial(pad):
                break
            yield pad, operator
            reader, tensor = pad, _input(pad, 0)


def _padded_pool(view: View) -> Iterator[Place]:
    for pad, pool in _padded(view, _POOLS):
        if not uncounted(view, pad, pool, _LOWEST):
            yield place(pool, _input(pool, 0), before=pad)


def _padded_constant(view: View) -> Iterator[Place]:
    for pad, operator in _padded(view, _WINDOWS):
        if (fill(view, pad) or 0) != 0:
            yield place(operator, _input(operator, 0), before=pad)


@operators(*PADS)
def _padded_batch(view: View, operator: Operator) -> bool:
    found, x = amounts(operator), _input(operator, 0)
    if found is None or x is None or len(x.shape) not in (3, 4) or x.shape[0] != 1:
        return False
    return bool(found[-len(x.shape)].any())


_padded_samples = operators(*PADS)(lambda _, operator: of_samples(operator))


def _channels_appended(view: View, operator: Operator) -> Operator | None:
    """The sum that a pad of channels becomes part of."""
    found = amounts(operator) if operator.name in ("PAD", "PADV2") else None
    if found is None or found[:3].any() or found[3, 0] or not found[3, 1]:
        return None
    source, reader = _input(operator, 0), view.reader(operator.outputs[0])
    if (
        source is None
        or not source.shape
        or source.shape[-1] % 4
        or reader is None
        or reader.name != "ADD"
    ):
        return None
    return reader if len(view.computed(reader)) == 2 else None


def padded_sum(view: View) -> Iterator[Place]:
    """Finds sums of what is padded and what is repeated; the padding comes `before`."""
    for operator in view.operators:
        total = _channels_appended(view, operator)
        if total is None:
            continue
        shapes = {t.shape for t in total.inputs if t is not None}
        if len(shapes) > 1 or fill(view, operator):
            yield place(total, operator.outputs[0], before=operator)


def _along_channels(view: View, operator: Operator) -> Tensor | None:
    """What a sum or product with a constant for each channel, or with one number, is taken of."""
    computed = view.computed(operator)
    if operator.name not in ("ADD", "MUL") or len(computed) != 1 or len(operator.inputs) != 2:
        return None
    constant = next(t for t in operator.inputs if t is not computed[0])
    if constant is None or np.prod(constant.shape) != (constant.shape[-1:] or (1,))[0]:
        return None
    return computed[0]


def _no_padding(operator: Operator) -> bool:
    image, kernel = _input(operator, 0), _input(operator, 1)
    if image is None or kernel is None or len(image.shape) != 4 or len(kernel.shape) != 4:
        return False
    rates = (_option(operator, "dilationHFactor") or 1, _option(operator, "dilationWFactor") or 1)
    strides = _strides(operator)
    return _option(operator, "padding") == 1 or not any(
        _same(image.shape[side + 1], kernel.shape[side + 1], strides[side], rates[side])
        for side in (0, 1)
    )


def _folded(view: View) -> Iterator[tuple[Operator, Operator, Operator]]:
    """Sums and products with constants that become part of weights: (first, second, the sum)."""
    for operator in view.operators:
        source = _along_channels(view, operator)
        if source is None:
            continue
        maker, reader = view.producer.get(source), view.reader(operator.outputs[0])
        alone = view.reader(source) is operator and not source.scales
        if maker is not None and alone and _weighted(view, maker) and maker.activation == "NONE":
            yield maker, operator, operator
        if reader is None or operator.outputs[0].scales or operator.activation != "NONE":
            continue
        if _weighted(view, reader):
            image = _input(reader, 2 if reader.name == "TRANSPOSE_CONV" else 0)
            if image is operator.outputs[0] and (operator.name == "MUL" or _takes_sum(reader)):
                yield operator, reader, operator


def _takes_sum(operator: Operator) -> bool:
    """Whether a sum with a constant before it becomes part of its bias."""
    image = _input(operator, 0)
    if operator.name == "FULLY_CONNECTED":  # of more than vectors it is a convolution of 1x1
        return image is not None and len(image.shape) > 2
    return operator.name == "CONV_2D" and _no_padding(operator)


def _weighted(view: View, operator: Operator) -> bool:
    known = operator.name in _WEIGHTED or _by_matrix(view, operator)
    return known and len(view.computed(operator)) == 1


def _by_matrix(view: View, operator: Operator) -> bool:
    """Whether it is a product with a constant matrix, which is a convolution of 1x1."""
    matrix = _input(operator, 1) if operator.name == "BATCH_MATMUL" else None
    return matrix is not None and view.constant(matrix) and len(matrix.shape) == 2


@operators("BATCH_MATMUL")
def _turned_product(view: View, operator: Operator) -> bool:
    turned = _option(operator, "adjX") or _option(operator, "adjY")
    return bool(turned) and _by_matrix(view, operator)


def _reduced(view: View) -> Iterator[tuple[Operator, Operator]]:
    """Sums of two tensors of one shape that become part of the reduction that alone reads them."""
    for total in view.operators:
        computed = view.computed(total) if total.name in ("ADD", "ADD_N") else []
        result, reader = total.outputs[0], view.reader(total.outputs[0])
        if len(computed) != 2 or len(total.inputs) != 2 or len(set(computed)) == 1:
            continue
        if any(t.shape != result.shape for t in computed) or total.activation != "NONE":
            continue
        if reader is None or result.scales:
            continue
        if reader.name in _REDUCTIONS or _whole(reader):
            yield total, reader


def _whole(operator: Operator) -> bool:
    """Whether it is the mean of a whole image."""
    image = _input(operator, 0)
    if operator.name != "AVERAGE_POOL_2D" or image is None or len(image.shape) != 4:
        return False
    window = _option(operator, "filterHeight"), _option(operator, "filterWidth")
    return window == image.shape[1:3] and operator.outputs[0].shape[1:3] == (1, 1)


def folded_broadcast(view: View) -> Iterator[Place]:
    """Finds constants of several channels in weights of one; what is first comes `before`."""
    for first, second, operator in _folded(view):
        source = _along_channels(view, operator)
        if source is not None and source.shape[-1:] != operator.outputs[0].shape[-1:]:
            yield place(second, first.outputs[0], before=first)


def inner_output(view: View) -> Iterator[Place]:
    """Finds outputs that are never written, as part of an operator; their maker comes `before`."""
    for first, second, _ in _folded(view):
        if first.outputs[0] in view.outputs:
            yield place(second, first.outputs[0], before=first)
    pairs = [*_padded(view, _POOLS | _WINDOWS), *_reduced(view)]
    sums = ((pad, _channels_appended(view, pad)) for pad in view.operators)
    pairs += [(pad, total) for pad, total in sums if total is not None]
    for inner, operator in pairs:
        if inner.outputs[0] in view.outputs:
            yield place(operator, inner.outputs[0], before=inner)


def _output_twice(view: View) -> Iterator[Place]:
    twice = repeated(list(view.graph.outputs))
    fed = set(view.graph.inputs)
    for tensor in dict.fromkeys([*twice, *(t for t in view.graph.outputs if t in fed)]):
        yield Place(f"output {tensor.name!r}", (tensor.name,))


def split_joined(view: View) -> Iterator[Place]:
    """Finds sums and concatenations of the parts of a split, which comes `before`."""
    for split in view.operators:
        if split.name not in SPLITS or split.outputs[0].scales:
            continue
        readers = {id(r): r for part in split.outputs for r in view.readers(part)}
        if len(readers) != 1:
            continue
        (reader,) = readers.values()
        computed = [t for t in reader.inputs if t is not None]
        parts = [part for part in split.outputs if view.readers(part)]
        if reader.name not in ("ADD", "CONCATENATION", "PACK") or len(computed) < 2:
            continue
        if set(computed) != set(parts) or len(computed) != len(parts):
            continue
        if computed != [*split.outputs][-len(computed) :] or not _same_axis(split, reader):
            yield place(reader, *computed, before=split)


def _same_axis(split: Operator, joined: Operator) -> bool:
    """Whether parts are put together along the axis that they were split along."""
    source, part, whole = _input(split, SPLITS[split.name]), split.outputs[0], joined.outputs[0]
    if source is None or joined.name == "ADD":
        return False
    if split.name == "UNPACK":
        axes = {_option(o, "axis") % max(len(source.shape), 1) for o in (split, joined)}
        return joined.name == "PACK" and source.shape == whole.shape and len(axes) == 1
    if joined.name == "PACK" or len(source.shape) != len(part.shape):
        return False
    along = [a != b for a, b in zip(source.shape, part.shape, strict=True)]
    axis = _option(joined, "axis")
    return -len(along) <= axis < len(along) and along[axis]


def split_mixed(view: View) -> Iterator[Place]:
    """Finds where the first part of a split meets another one; the split comes `before`.

    Follows how values are computed where the first part is: as long as one operator reads them.
    An operand that another operator makes meanwhile ends it; the other parts are there already.
    Shapes that come to nothing are none.
    """
    for split in view.operators:
        if split.name not in SPLITS or len(split.outputs) < 2:
            continue
        tensor = first = split.outputs[0]
        shape = first.shape
        while not tensor.scales and (reader := view.reader(tensor)) is not None:
            if reader.name in VIEWS:
                tensor = reader.outputs[0]
                continue
            computed = view.computed(reader)
            double = reader.name in _DOUBLE
            single = reader.name in _SINGLE or (double and len(computed) == 1)
            if tensor.shape != shape or not (single or (double and len(computed) == 2)):
                break
            if not single:
                # Of a sum or a product of two parts the delegate takes the second first.
                turned = reader.name in ("ADD", "MUL")
                if computed[0 if turned else 1] is tensor and not (turned and tensor is not first):
                    break
                other = computed[1] if computed[0] is tensor else computed[0]
                maker = view.producer.get(_viewed(view, other))
                if maker is split:
                    yield place(reader, tensor, other, before=split)
                    break
                if maker is not None and maker.index > split.index:
                    break
            tensor = reader.outputs[0]
            shape = tensor.shape


def _viewed(view: View, tensor: Tensor) -> Tensor:
    """What a tensor is, by way of other shapes, or itself."""
    source = tensor
    while (maker := view.producer.get(source)) and maker.name in VIEWS and maker.inputs[0]:
        source = maker.inputs[0]
    return source if source.shape == tensor.shape else tensor


def split_unread(view: View) -> Iterator[Place]:
    """Finds splits of integers, a part of which nothing reads."""
    for operator in view.operators:
        if operator.name in SPLITS and _integer(operator):
            lost = [t for t in operator.outputs if view.unread(t)]
            if lost:
                yield place(operator, *lost)


@operators("DEPTHWISE_CONV_2D")
def _pointwise_depthwise(view: View, operator: Operator) -> bool:
    image, kernel = _input(operator, 0), _input(operator, 1)
    if image is None or kernel is None or kernel.shape[1:3] != (1, 1):
        return False
    return image.shape[-1:] > (1,) and kernel.shape[-1] > image.shape[-1]


@operators("FULLY_CONNECTED")
def _whole_map(view: View, operator: Operator) -> bool:
    x, kernel = _input(operator, 0), _input(operator, 1)
    if x is None or kernel is None or len(kernel.shape) != 2:
        return False
    return x.shape[-1:] != kernel.shape[1:]


@operators("LEAKY_RELU")
def _steep_leak(view: View, operator: Operator) -> bool:
    return getattr(operator.options, "alpha", 0) > 1


@operators("TRANSPOSE_CONV")
def _transposed_same(view: View, operator: Operator) -> bool:
    kernel, image = _input(operator, 1), _input(operator, 2)
    if kernel is None or image is None or len(image.shape) != 4 or len(kernel.shape) != 4:
        return False
    sides = zip(image.shape[1:3], kernel.shape[1:3], _strides(operator), strict=True)
    shifted = any(max(k - s, 0) // 2 != _same(size, k, s) // 2 for size, k, s in sides)
    return shifted and _option(operator, "padding") == 0


@operators("BATCH_MATMUL")
def _broadcast_product(view: View, operator: Operator) -> bool:
    one, two = _input(operator, 0), _input(operator, 1)
    if one is None or two is None or (view.constant(two) and len(two.shape) == 2):
        return False
    rank = max(len(one.shape), len(two.shape))
    batches = {(1,) * (rank - len(t.shape)) + t.shape[:-2] for t in (one, two)}
    return len(batches) == 2


def extreme_of_sum(view: View) -> Iterator[Place]:
    """Finds maxima and minima of a sum, which comes `before`."""
    for total, reduction in _reduced(view):
        if reduction.name in ("REDUCE_MAX", "REDUCE_MIN"):
            yield place(reduction, total.outputs[0], before=total)


def _mixed_ranks(view: View) -> Iterator[Place]:
    for operator in view.operators:
        if operator.name in _DOUBLE and _integer(operator):
            computed = view.computed(operator)
            if len({len(tensor.shape) for tensor in computed}) > 1:
                yield place(operator, *computed)


def _constant_misplaced(view: View) -> Iterator[Place]:
    for operator in view.operators:
        if misplaced(view, operator):
            yield place(operator, *view.computed(operator))


@operators("CONV_2D")
def _strided_pointwise(view: View, operator: Operator) -> bool:
    image, kernel = _input(operator, 0), _input(operator, 1)
    if image is None or kernel is None or kernel.shape[1:3] != (1, 1):
        return False
    sides = zip(image.shape[1:3], _strides(operator), strict=False)
    return _integer(operator) and any(size > 1 < stride for size, stride in sides)


@operators("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
def _batched_blocks(view: View, operator: Operator) -> bool:
    return operator.outputs[0].shape[:1] > (1,)


_cumsum_from_behind = operators("CUMSUM")(lambda _, operator: from_behind(operator))
_cumsum_options = operators("CUMSUM")(lambda _, operator: mistaken(operator))
_reversed_channels = operators("REVERSE_V2")(lambda _, operator: reversed_channels(operator))
_broken_pack = operators("ARG_MAX")(broken_pack)
_short_condition = operators("SELECT_V2")(short_condition)


def _leak_after_prelu(view: View) -> Iterator[Place]:
    # A PReLU that is computed where a window or a sum is, by what is computed there after it.
    behind: dict[Tensor, Operator] = {}
    for operator in view.operators:
        computed = view.computed(operator)
        if len(computed) != 1 or view.reader(computed[0]) is not operator:
            continue
        if computed[0] in view.outputs:
            continue
        prelu, maker = behind.get(computed[0]), view.producer.get(computed[0])
        if operator.name == "PRELU" and maker is not None and maker.name not in _SINGLE:
            prelu = operator
        elif operator.name == "LEAKY_RELU" and prelu is not None:
            yield place(operator, computed[0], before=prelu)
        if prelu is not None and operator.name in _SINGLE | _DOUBLE:
            behind[operator.outputs[0]] = prelu


@operators("POW")
def _constant_base(view: View, operator: Operator) -> bool:
    return constant_base(view, operator) is not None


_negative_base = operators("POW")(negative)
_small_power = operators("POW")(small)


def _wide_weights(view: View) -> Iterator[Place]:
    for operator in view.operators:
        kernel = _input(operator, 1) if operator.name == "CONV_2D" else None
        result = operator.outputs[0].shape if operator.outputs else ()
        if kernel is None or len(kernel.shape) != 4 or len(result) != 4:
            continue
        filters, height, width, channels = kernel.shape
        high = height * width * -(-channels // 4) * 4 > _TEXTURE
        if filters > 4 * _TEXTURE or (high and filters >= _MANY and result[1] * result[2] > _LARGE):
            yield place(operator, kernel)


_SILENT = "The GPU delegate computes wrong numbers, silently."
_LOGGED = "The GPU delegate gives back wrong numbers or zeros; it says why in its log at most."
# What `rewrites` has a row for: seen in files of other converters.
_CONVERT = "Convert with `to_tflite`, which writes it otherwise, or"
# What stands between two operators that are taken for one, and changes nothing.
_APART = "`keras.ops.minimum(x, 3e38)`, which changes nothing,"


def _rule(code: str, symptom: str, meaning: str, advice: str, find: Find) -> Rule:
    return Rule(code, "warning", symptom, meaning, advice, find)


RULES = [
    _rule(
        "PADDED_POOL",
        "The GPU delegate computes wrong numbers at the border, silently.",
        "A pool of floats reads a padded image, and the delegate leaves the padding out of its "
        "averages and maxima.",
        f"{_CONVERT} put {_APART} between ZeroPadding2D and the pool; a maximum after a ReLU, then "
        "ZeroPadding2D, is right.",
        _padded_pool,
    ),
    _rule(
        "PADDED_CONSTANT",
        "The GPU delegate computes wrong numbers at the border, silently.",
        "A convolution or Dense of floats reads an image padded with another number than 0, and "
        "the delegate pads with 0.",
        f"{_CONVERT} put {_APART} between `keras.ops.pad` and the convolution or Dense.",
        _padded_constant,
    ),
    _rule(
        "PADDED_BATCH",
        _SILENT,
        "The first dimension, a batch of 1, is padded.",
        "Concatenate with zeros (`keras.ops.concatenate([x, zeros], axis=0)`).",
        _padded_batch,
    ),
    _rule(
        "PADDED_SAMPLES",
        _SILENT,
        "A tensor of three dimensions, the first of more than 1, is padded: several sequences "
        "(ZeroPadding1D, Conv1D with `padding='causal'`), or the rows of one map.",
        f"{_CONVERT} use `keras.ops.reshape` to (batch, 1, steps, channels) before, and back.",
        _padded_samples,
    ),
    _rule(
        "PADDED_SUM",
        _SILENT,
        "Channels are padded, and added to a tensor that is repeated along the image or the "
        "channels.",
        f"{_CONVERT} put {_APART} between `keras.ops.pad` and Add.",
        padded_sum,
    ),
    _rule(
        "FOLDED_BROADCAST",
        _SILENT,
        "A tensor of one channel and a constant of several are multiplied or added, right before "
        "or after a convolution or Dense, whose weights the delegate takes the constant into.",
        f"{_CONVERT} put {_APART} between the two, or write the product as a Conv2D of 1x1.",
        folded_broadcast,
    ),
    _rule(
        "INNER_OUTPUT",
        "The GPU delegate gives back an output that it never wrote.",
        "An output of the model is also read by one layer that the delegate makes one with it: a "
        "padding with what follows, a convolution or Dense with a sum or product of constants, a "
        "sum of two tensors (Add, LayerNormalization) with a mean, sum or maximum of it.",
        f"{_CONVERT} give back {_APART} in place of the output itself.",
        inner_output,
    ),
    _rule(
        "OUTPUT_TWICE",
        "The GPU delegate gives back zeros for an output.",
        "A tensor is two outputs of the model, or an input is given back as it is.",
        f"Give back {_APART} the second time.",
        _output_twice,
    ),
    _rule(
        "SPLIT_JOINED",
        _SILENT,
        "The parts of a split go straight into one concatenation or sum, in another order, along "
        "another axis or not all of them: the delegate leaves both out.",
        f"{_CONVERT} slice (`x[..., :n]`) instead of `keras.ops.split`.",
        split_joined,
    ),
    _rule(
        "SPLIT_MIXED",
        _LOGGED,
        "The first part of a split, changed or not, meets another part of it in an elementwise "
        "operation, which the delegate computes while that part is still being written.",
        f"{_CONVERT} slice (`x[..., :n]`) instead of `keras.ops.split`, or change the other part: "
        "`a * sigmoid(b)` is right, `sigmoid(a) * b` is not.",
        split_mixed,
    ),
    _rule(
        "SPLIT_UNREAD",
        "The GPU delegate crashes the process.",
        "In int8, a part of a split is not used.",
        f"{_CONVERT} slice what is used (`x[..., :n]`) instead of `keras.ops.split`.",
        split_unread,
    ),
    _rule(
        "POINTWISE_DEPTHWISE",
        _SILENT,
        "A depthwise convolution of 1x1 has a `depth_multiplier`.",
        f"{_CONVERT} use DepthwiseConv2D(3, padding='same') with the weights in the middle of a "
        "kernel of zeros, or a Conv2D of 1x1.",
        _pointwise_depthwise,
    ),
    _rule(
        "WHOLE_MAP",
        _SILENT,
        "A Dense reads vectors of another length than its input has: other converters leave the "
        "Flatten or Reshape before it out.",
        "Convert with `to_tflite`, which leaves it in.",
        _whole_map,
    ),
    _rule(
        "STEEP_LEAK",
        _SILENT,
        "The slope of a LeakyReLU below 0 is more than 1.",
        "Use `keras.ops.minimum(x, slope * x)`, or PReLU(shared_axes=[1, 2]).",
        _steep_leak,
    ),
    _rule(
        "TRANSPOSED_SAME",
        "The GPU delegate gives back a shifted image, silently.",
        "A Conv2DTranspose with `padding='same'` reads an image whose height or width its strides "
        "do not divide.",
        "Use `padding='valid'` and Cropping2D, or a size that the strides divide.",
        _transposed_same,
    ),
    _rule(
        "BROADCAST_PRODUCT",
        _SILENT,
        "A matrix product repeats one of its sides: one key for several heads, say.",
        f"{_CONVERT} repeat that side first (`keras.ops.concatenate([k] * heads, axis=1)`); use "
        "Dense where it is a constant.",
        _broadcast_product,
    ),
    _rule(
        "TURNED_PRODUCT",
        _SILENT,
        "A matrix product with a constant of two dimensions transposes one of its sides, which the "
        "delegate leaves out: other converters write it where TensorFlow's has a Dense.",
        "Convert with `to_tflite`, or transpose the constant itself.",
        _turned_product,
    ),
    _rule(
        "EXTREME_OF_SUM",
        "The GPU delegate gives back values that are too large or too small, silently.",
        "A maximum or minimum (GlobalMaxPooling2D, `keras.ops.max`) is taken straight of a sum of "
        "two tensors of one shape.",
        f"{_CONVERT} put {_APART} or an activation between Add and the maximum.",
        extreme_of_sum,
    ),
    _rule(
        "STRIDED_POINTWISE",
        _SILENT,
        "In int8, a convolution of 1x1 has strides.",
        f"{_CONVERT} use MaxPooling2D(1, strides) and a Conv2D of 1x1 without strides.",
        _strided_pointwise,
    ),
    _rule(
        "CONSTANT_ALONG_BATCH",
        _SILENT,
        "A constant lies along the first dimension of a tensor of less than four, which the "
        "delegate takes for the batch, or adds samples.",
        f"{_CONVERT} use `keras.ops.reshape` to give the tensor a first dimension of 1 before, "
        "and take it away after.",
        _constant_misplaced,
    ),
    _rule(
        "MIXED_RANKS",
        _LOGGED,
        "In int8, an elementwise operation takes a tensor of two dimensions and one of four: the "
        "converter drops the Reshape between a Dense and a Multiply.",
        "Use GlobalAveragePooling2D(keepdims=True) and Conv2D(units, 1) in place of Dense.",
        _mixed_ranks,
    ),
    _rule(
        "WIDE_WEIGHTS",
        _LOGGED,
        "The weights of a convolution, kernel height * kernel width * channels (or a quarter of "
        "the filters), are a texture of more than 8192, which is the limit of the software drivers "
        "and of many GPUs.",
        "Use two Conv2D on halves of the channels (`x[..., :n]`) and Add.",
        _wide_weights,
    ),
    _rule(
        "BATCHED_BLOCKS",
        _LOGGED,
        "A space-to-depth or depth-to-space has a batch of more than 1.",
        "Convert with a batch of 1.",
        _batched_blocks,
    ),
    _rule(
        "CUMSUM_FROM_BEHIND",
        "The GPU delegate crashes the process.",
        "A cumulative sum counts its axis from behind.",
        f"{_CONVERT} count from the front: `keras.ops.cumsum(x, axis=3)` in place of `axis=-1`.",
        _cumsum_from_behind,
    ),
    _rule(
        "CUMSUM_OPTIONS",
        _SILENT,
        "A cumulative sum is exclusive or reversed, which the delegate leaves out, or goes along "
        "the first dimension, which it takes for the batch.",
        f"{_CONVERT} use `keras.ops.flip` before and after `keras.ops.cumsum`, or subtract what is "
        "summed; `keras.ops.reshape` to a first dimension of 1 for the batch.",
        _cumsum_options,
    ),
    _rule(
        "REVERSED_CHANNELS",
        _SILENT,
        "The channels are reversed, and are more than 4 and no multiple of it.",
        f"{_CONVERT} use `keras.ops.take(x, [4, 3, 2, 1, 0], axis=3)` in place of "
        "`keras.ops.flip(x, axis=3)`.",
        _reversed_channels,
    ),
    _rule(
        "ARGMAX_OF_NEGATIVES",
        "The GPU delegate gives back a number of a channel that there is not, silently.",
        "An argmax goes along channels, or classes, that 4 does not divide, and what fills the "
        "last four up is 0: it is the largest where all are below 0.",
        f"{_CONVERT} take the argmax of a softmax or sigmoid.",
        _broken_pack,
    ),
    _rule(
        "SHORT_CONDITION",
        _SILENT,
        "A constant of less dimensions than the tensors chooses between them "
        "(`keras.ops.where`), and there are several samples: the delegate takes its first "
        "dimension for the batch.",
        f"{_CONVERT} give the constant a first dimension of 1.",
        _short_condition,
    ),
    _rule(
        "LEAK_AFTER_PRELU",
        _LOGGED,
        "A LeakyReLU comes after a PReLU, with elementwise operations alone between, and the PReLU "
        "right after a layer of another kind or a sum.",
        "Use PReLU(shared_axes=[1, 2]) for the LeakyReLU too.",
        _leak_after_prelu,
    ),
    _rule(
        "CONSTANT_BASE",
        _SILENT,
        "The number 2 or 3 is raised to a tensor, and the delegate takes it for the exponent: "
        "`2.0 ** x` becomes `x ** 2`.",
        f"{_CONVERT} use the number's square and half of the tensor: `4.0 ** (0.5 * x)` is right, "
        "and so is any other number above 0.",
        _constant_base,
    ),
    _rule(
        "NEGATIVE_BASE",
        "The GPU delegate forgets the sign of numbers below 0, or makes NaN of them, by driver, "
        "silently.",
        "Numbers that may be below 0 are raised to a whole power other than `x ** 2` and `x ** 3`, "
        "or to several powers; or a number below 0 is raised to a tensor.",
        f"{_CONVERT} raise the size: `keras.ops.abs(x) ** 4` in place of `x ** 4`, and "
        "`x * keras.ops.abs(x) ** 4` of `x ** 5`.",
        _negative_base,
    ),
    _rule(
        "SMALL_POWER",
        "The GPU delegate gives back a number above 0 for 0, silently.",
        "Numbers that may be 0 are raised to a power below 0.13, which is computed as if 0 were "
        "6e-39: `0 ** 0.01` is 0.41.",
        f"{_CONVERT} write `keras.ops.sign(x) * x ** 0.01`.",
        _small_power,
    ),
]
