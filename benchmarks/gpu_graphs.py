"""The graphs of the GPU sweep, as text: what is tried, and nothing of how.

A graph is a precision, the shape of its input and a chain of stages, ``"Conv2D(8, 3) ->
AveragePooling2D(2)"``. A stage is Python: a Keras layer that is called on the value so far, or an
expression of that value, `x`, with `ops` for `keras.ops`, `c(2, 3)` for a constant of that shape,
and `H`, `W`, `C` for the last three sizes of `x`. Imports `gpu_pieces.py` and the standard library.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from gpu_pieces import BATCHED, GROUPED, PIECES

MAP = (1, 12, 10, 8)
# Sizes that are alike hide swapped ones, multiples of 4 hide how channels are packed.
SHAPES = [
    MAP,
    (2, 12, 10, 8),
    (1, 9, 7, 6),
    (1, 6, 8, 3),
    (1, 5, 7, 1),
    (1, 1, 1, 16),
    (1, 1, 9, 8),
    (3, 8, 6, 5),
    (1, 4, 4, 130),
]
BEFORE = "Conv2D(8, 3, padding='same')"

CONVOLUTIONS = [
    *[
        f"{layer}, {kernel}, strides={stride}, padding={padding!r})"
        for layer in ("Conv2D(8", "Conv2D(5", "Conv2D(1", "Conv2D(16")
        for kernel in (1, 2, 3, 5)
        for stride in (1, 2, 3)
        for padding in ("same", "valid")
    ],
    *[
        f"DepthwiseConv2D({kernel}, strides={stride}, depth_multiplier={multiplier}, "
        f"padding={padding!r})"
        for kernel in (1, 2, 3, 5)
        for stride in (1, 2, 3)
        for multiplier in (1, 2, 3)
        for padding in ("same", "valid")
    ],
    *[
        f"Conv2DTranspose({filters}, {kernel}, strides={stride}, padding={padding!r})"
        for filters in (8, 5)
        for kernel in (1, 2, 3, 4)
        for stride in (1, 2, 3)
        for padding in ("same", "valid")
    ],
    *[
        f"{layer}, dilation_rate={rate}, padding={padding!r})"
        for layer in ("Conv2D(8, 3", "Conv2D(5, 2", "DepthwiseConv2D(3", "DepthwiseConv2D(2")
        for rate in (2, 3)
        for padding in ("same", "valid")
    ],
    "Conv2D(8, (1, 3))",
    "Conv2D(8, (3, 1), padding='same')",
    "Conv2D(8, (1, 3), strides=(1, 2), padding='same')",
    "Conv2D(8, 3, strides=(2, 1), padding='same')",
    "Conv2D(8, 7, padding='same')",
    "Conv2D(8, 3, use_bias=False)",
    "Conv2D(1, 1)",
    "Conv2D(130, 1)",
    "Conv2D(8, 1, groups=1, activation='relu6')",
    "Conv2D(C, 3, groups=C, padding='same')",
    "Conv2D(2 * C, 3, groups=C, padding='same')",
    "SeparableConv2D(8, 3)",
    "SeparableConv2D(8, 3, strides=2, padding='same')",
    "DepthwiseConv2D((1, 3), padding='same')",
    "DepthwiseConv2D((7, 1), padding='same')",
    "Dense(5)",
    "Dense(8, activation='relu')",
]
POOLS = [
    *[
        f"{kind}Pooling2D({size}, strides={stride}, padding={padding!r})"
        for kind in ("Average", "Max")
        for size in (1, 2, 3, 5)
        for stride in (1, 2, 3)
        for padding in ("same", "valid")
    ],
    *[
        f"Global{kind}Pooling2D({keep})"
        for kind in ("Average", "Max")
        for keep in ("", "keepdims=True")
    ],
    "AveragePooling2D((H, W))",
    "MaxPooling2D((H, W))",
    "AveragePooling2D((1, 2))",
    "MaxPooling2D((2, 1), strides=(1, 1))",
]
PADS = [
    "ZeroPadding2D(1)",
    "ZeroPadding2D(3)",
    "ZeroPadding2D(((0, 1), (0, 1)))",
    "ZeroPadding2D(((1, 0), (0, 0)))",
    "ZeroPadding2D(((2, 1), (0, 3)))",
    "Cropping2D(1)",
    "Cropping2D(((0, 1), (1, 0)))",
    "ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, 3]])",
    "ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 0]])",
    "ops.pad(x, [[0, 0], [1, 1], [0, 0], [2, 2]])",
    "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.5)",
    "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-1e9)",
    "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode='reflect')",
    "ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], mode='symmetric')",
    "ops.pad(x, [[0, 1], [0, 0], [0, 0], [0, 0]])",
]
SIZES = [
    "UpSampling2D(2)",
    "UpSampling2D((1, 3))",
    "UpSampling2D(2, interpolation='bilinear')",
    *[
        f"Resizing({height}, {width}, interpolation={how!r})"
        for height, width in ((24, 20), (6, 5), (7, 9), (1, 1), (13, 11))
        for how in ("bilinear", "nearest")
    ],
    "ops.image.resize(x, (24, 20), interpolation='bicubic')",
    "tf.compat.v1.image.resize_bilinear(x, (24, 20), align_corners=True)",
    "tf.compat.v1.image.resize_bilinear(x, (17, 13), align_corners=True)",
    "tf.compat.v1.image.resize_bilinear(x, (24, 20))",
    "tf.compat.v1.image.resize_nearest_neighbor(x, (24, 20), align_corners=True)",
    "tf.compat.v1.image.resize_nearest_neighbor(x, (17, 13))",
    "tf.compat.v1.image.resize_nearest_neighbor(x, (17, 13), half_pixel_centers=True)",
    "tf.nn.depth_to_space(ops.concatenate([x] * 4, -1), 2)",
    "tf.nn.depth_to_space(ops.concatenate([x, -x, x * 2.0, x + 1.0], -1), 2)",
    "tf.nn.space_to_depth(x, 2)",
    "tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]])",
]
ACTIVATIONS = [
    *[
        f"Activation({name!r})"
        for name in [
            "relu",
            "relu6",
            "leaky_relu",
            "elu",
            "selu",
            "gelu",
            "silu",
            "hard_silu",
            "sigmoid",
            "hard_sigmoid",
            "tanh",
            "softmax",
            "softplus",
            "softsign",
            "mish",
            "exponential",
            "log_softmax",
            "hard_tanh",
            "log_sigmoid",
            "celu",
            "glu",
        ]
    ],
    "PReLU()",
    "PReLU(shared_axes=[1, 2])",
    "ReLU(max_value=1.0)",
    "ReLU(negative_slope=0.2, max_value=2.0)",
    "ReLU(threshold=0.5)",
    "LeakyReLU(negative_slope=2.0)",
    "ThresholdedReLU(0.5)",
    "ops.gelu(x, approximate=False)",
    "Softmax(axis=1)",
    "Softmax(axis=2)",
    "Softmax(axis=[1, 2])",
    *[
        f"ops.{name}(x)"
        for name in [
            "abs",
            "negative",
            "square",
            "sin",
            "cos",
            "tan",
            "exp",
            "floor",
            "ceil",
            "round",
            "sign",
            "relu6",
            "sigmoid",
            "arctan",
            "sinh",
            "cosh",
            "arcsinh",
            "erf",
            "isnan",
            "logical_not",
            "isfinite",
            "trunc",
        ]
    ],
    *[
        f"ops.{name}(ops.abs(x) + 0.1)"
        for name in ["sqrt", "rsqrt", "log", "log1p", "log2", "log10", "reciprocal"]
    ],
    "ops.clip(x, -0.5, 0.7)",
    "ops.clip(x, 0.0, 1.0)",
    "ops.clip(x, -1.0, 1.0)",
    "ops.floor(x * 3.0) / 3.0",
    "ops.mod(x, 1.5)",
    "ops.floor_divide(x, 0.7)",
    "ops.cumsum(x, axis=-1)",
    "ops.cumsum(x, axis=1)",
    "ops.flip(x, axis=1)",
    "ops.flip(x, axis=2)",
    "ops.flip(x, axis=3)",
    "ops.roll(x, 2, axis=2)",
    "ops.roll(x, 1, axis=3)",
]
# Operands of another shape, the second a constant, a part of x or computed of it.
OPERANDS = [
    "2.5",
    "c(C)",
    "c(1, 1, 1, C)",
    "c(H, W, C)",
    "c(H, W, 1)",
    "c(H, 1, 1)",
    "c(W, 1)",
    "c(1, W, C)",
    "c(H, 1, C)",
    "ops.mean(x, axis=[1, 2], keepdims=True)",
    "ops.mean(x, axis=[3], keepdims=True)",
    "ops.mean(x, axis=[1], keepdims=True)",
    "ops.mean(x, axis=[2], keepdims=True)",
    "ops.mean(x, axis=[1, 3], keepdims=True)",
    "ops.mean(x, axis=[2, 3], keepdims=True)",
    "ops.mean(x, axis=[1, 2, 3], keepdims=True)",
    "x[:, :1]",
    "x[:, :, -1:]",
    "x[..., :1]",
    "ops.flip(x, axis=1)",
    "ops.sin(x)",
]
BINARY = [
    *[
        text
        for operand in OPERANDS
        for text in (
            f"x + {operand}",
            f"ops.add({operand}, x)",
            f"x * {operand}",
            f"ops.multiply({operand}, x)",
            f"x - {operand}",
            f"ops.subtract({operand}, x)",
            f"x / (ops.abs({operand}) + 0.5)",
            f"ops.divide({operand}, ops.abs(x) + 0.5)",
            f"ops.maximum(x, {operand})",
            f"ops.minimum({operand}, x)",
            f"tf.math.squared_difference(x, {operand})",
            f"ops.power(ops.abs(x) + 0.1, {operand})",
            f"ops.where(x > {operand}, x, -x)",
            f"ops.cast(x < {operand}, 'float32')",
            f"ops.where(x > 0.1, {operand}, x)",
        )
    ],
    "x + x",
    "x * x",
    "x - x",
    "x ** 2",
    "x ** 3",
    "2.0 ** x",
    "ops.cast(ops.equal(ops.round(x), 0.0), 'float32')",
    "ops.cast(ops.logical_and(x > -0.5, x < 0.5), 'float32')",
    "ops.cast(ops.cast(x * 10.0, 'int32'), 'float32')",
    "ops.cast(ops.cast(x * 10.0, 'int32') // 3, 'float32')",
    "tf.add_n([x, x * 2.0, ops.sin(x)])",
]
REDUCTIONS = [
    f"ops.{how}(x, axis={list(axes)}, keepdims={keep})"
    for how in ("mean", "sum", "max", "min", "prod", "var", "std")
    for count in (1, 2, 3)
    for axes in itertools.combinations((1, 2, 3), count)
    for keep in (True, False)
    if how != "prod" or count < 3  # products of hundreds of values are too large or 0
] + [
    "ops.logsumexp(x, axis=-1, keepdims=True)",
    "ops.norm(x, axis=-1, keepdims=True)",
    "ops.normalize(x, axis=-1)",
    "UnitNormalization()",
    "ops.argmax(x, axis=-1)",
    "ops.argmax(x, axis=1)",
    "ops.argmin(x, axis=-1)",
    "ops.cast(ops.argmax(x, axis=-1), 'float32')",
    "ops.any(x > 0.5, axis=-1)",
    "ops.top_k(x, 2)[0]",
    "ops.sort(x, axis=-1)",
    "ops.mean(x)",
    "ops.sum(x, axis=0)",
]
NORMS = [
    "BatchNormalization()",
    "BatchNormalization(axis=1)",
    "LayerNormalization()",
    "LayerNormalization(axis=[1, 2, 3])",
    "LayerNormalization(axis=[1, 2])",
    "LayerNormalization(rms_scaling=True)",
    "RMSNormalization()",
    "GroupNormalization(groups=1)",
    "GroupNormalization(groups=C)",
    "tf.nn.local_response_normalization(x, 2)",
    "tf.nn.l2_normalize(x, -1)",
]
SHAPING = [
    "Flatten()",
    "Flatten() -> Dense(10)",
    "Flatten() -> Dense(10, activation='softmax')",
    "Flatten() -> Reshape((H * W, C)) -> Dense(3)",
    "Reshape((H * W, C))",
    "Reshape((H, W * C))",
    "Reshape((H, W * C, 1))",
    "Reshape((W, H, C))",
    "Reshape((1, H * W, C))",
    "Reshape((H * W, 1, C))",
    "Reshape((C, H, W))",
    "Reshape((H * W * C,))",
    "Reshape((H * W * C, 1, 1))",
    "Reshape((1, 1, H * W * C))",
    "Reshape((H, W, C, 1))",
    "ops.expand_dims(x, 1)",
    "ops.expand_dims(x[:, 0], 2)",
    "ops.squeeze(x[:, :1], 1)",
    "ops.squeeze(x[:, :, :1], 2)",
    "ops.squeeze(x[..., :1], 3)",
    *[
        f"Permute({tuple(order)})"
        for order in itertools.permutations((1, 2, 3))
        if order != (1, 2, 3)
    ],
    "ops.transpose(x, (1, 0, 2, 3))",
    "ops.transpose(x, (3, 0, 1, 2))",
    "Reshape((H * W, C)) -> Permute((2, 1))",
    "Reshape((H * W, C)) -> Permute((2, 1)) -> Reshape((C, H, W))",
    "Reshape((H * W, C)) -> Permute((2, 1)) -> Softmax()",
    "Reshape((H * W, C)) -> Softmax(axis=1)",
    "Reshape((H * W, C)) -> x[:, 1:]",
    "Reshape((H * W, C)) -> ops.mean(x, axis=1)",
    "Reshape((H * W, C)) -> ops.mean(x, axis=2)",
    "Reshape((H * W, C)) -> LayerNormalization()",
    "Reshape((H * W, C)) -> Conv1D(5, 3, padding='same')",
    "Reshape((H * W, C)) -> Conv1D(5, 3, strides=2, padding='same')",
    "Reshape((H * W, C)) -> Conv1D(5, 3, padding='causal')",
    "Reshape((H * W, C)) -> DepthwiseConv1D(3, padding='same')",
    "Reshape((H * W, C)) -> MaxPooling1D(2)",
    "Reshape((H * W, C)) -> AveragePooling1D(3, padding='same')",
    "Reshape((H * W, C)) -> GlobalAveragePooling1D()",
    "Reshape((H * W, C)) -> GlobalMaxPooling1D()",
    "Reshape((H * W, C)) -> ZeroPadding1D(2)",
    "Reshape((H * W, C)) -> Cropping1D(1)",
    "Reshape((H * W, C)) -> UpSampling1D(2)",
    "Reshape((H * W, C)) -> x + c(C)",
    "Reshape((H * W, C)) -> x + c(H * W, 1)",
    "Reshape((H * W, C)) -> x * ops.mean(x, axis=1, keepdims=True)",
    "Reshape((H * W, C)) -> x * ops.mean(x, axis=2, keepdims=True)",
    "Reshape((H * W, C)) -> ops.concatenate([ops.mean(x, axis=1, keepdims=True), x], 1)",
    "Reshape((H * W, C)) -> ops.concatenate([x, ops.sin(x)], 2)",
    "Reshape((H * W, C)) -> ops.pad(x, [[0, 0], [1, 0], [0, 0]])",
    "Reshape((H * W, C)) -> ops.flip(x, 1)",
    "Reshape((H * W, C)) -> LSTM(3, unroll=True) if H * W < 20 else Activation('relu')",
    "GlobalAveragePooling2D() -> Dense(5)",
    "GlobalAveragePooling2D() -> Dense(5, activation='relu') -> Dense(8, activation='sigmoid')",
    "GlobalAveragePooling2D() -> Dense(5) -> Softmax()",
    "GlobalAveragePooling2D() -> x + c(C)",
    "GlobalAveragePooling2D() -> x * c(C) -> Dense(3)",
    "GlobalAveragePooling2D() -> Reshape((1, 1, C)) -> Conv2D(4, 1)",
    "GlobalAveragePooling2D() -> BatchNormalization() -> Activation('relu')",
    "GlobalAveragePooling2D() -> LayerNormalization()",
    "GlobalAveragePooling2D() -> ops.concatenate([x, x * 2.0], -1)",
    "GlobalAveragePooling2D() -> ops.concatenate([x * 2.0, ops.sin(x)], 0)",
    "GlobalAveragePooling2D() -> RepeatVector(3)",
    "ops.tile(x, (1, 1, 1, 2))",
    "ops.tile(x, (1, 2, 3, 1))",
    "ops.repeat(x, 2, axis=1)",
    "ops.repeat(x, 2, axis=3)",
    "ops.take(x, [2, 0, 1], axis=3) if C > 2 else x",
    "ops.take(x, [0, 0], axis=3)",
    "ops.take(x, [2, 0, 1], axis=1) if H > 2 else x",
    "ops.take(x, 0, axis=3)",
    "ops.broadcast_to(x[:, :1], (x.shape[0], H, W, C))",
    "ops.one_hot(ops.argmax(x, axis=-1), C)",
    "Embedding(5, 4)(ops.cast(ops.clip(ops.abs(x[:, 0, 0]), 0.0, 4.0), 'int32'))",
    "Masking()",
    "Dropout(0.5)",
    "GaussianNoise(0.5)",
    "Rescaling(1 / 127.5, offset=-1)",
    "Normalization(axis=-1, mean=0.5, variance=2.0)",
    "Identity()",
    "ops.stack([x[:, 0], x[:, -1]], 1)",
    "ops.stack(ops.unstack(x[:, :, :3], axis=2)[::-1], 2)",
    "ops.concatenate(ops.unstack(x, axis=3)[:2], -1) if C > 1 else x",
]
SLICES = [
    f"x[:, {s}]"
    for s in (
        "1:", "::2", ":, 1:", ":, ::2", "1::2, 1::2", ":, :, :1", ":, :, 1:", ":, :, ::2",
        ":, :, -1:", ":-1, :-1", "0", ":, 0", ":, :, 0", "-1:", "::3, ::2", "::-1", ":, :, ::-1",
        ":, :, :2", "0, 0", "::2, ::2, 1:", ":1, :1",
    )
]  # fmt: skip
PRODUCTS = [
    "Reshape((H * W, C)) -> ops.matmul(x, c(C, 5))",
    "Reshape((H * W, C)) -> ops.matmul(x, c(1, C, 5))",
    "Reshape((H * W, C)) -> ops.matmul(c(5, H * W), x)",
    "Reshape((H * W, C)) -> ops.matmul(c(x.shape[0], 5, H * W), x)",
    "Reshape((H * W, C)) -> ops.matmul(x, ops.transpose(x, (0, 2, 1)))",
    "Reshape((H * W, C)) -> ops.matmul(ops.transpose(x, (0, 2, 1)), ops.sin(x))",
    "Reshape((H * W, C)) -> ops.einsum('bic,bjc->bij', x, ops.sin(x))",
    "Reshape((H * W, C)) -> ops.einsum('bic,bid->bcd', x, ops.sin(x))",
    "ops.matmul(x, c(C, 5))",
    "ops.matmul(x, c(1, 1, C, 5))",
    "ops.matmul(x, c(1, H, C, 5))",
    "ops.matmul(x, ops.transpose(x, (0, 1, 3, 2)))",
    "ops.matmul(x, ops.transpose(ops.sin(x), (0, 1, 3, 2)))",
    "ops.matmul(x, ops.transpose(x[:, :1], (0, 1, 3, 2)))",
    "ops.matmul(x[:, :1], ops.transpose(x, (0, 1, 3, 2)))",
    "ops.matmul(x, ops.mean(ops.transpose(x, (0, 1, 3, 2)), axis=1, keepdims=True))",
    "ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 1, 3, 2)))), x)",
    "ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x[:, :1], (0, 1, 3, 2)))), x[:, :1])",
    "Reshape((H * W, C)) -> MultiHeadAttention(2, 4)(x, x)",
    "Reshape((H * W, C)) -> MultiHeadAttention(1, 4)(x, x)",
    "Reshape((H * W, C)) -> MultiHeadAttention(3, 5)(x, ops.sin(x))",
    "Reshape((H * W, C)) -> MultiHeadAttention(2, 4)(x[:, :1], x)",
    "Reshape((H * W, C)) -> GroupQueryAttention(4, 4, 2)(x, x)",
    "Reshape((H * W, C)) -> GroupQueryAttention(4, 4, 1)(x, x)",
    "Reshape((H * W, C)) -> Attention()([x, ops.sin(x)])",
    "Reshape((H * W, C)) -> AdditiveAttention()([x, ops.sin(x)])",
    "Reshape((H * W, C)) -> Dot(axes=2)([x, ops.sin(x)])",
    "Reshape((H * W, C)) -> EinsumDense('abc,cd->abd', (None, 6), bias_axes='d')",
    "Reshape((H * W, C)) -> Dense(5, activation='gelu') -> Dense(4)",
    "MultiHeadAttention(2, 4, attention_axes=(2,))(x, x)",
    "EinsumDense('abcd,de->abce', (None, None, 6))",
    "Dense(12) -> Dense(3)",
]


def _parts() -> Iterator[tuple[tuple[int, ...], str]]:
    """Splits whose parts are put together again: in order or not, all or some, as is or changed."""
    for channels, count in ((8, 2), (8, 4), (12, 3), (12, 2), (6, 2), (6, 3), (10, 2), (4, 4)):
        shape = (1, 6, 5, channels)
        split = f"(lambda p: {{}})(ops.split(x, {count}, axis=3))"
        orders = [
            order
            for size in range(1, count + 1)
            for order in itertools.permutations(range(count), size)
        ]
        chosen = orders if len(orders) <= 15 else random.Random(0).sample(orders, 15)
        for order in chosen:
            listed = ", ".join(f"p[{i}]" for i in order)
            yield shape, split.format(f"ops.concatenate([{listed}], -1)")
        whole = [f"p[{i}]" for i in range(count)]
        back = whole[::-1]
        for text in (
            f"ops.concatenate([{', '.join([*whole, 'p[0]'])}], -1)",
            f"ops.concatenate([{', '.join([*back[:-1], 'ops.sin(p[0])'])}], -1)",
            f"ops.concatenate([{', '.join([*back, 'x'])}], -1)",
            f"ops.concatenate([x, {', '.join(back)}], -1)",
            f"ops.concatenate([{', '.join(back)}], 1)",
            f"ops.concatenate([{', '.join(whole)}], 1)",
            f"ops.concatenate([{', '.join(whole)}], 2)",
            f"ops.stack([{', '.join(back)}], 1)[:, 0]",
            f"{' + '.join(back)}",
            f"{' * '.join(whole)}",
            f"{' - '.join(back)}",
            f"{' - '.join(whole)}",
            f"(ops.concatenate([{', '.join(back)}], -1), p[0])",
            f"({', '.join(back)})",
            f"({', '.join(whole)})",
            f"ops.concatenate([{', '.join(f'Conv2D(4, 1)({p})' for p in back)}], -1)",
            f"ops.concatenate([{', '.join(f'Conv2D(5, 1)({p})' for p in whole)}], -1)",
            f"ops.concatenate([{', '.join(f'DepthwiseConv2D(3)({p})' for p in back)}], -1)",
            f"ops.concatenate([{', '.join(f'{p} * {i}.5' for i, p in enumerate(back))}], -1)",
        ):
            yield shape, split.format(text)
    for axis, shape in ((1, (1, 6, 4, 8)), (2, (1, 3, 6, 8)), (1, (1, 6, 4, 5))):
        for text in (
            "ops.concatenate([p[1], p[0]], AXIS)",
            "ops.concatenate([p[0], p[1]], AXIS)",
            "ops.concatenate([p[0], p[1]], 3)",
            "ops.concatenate([p[1], p[0]], 3)",
            "p[1] - p[0]",
            "(p[1], p[0])",
        ):
            split = f"(lambda p: {text.replace('AXIS', str(axis))})(ops.split(x, 2, axis={axis}))"
            yield shape, split
    for sizes in ([3, 5], [1, 7], [2, 3, 3], [4, 4], [1, 4, 3]):
        stops = list(itertools.accumulate(sizes))[:-1]
        split = f"(lambda p: {{}})(ops.split(x, {stops}, axis=3))"
        names = [f"p[{i}]" for i in range(len(sizes))]
        for listed in (names, names[::-1], names[1:], names[:-1]):
            yield (1, 6, 5, 8), split.format(f"ops.concatenate([{', '.join(listed)}], -1)")
            sines = ", ".join(f"ops.sin({name})" for name in listed)
            yield (1, 6, 5, 8), split.format(f"ops.concatenate([{sines}], -1)")
        slices = [f"x[..., {a}:{b}]" for a, b in itertools.pairwise([0, *stops, 8])]
        yield (1, 6, 5, 8), f"ops.concatenate([{', '.join(slices[::-1])}], -1)"
        yield (1, 6, 5, 8), f"ops.concatenate([{', '.join(slices)}], -1)"
    # Shuffles of channels.
    for groups in (2, 4):
        for channels in (8, 12, 16):
            shape = (1, 6, 5, channels)
            per = channels // groups
            yield shape, f"Reshape((H, W, {groups}, {per})) -> Permute((1, 2, 4, 3)) -> Flatten()"
            yield (
                shape,
                f"Reshape((H * W, {groups}, {per})) -> Permute((1, 3, 2)) -> "
                f"Reshape(({shape[1]}, {shape[2]}, {channels}))",
            )


def _joins() -> Iterator[tuple[tuple[int, ...], str]]:
    """Concatenations along each axis, of parts that are packed in fours or not."""
    for axis in (1, 2, 3):
        for shape in ((1, 6, 5, 8), (1, 5, 3, 6), (1, 4, 3, 3), (1, 4, 3, 1), (2, 4, 3, 5)):
            for parts in (
                "x, ops.sin(x)",
                "ops.sin(x), x",
                "x, x",
                "x, ops.sin(x), ops.abs(x)",
                "x, x, x, x, x",
                "ops.sin(x), ops.sin(x)",
                "x, c(x.shape[0], H, W, C)",
                "c(x.shape[0], H, W, C), x",
                "x, ops.zeros((x.shape[0], H, W, C))",
                "ops.zeros((x.shape[0], H, W, C)), x",
                "ops.zeros((x.shape[0], H, W, C)), x, ops.zeros((x.shape[0], H, W, C))",
                "ops.sin(x), ops.abs(x), ops.cos(x), ops.square(x), ops.exp(x), ops.tanh(x)",
            ):
                yield shape, f"ops.concatenate([{parts}], {axis})"
    for parts in (
        "Conv2D(3, 1)(x), Conv2D(5, 1)(x)",
        "Conv2D(4, 1)(x), Conv2D(4, 1)(x)",
        "x, Conv2D(3, 3, padding='same')(x), MaxPooling2D(3, strides=1, padding='same')(x)",
        "Conv2D(1, 1)(x), x",
        "Conv2D(2, 1)(x), Conv2D(2, 1)(x), Conv2D(2, 1)(x), Conv2D(2, 1)(x)",
        "*[Conv2D(k, 1)(x) for k in range(1, 8)]",
        "*[Conv2D(4, 1)(x) for k in range(20)]",
        "*[Conv2D(1, 1)(x) for k in range(17)]",
        "*[Conv2D(4, 1)(x) for k in range(40)]",
    ):
        yield MAP, f"ops.concatenate([{parts}], -1)"
        yield (2, 6, 5, 6), f"ops.concatenate([{parts}], -1)"
    yield MAP, "ops.concatenate([x, Conv2D(8, 3, padding='same')(x)], 0)"
    yield (2, 6, 5, 8), "ops.concatenate([x, ops.sin(x)], 0)"


# What pairs and triples are made of: takes a map of any size and channels, gives one.
STAGES = [
    "Conv2D(8, 1)",
    "Conv2D(8, 3, padding='same')",
    "Conv2D(6, 3, strides=2, padding='same')",
    "Conv2D(8, 1, strides=2)",
    "Conv2D(8, 3, dilation_rate=2, padding='same')",
    "Conv2D(8, 3, padding='same', activation='relu')",
    "Conv2D(3, 1, use_bias=False)",
    "DepthwiseConv2D(3, padding='same')",
    "DepthwiseConv2D(3, strides=2, padding='same')",
    "DepthwiseConv2D(1)",
    "DepthwiseConv2D(1, depth_multiplier=2)",
    "Conv2DTranspose(8, 2, strides=2)",
    "Conv2DTranspose(5, 3, strides=2, padding='same')",
    "AveragePooling2D(2)",
    "AveragePooling2D(3, strides=1, padding='same')",
    "MaxPooling2D(2)",
    "MaxPooling2D(3, strides=2, padding='same')",
    "MaxPooling2D(1, strides=2)",
    "GlobalAveragePooling2D(keepdims=True)",
    "GlobalMaxPooling2D(keepdims=True)",
    "ZeroPadding2D(1)",
    "ZeroPadding2D(((0, 1), (0, 1)))",
    "ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, 3]])",
    "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.5)",
    "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode='reflect')",
    "Cropping2D(((0, 1), (1, 0)))",
    "x[..., 1:]",
    "x[..., :1]",
    "x * c(8) if C in (1, 8) else x",
    "x + c(8) if C in (1, 8) else x",
    "x[:, ::2, ::2]",
    "UpSampling2D(2, interpolation='bilinear')",
    "Resizing(7, 9, interpolation='nearest')",
    "tf.nn.space_to_depth(x[:, :H // 2 * 2, :W // 2 * 2], 2)",
    "BatchNormalization()",
    "LayerNormalization()",
    "ReLU()",
    "ReLU(max_value=6)",
    "PReLU(shared_axes=[1, 2])",
    "LeakyReLU()",
    "Activation('sigmoid')",
    "Activation('gelu')",
    "Activation('hard_silu')",
    "Softmax()",
    "Softmax(axis=[1, 2])",
    "x + 1.5",
    "x * c(C)",
    "x - c(H, W, 1)",
    "1.0 - x",
    "x * ops.sigmoid(ops.mean(x, axis=[1, 2], keepdims=True))",
    "x * ops.sigmoid(ops.mean(x, axis=3, keepdims=True))",
    "x + Conv2D(C, 1)(x)",
    "x / (1.0 + ops.abs(x))",
    "ops.concatenate([x, ops.sin(x)], -1)",
    "ops.concatenate(ops.split(x, C, axis=3)[::-1], -1) if C > 1 else x",
    "ops.mean(x, axis=1, keepdims=True)",
    "ops.mean(x, axis=3, keepdims=True)",
    "ops.max(x, axis=3, keepdims=True)",
    "ops.sum(x, axis=2, keepdims=True)",
    "Permute((2, 1, 3))",
    "Permute((3, 1, 2))",
    "Reshape((H * W, C, 1))",
    "Reshape((1, H * W, C))",
    "Reshape((H * W, C)) -> Permute((2, 1)) -> Softmax() -> Permute((2, 1)) -> Reshape((H, W, C))",
    "Dense(7)",
    "ops.matmul(x, ops.transpose(ops.sin(x), (0, 1, 3, 2)))",
    "ops.square(x)",
    "ops.abs(x)",
    "ops.maximum(x, 0.3)",
    "ops.clip(x, -0.5, 0.7)",
]
# What leaves the rank of maps: last in a chain.
ENDS = [
    "Flatten() -> Dense(5)",
    "GlobalAveragePooling2D() -> Dense(5)",
    "GlobalMaxPooling2D()",
    "ops.mean(x, axis=[1, 2])",
    "ops.max(x, axis=1)",
    "Reshape((H * W, C)) -> Dense(4)",
    "Flatten()",
    "ops.argmax(x, axis=-1)",
]
# Two ways from one value, put together again.
BRANCHES = [
    "x",
    "Conv2D(8, 1)(x)",
    "Conv2D(C, 3, padding='same')(x)",
    "DepthwiseConv2D(3, padding='same')(x)",
    "AveragePooling2D(3, strides=1, padding='same')(x)",
    "MaxPooling2D(3, strides=1, padding='same')(x)",
    "ReLU()(x)",
    "BatchNormalization()(x)",
    "ops.sigmoid(x)",
    "x * 2.0",
    "x + c(C)",
    "ops.mean(x, axis=[1, 2], keepdims=True)",
    "ops.mean(x, axis=3, keepdims=True)",
    "ops.max(x, axis=3, keepdims=True)",
    "Conv2D(1, 3, padding='same', activation='sigmoid')(x)",
    "ops.pad(x[:, 1:-1, 1:-1], [[0, 0], [1, 1], [1, 1], [0, 0]])",
    "ops.pad(x[..., 1:], [[0, 0], [0, 0], [0, 0], [1, 0]])",
    "ops.pad(x[..., :-4], [[0, 0], [0, 0], [0, 0], [0, 4]])",
    "(lambda p: p[1] * ops.sigmoid(p[0]))(ops.split(Conv2D(2 * C, 1)(x), 2, axis=3))",
    "ops.flip(x, axis=2)",
    "x[:, ::-1]",
    "Dense(C)(GlobalAveragePooling2D(keepdims=True)(x))",
    "ops.reshape(Dense(C)(GlobalAveragePooling2D()(x)), (-1, 1, 1, C))",
    "ops.softmax(x)",
    "LayerNormalization()(x)",
]
COMBINED = ["({}) + ({})", "({}) * ({})", "({}) - ({})", "ops.maximum({}, {})"]


# What the rules advise in place of what is wrong: all to be right and without a finding.
KEEP = "ops.minimum(x, 3e38)"
ADVICE = [
    ("float32", f"ZeroPadding2D(1) -> {KEEP} -> AveragePooling2D(2)"),
    ("float32", f"ZeroPadding2D(1) -> {KEEP} -> MaxPooling2D(2)"),
    ("float32", "ReLU() -> ZeroPadding2D(1) -> MaxPooling2D(2)"),
    (
        "float32",
        "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.5) -> "
        f"{KEEP} -> Conv2D(8, 3)",
    ),
    ("float32", "ops.concatenate([x, ops.zeros((1, H, W, C))], axis=0)"),
    (
        "float32",
        "(lambda y: ops.minimum(ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, 4]]), 3e38) + y)"
        "(Conv2D(1, 1)(x))",
    ),
    ("float32", f"Conv2D(1, 1) -> {KEEP} -> x * c(8)"),
    ("float32", "Conv2D(1, 1) -> Conv2D(8, 1)"),
    ("float32", "Conv2D(8, 3, activation='tanh') -> (ops.minimum(x, 3e38), x)"),
    ("float32", "Conv2D(8, 3) -> (ops.minimum(x, 3e38), BatchNormalization()(x))"),
    ("float32", "ops.tanh(x) -> ops.concatenate([x[..., 4:], x[..., :4]], -1)"),
    ("float32", "ops.tanh(x) -> ops.sigmoid(x[..., :4]) * x[..., 4:]"),
    ("float32", "(lambda p: p[0] * ops.sigmoid(p[1]))(ops.split(ops.tanh(x), 2, axis=3))"),
    ("int8", "Conv2D(8, 3) -> ops.tanh(x[..., 4:])"),
    ("float32", "DepthwiseConv2D(3, depth_multiplier=2, padding='same')"),
    ("float32", "ops.minimum(x, 2.0 * x)"),
    ("float32", "Cropping2D(((0, 1), (0, 1))) -> Conv2DTranspose(8, 3, strides=2)"),
    (
        "float32",
        "Cropping2D(((0, 1), (0, 1))) -> Conv2DTranspose(8, 3, strides=2) -> "
        "Cropping2D(((0, 1), (0, 1)))",
    ),
    (
        "float32",
        "ops.matmul(x, ops.concatenate([ops.mean(ops.transpose(x, (0, 1, 3, 2)), axis=1, "
        "keepdims=True)] * 12, axis=1))",
    ),
    ("float32", f"x + Conv2D(8, 1)(x) -> {KEEP} -> GlobalMaxPooling2D()"),
    ("float32", "x + Conv2D(8, 1)(x) -> ReLU() -> GlobalMaxPooling2D()"),
    ("int8", "Conv2D(8, 3) -> x * Conv2D(8, 1)(GlobalAveragePooling2D(keepdims=True)(x))"),
    ("int8", "Conv2D(8, 3) -> MaxPooling2D(1, strides=2) -> Conv2D(8, 1)"),
]


@dataclass(frozen=True)
class Graph:
    """One graph of the sweep.

    Attributes:
        precision: `"float32"`, `"float16"` or `"int8"`, whose ends are float.
        shape: The shape of its input.
        text: Its stages.
    """

    precision: str
    shape: tuple[int, ...]
    text: str

    @property
    def name(self) -> str:
        """Its name, unique, which is also all that there is to it."""
        return f"{self.precision} {'x'.join(map(str, self.shape))} {self.text}"

    @classmethod
    def of(cls, name: str) -> Graph:
        precision, shape, text = name.split(" ", 2)
        return cls(precision, tuple(map(int, shape.split("x"))), text)


SINGLE = [
    *CONVOLUTIONS, *POOLS, *PADS, *SIZES, *ACTIVATIONS, *BINARY, *REDUCTIONS, *NORMS, *SHAPING,
    *SLICES, *PRODUCTS,
]  # fmt: skip


def _both(text: str) -> str | None:
    """A stage whose input is an output of the graph too; `None` for a chain of stages."""
    if " -> " in text:
        return None
    return f"(x, {text}(x))" if text[0].isupper() and "(x" not in text else f"(x, {text})"


def graphs() -> list[Graph]:
    """All graphs, each once: what the rules advise, the pieces of networks, all else.

    Any beginning of each of the latter two is a sample of it.
    """
    found: dict[Graph, None] = {}
    drawn = random.Random(1)

    def add(precision: str, shape: tuple[int, ...], text: str, share: float = 1.0) -> None:
        if drawn.random() < share:
            found[Graph(precision, shape, text)] = None

    for shape, text in itertools.chain(((MAP, text) for text in SINGLE), _parts(), _joins()):
        same = f"Conv2D({shape[3]}, 3, padding='same')"
        add("float32", shape, f"{same} -> {text}")
        add("int8", shape, f"{same} -> {text}", 0.6)
        add("float32", shape, text, 0.4)
        add("float16", shape, text, 0.1)
    for shape, text in itertools.product(SHAPES[1:], SINGLE):
        add("float32", shape, text, 0.15)
    for first, second in itertools.product(STAGES, [*STAGES, *ENDS]):
        precision = drawn.choice(["float32", "float32", "int8"])
        add(precision, MAP, f"{BEFORE} -> {first} -> {second}")
        add(precision, drawn.choice(SHAPES), f"{first} -> {second}", 0.1)
        if (both := _both(second)) and first != second:
            add(drawn.choice(["float32", "int8"]), MAP, f"{first} -> {both}", 0.2)
    for one, two in itertools.product(BRANCHES, BRANCHES):
        text = drawn.choice(COMBINED).format(one, two)
        add(drawn.choice(["float32", "float32", "int8"]), MAP, f"{BEFORE} -> {text}")
        add("float32", (2, 6, 5, 8), f"Conv2D(C, 3, padding='same') -> {text}", 0.2)
    for _ in range(2000):
        text = " -> ".join([BEFORE, *drawn.choices(STAGES, k=3)])
        shape = drawn.choice([MAP, MAP, *SHAPES[2:5], (2, 8, 8, 12)])
        add(drawn.choice(["float32", "int8", "float16"]), shape, text)
    every = list(found)
    drawn.shuffle(every)
    advised = [Graph(precision, MAP, text) for precision, text in ADVICE]
    return list(dict.fromkeys([*advised, *_pieces(), *every]))


def _pieces() -> list[Graph]:
    """The pieces of networks, after a convolution and by themselves; grouped convolutions."""
    drawn = random.Random(2)
    found: list[Graph] = []

    def add(precision: str, shape: tuple[int, ...], text: str, share: float = 1.0) -> None:
        if drawn.random() < share:
            found.append(Graph(precision, shape, text))

    for text in PIECES:
        add("float32", MAP, f"{BEFORE} -> {text}")
        add("int8", MAP, f"{BEFORE} -> {text}", 0.5)
        add("float16", MAP, f"{BEFORE} -> {text}", 0.15)
        add("float32", MAP, text, 0.4)
        add("float32", drawn.choice(BATCHED), f"Conv2D(C, 3, padding='same') -> {text}", 0.4)
        add("float32", MAP, f"{BEFORE} -> {drawn.choice(STAGES)} -> {text}", 0.3)
    for channels, filters, groups in GROUPED:
        text = f"Conv2D({filters}, {drawn.choice((1, 3))}, groups={groups}, padding='same')"
        for precision, share in (("float32", 1.0), ("int8", 0.5), ("float16", 0.3)):
            add(precision, (1, 12, 10, channels), text, share)
    drawn.shuffle(found)
    return found


if __name__ == "__main__":
    print(len(graphs()))
