"""Pieces of networks in use, as stages of `gpu_graphs.py`: gates, attention, norms, powers.

Imports the standard library.
"""

from __future__ import annotations

POWERS = [
    *[f"x ** {power}" for power in (-3.0, -2.0, -1.0, 0.0, 1.0, 4.0, 5.0, 6.0, 7.0)],
    *[f"ops.relu(x) ** {power}" for power in (0.01, 0.05, 0.1, 0.3, 0.5, 1.5, 2.0, 3.0, 5.0)],
    *[f"(ops.abs(x) + 0.1) ** {power}" for power in (-2.5, -1.0, -0.5, -0.01, 0.01, 0.25, 0.5)],
    *[f"{base} ** x" for base in (0.5, 1.0, 3.0, 4.0, 10.0, 2.718281828)],
    "(-2.0) ** ops.round(x)",
    "2.0 ** ops.round(x)",
    "ops.exp2(x)",
    "ops.abs(c(C)) ** x",
    "ops.relu(x) ** (c(C) ** 2 + 0.2)",
    "ops.relu(x) ** ops.relu(ops.sin(x))",
    "ops.mean(ops.maximum(x, 1e-6) ** 3.0, axis=[1, 2], keepdims=True) ** (1 / 3)",
    "ops.mean(ops.maximum(x, 1e-6) ** 3.0, axis=[1, 2]) ** (1 / 3)",
    "ops.sqrt(ops.relu(x))",
    "ops.rsqrt(ops.relu(x) + 1e-6)",
    "ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6)",
    "ops.square(ops.relu(x))",
    "ops.sign(x) * ops.sqrt(ops.abs(x))",
    "ops.expm1(x)",
    "ops.cbrt(x)",
]
ACTIVATIONS = [
    *[
        f"Activation({name!r})"
        for name in (
            "hard_swish", "squareplus", "sparse_plus", "sparse_sigmoid", "tanh_shrink",
            "soft_shrink", "hard_shrink", "gelu", "silu", "softplus", "elu", "selu", "mish",
        )
    ],
    "ELU(alpha=0.3)",
    "ELU(alpha=2.0)",
    "LeakyReLU(negative_slope=0.0)",
    "LeakyReLU(negative_slope=1.0)",
    "LeakyReLU(negative_slope=-0.5)",
    "ReLU(negative_slope=0.1)",
    "ReLU(max_value=6.0, negative_slope=0.1)",
    "ReLU(max_value=6.0, threshold=1.0)",
    "PReLU(shared_axes=[1, 2, 3])",
    "PReLU(shared_axes=[1])",
    "PReLU(shared_axes=[3])",
    "x * ops.sigmoid(1.702 * x)",
    "x * ops.relu6(x + 3.0) / 6.0",
    "x * ops.relu6(x + 3.0) * (1 / 6)",
    "ops.relu6(x + 3.0) / 6.0",
    "0.5 * x * (1.0 + ops.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))",
    "0.5 * x * (1.0 + ops.tanh(0.7978845608 * (x + 0.044715 * x ** 3)))",
    "0.5 * x * (1.0 + ops.erf(x / 1.4142135))",
    "ops.log(1.0 + ops.exp(x))",
    "x * ops.tanh(ops.log(1.0 + ops.exp(x)))",
    "ops.maximum(x, 0.2 * x)",
    "ops.minimum(ops.maximum(x, -1.0), 1.0)",
    "ops.where(x > 0.0, x, 0.1 * x)",
    "ops.where(x > 0.0, x, ops.exp(x) - 1.0)",
    "c(C) * x * ops.sigmoid(c(C) * x)",
    "c(1, 1, 1, C) * ops.relu(x) + c(1, 1, 1, C)",
    "x * ops.sigmoid(x) * ops.tanh(x)",
    "ops.softmax(x / 0.1)",
    "ops.sigmoid(x) - 0.5",
    "ops.tanh(x) * c(C) + c(C)",
    "Softmax(axis=3)(x * 2.0) * x",
    "ops.log_softmax(x, axis=1)",
    "ops.tanh(x / 30.0) * 30.0",
    "ops.arctan2(x, ops.abs(x) + 0.1)",
    "ops.logaddexp(x, 0.5 * x)",
    "ops.heaviside(x, 0.5)",
]  # fmt: skip
_GATE = "ops.sigmoid(Dense(C)(ops.relu(Dense(2)({}))))"
_MEAN = "GlobalAveragePooling2D(keepdims=True)(x)"
GATES = [
    # Squeeze and excitation, and its kin.
    f"x * {_GATE.format(_MEAN)}",
    f"x * ops.reshape({_GATE.format('GlobalAveragePooling2D()(x)')}, (-1, 1, 1, C))",
    "x * ops.reshape(Dense(C, activation='sigmoid')(GlobalMaxPooling2D()(x)), (-1, 1, 1, C))",
    f"x * Conv2D(C, 1, activation='sigmoid')(Conv2D(2, 1, activation='relu')({_MEAN}))",
    f"x * Conv2D(C, 1, activation='hard_sigmoid')(Conv2D(4, 1, activation='relu')({_MEAN}))",
    f"Multiply()([x, Conv2D(C, 1, activation='sigmoid')({_MEAN})])",
    f"x * ops.softmax(Conv2D(C, 1)({_MEAN}))",
    f"x + Conv2D(C, 1)({_MEAN})",
    f"x * ({_GATE.format(_MEAN)} + {_GATE.format('GlobalMaxPooling2D(keepdims=True)(x)')})",
    "x * ops.sigmoid(Dense(C)(ops.mean(x, axis=[1, 2], keepdims=True)"
    " + ops.max(x, axis=[1, 2], keepdims=True)))",
    "x * ops.reshape(ops.sigmoid(Conv1D(1, 3, padding='same')"
    "(ops.reshape(GlobalAveragePooling2D()(x), (-1, C, 1)))), (-1, 1, 1, C))",
    "x * Conv2D(1, 7, padding='same', activation='sigmoid')(ops.concatenate("
    "[ops.mean(x, axis=3, keepdims=True), ops.max(x, axis=3, keepdims=True)], 3))",
    "x * Conv2D(1, 1, activation='sigmoid')(x)",
    "x * ops.sigmoid(DepthwiseConv2D(3, padding='same')(x))",
    "x * Conv2D(C, 1, activation='sigmoid')(ops.mean(x, axis=1, keepdims=True))"
    " * Conv2D(C, 1, activation='sigmoid')(ops.mean(x, axis=2, keepdims=True))",
    "x * UpSampling2D(2)(Conv2D(C, 3, strides=2, padding='same', activation='sigmoid')(x))",
    "x * (1.0 + ops.tanh(Conv2D(C, 1)(x)))",
    "(lambda g: g * x + (1.0 - g) * ops.tanh(Conv2D(C, 1)(x)))(ops.sigmoid(Dense(C)(x)))",
    # Gated linear units.
    "Dense(C)(Dense(2 * C)(x) * ops.sigmoid(Dense(2 * C)(x)))",
    "Dense(C)(ops.silu(Dense(12)(x)) * Dense(12)(x))",
    "Dense(C)(ops.gelu(Dense(12)(x)) * Dense(12)(x))",
    "Dense(16) -> (lambda p: p[0] * ops.sigmoid(p[1]))(ops.split(x, 2, axis=3))",
    "Dense(16) -> (lambda p: ops.silu(p[0]) * p[1])(ops.split(x, 2, axis=3))",
    "Dense(16) -> (lambda p: p[0] * ops.gelu(p[1]))(ops.split(x, 2, axis=3))",
    "Dense(16) -> (lambda p: p[0] * p[1])(ops.split(x, 2, axis=3))",
    "Dense(16) -> (lambda p: ops.tanh(p[0]) * ops.sigmoid(p[1]))(ops.split(x, 2, axis=3))",
    "Dense(16) -> (lambda p: p[0] * DepthwiseConv2D(3, padding='same')(p[1]))"
    "(ops.split(x, 2, axis=3))",
    "Dense(16) -> ops.silu(x[..., :8]) * x[..., 8:]",
    "Dense(16) -> x[..., :8] * x[..., 8:]",
    "Dense(16) -> x[..., :8] * ops.gelu(x[..., 8:])",
    "Dense(24) -> (lambda p: p[2] * ops.sigmoid(p[0]) + p[1])(ops.split(x, 3, axis=3))",
    "Dense(32) -> (lambda p: ops.sigmoid(p[0]) * ops.tanh(p[1]) + ops.sigmoid(p[2]) * p[3])"
    "(ops.split(x, 4, axis=3))",
    # Maxout, mixtures, scales of layers and of channels.
    "Dense(16) -> (lambda p: ops.maximum(p[0], p[1]))(ops.split(x, 2, axis=3))",
    "ops.maximum(Dense(C)(x), Dense(C)(x))",
    "(lambda w: w[..., :1] * x + w[..., 1:] * Conv2D(C, 3, padding='same')(x))"
    f"(ops.softmax(Dense(2)({_MEAN})))",
    "x + c(1, 1, 1, C) * Conv2D(C, 1)(x)",
    "x + 1e-5 * Conv2D(C, 1)(x)",
    "x + (DepthwiseConv2D(3, padding='same')(x) - x) * c(C)",
    "AveragePooling2D(3, strides=1, padding='same')(x) - x",
    "Add()([x, Conv2D(C, 1)(x), DepthwiseConv2D(3, padding='same')(x)])",
    "Average()([x, Conv2D(C, 1)(x)])",
    "Maximum()([x, Conv2D(C, 1)(x)])",
    "Subtract()([x, Conv2D(C, 1)(x)])",
    "Concatenate()([x, Conv2D(4, 1)(x), Conv2D(4, 3, padding='same')(x)])",
    "Concatenate(axis=1)([x, ops.sin(x)])",
    "Dense(4 * C, activation='gelu') -> Dense(8)",
    "DepthwiseConv2D(7, padding='same') -> LayerNormalization() -> Dense(32, activation='gelu')"
    " -> Dense(8) -> x * c(C)",
    "Conv2D(8, 1, activation='relu6') -> DepthwiseConv2D(3, padding='same', activation='relu6')"
    " -> Conv2D(8, 1)",
    "x * c(H, W, C) + c(H, W, C)",
    "ops.sqrt(ops.square(x[..., :4]) + ops.square(x[..., 4:]) + 1e-6)",
]
NORMS = [
    "GroupNormalization(groups=2)",
    "GroupNormalization(groups=4)",
    "GroupNormalization(groups=1, scale=False, center=False)",
    "RMSNormalization(axis=[1, 2, 3])",
    "RMSNormalization(axis=3)",
    "UnitNormalization(axis=3)",
    "UnitNormalization(axis=[1, 2])",
    "UnitNormalization(axis=[1, 2, 3])",
    "LayerNormalization(axis=1)",
    "LayerNormalization(axis=[2, 3])",
    "LayerNormalization(center=False)",
    "LayerNormalization(scale=False)",
    "LayerNormalization(epsilon=1e-6)",
    "BatchNormalization(scale=False)",
    "BatchNormalization(center=False)",
    "ops.normalize(x, axis=-1, order=1)",
    "ops.normalize(x, axis=1)",
    "ops.normalize(x, axis=[1, 2])",
    "x / (ops.max(ops.abs(x), axis=-1, keepdims=True) + 1e-6)",
    "x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-6)",
    "x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6)",
    "x * ops.rsqrt(ops.mean(ops.square(x), axis=[1, 2], keepdims=True) + 1e-6)",
    "(x - ops.mean(x, axis=[1, 2], keepdims=True))"
    " * ops.rsqrt(ops.var(x, axis=[1, 2], keepdims=True) + 1e-5)",
    "(x - ops.mean(x, axis=3, keepdims=True)) / (ops.std(x, axis=3, keepdims=True) + 1e-5)",
    "(x - ops.min(x, axis=[1, 2, 3], keepdims=True)) / (ops.max(x, axis=[1, 2, 3], keepdims=True)"
    " - ops.min(x, axis=[1, 2, 3], keepdims=True) + 1e-6)",
    # Global response normalization, and norms with gates.
    "(lambda g: x * (g / (ops.mean(g, axis=-1, keepdims=True) + 1e-6)) * c(C) + c(C) + x)"
    "(ops.sqrt(ops.sum(ops.square(x), axis=[1, 2], keepdims=True) + 1e-6))",
    "LayerNormalization()(x) * (1.0 + Dense(C)(GlobalAveragePooling2D(keepdims=True)(x)))"
    " + Dense(C)(GlobalAveragePooling2D(keepdims=True)(x))",
    "x + LayerNormalization()(Dense(C)(x))",
    "LayerNormalization()(x + Dense(C)(x))",
    "RMSNormalization()(x + Dense(C)(x))",
    "BatchNormalization() -> ReLU() -> Conv2D(8, 3, padding='same')",
    "Conv2D(8, 3, use_bias=False) -> BatchNormalization() -> Activation('hard_swish')",
    "Conv2D(8, 3) -> BatchNormalization() -> PReLU(shared_axes=[1, 2])",
    "Reshape((H * W, C)) -> GroupNormalization(groups=2)",
    "Reshape((H * W, C)) -> RMSNormalization()",
    "Reshape((H * W, C)) -> BatchNormalization()",
    "Reshape((H * W, C)) -> UnitNormalization()",
    "GlobalAveragePooling2D() -> RMSNormalization()",
    "GlobalAveragePooling2D() -> UnitNormalization()",
    "GlobalAveragePooling2D() -> GroupNormalization(groups=2)",
]
_ROWS = "Reshape((H * W, C)) -> "
_HEADS = "ops.transpose(ops.reshape({}, (-1, H * W, 2, 4)), (0, 2, 1, 3))"
ATTENTION = [
    f"{_ROWS}ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(ops.sin(x), (0, 2, 1))) * 0.35), "
    "x)",
    f"{_ROWS}ops.matmul(ops.softmax(ops.matmul(Dense(4)(x), ops.transpose(Dense(4)(x), (0, 2, 1))) "
    "+ c(1, W, W)), Dense(8)(x))",
    f"{_ROWS}ops.matmul(ops.softmax(ops.matmul(Dense(4)(x), ops.transpose(Dense(4)(x), (0, 2, 1))) "
    "+ c(W, W)), Dense(8)(x))",
    f"{_ROWS}ops.matmul(ops.softmax(ops.where(ops.tril(ops.ones((1, W, W))) > 0, "
    "ops.matmul(Dense(4)(x), ops.transpose(Dense(4)(x), (0, 2, 1))), -1e9)), Dense(8)(x))",
    f"{_ROWS}ops.matmul(ops.softmax(ops.matmul(Dense(4)(x), ops.transpose(Dense(4)(x), (0, 2, 1))) "
    "- 1e4 * ops.triu(ops.ones((W, W)), 1)), Dense(8)(x))",
    f"{_ROWS}MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)",
    f"{_ROWS}MultiHeadAttention(2, 4, value_dim=3, output_shape=5)(x, x)",
    f"{_ROWS}MultiHeadAttention(4, 2, use_bias=False)(x, x)",
    f"{_ROWS}GroupQueryAttention(4, 4, 4)(x, x)",
    f"{_ROWS}x + MultiHeadAttention(2, 4)(LayerNormalization()(x), LayerNormalization()(x))",
    f"{_ROWS}Attention(use_scale=True)([x, ops.sin(x), ops.cos(x)])",
    f"{_ROWS}Attention(score_mode='concat')([x[:, :6], ops.sin(x)])",
    f"{_ROWS}Attention()([x, x], use_causal_mask=True)",
    # Linear attention, of elu + 1 or of softmaxes of both sides.
    f"{_ROWS}ops.matmul(ops.elu(Dense(4)(x)) + 1.0, ops.matmul(ops.transpose("
    "ops.elu(Dense(4)(x)) + 1.0, (0, 2, 1)), Dense(8)(x)))",
    f"{_ROWS}ops.matmul(ops.relu(Dense(4)(x)), ops.matmul(ops.transpose("
    "ops.relu(Dense(4)(x)), (0, 2, 1)), Dense(8)(x))) / (ops.matmul(ops.relu(Dense(4)(x)), "
    "ops.transpose(ops.sum(ops.relu(Dense(4)(x)), axis=1, keepdims=True), (0, 2, 1))) + 1e-6)",
    f"{_ROWS}ops.matmul(ops.softmax(x, axis=2), ops.matmul(ops.transpose(ops.softmax("
    "ops.sin(x), axis=1), (0, 2, 1)), x))",
    f"{_ROWS}ops.matmul(ops.softmax(ops.matmul(ops.transpose(ops.normalize(x, axis=1), (0, 2, 1)), "
    "ops.normalize(ops.sin(x), axis=1))), ops.transpose(x, (0, 2, 1)))",
    # Heads of four dimensions, folded into the batch, or talking.
    _HEADS.format("ops.reshape(x, (-1, H * W, C))"),
    "(lambda q, k: ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))))"
    f"({_HEADS.format('Dense(8)(x)')}, {_HEADS.format('Dense(8)(x)')})",
    "(lambda q, k, v: ops.reshape(ops.transpose(ops.matmul(ops.softmax(ops.matmul(q, "
    "ops.transpose(k, (0, 1, 3, 2))) * 0.5), v), (0, 2, 1, 3)), (-1, H, W, 8)))"
    f"({_HEADS.format('Dense(8)(x)')}, {_HEADS.format('Dense(8)(x)')}, "
    f"{_HEADS.format('Dense(8)(x)')})",
    "(lambda q, k: ops.softmax(ops.matmul(q, k) + c(1, 2, H * W, H * W)))"
    f"({_HEADS.format('Dense(8)(x)')}, "
    f"ops.transpose({_HEADS.format('Dense(8)(x)')}, (0, 1, 3, 2)))",
    f"{_ROWS}Dense(24) -> (lambda p: ops.matmul(ops.softmax(ops.matmul(p[0], ops.transpose("
    "p[1], (0, 2, 1)))), p[2]))(ops.split(x, 3, axis=2))",
    f"{_ROWS}Dense(24) -> ops.matmul(ops.softmax(ops.matmul(x[..., :8], ops.transpose("
    "x[..., 8:16], (0, 2, 1)))), x[..., 16:])",
    f"{_ROWS}ops.einsum('bic,bjc->bij', Dense(4)(x), Dense(4)(x)) -> ops.softmax(x, axis=1)",
    f"{_ROWS}ops.einsum('bij,bjc->bic', ops.softmax(Dense(W)(x)), x)",
    "ops.einsum('bhwc,bhvc->bhwv', Dense(4)(x), Dense(4)(x)) -> Softmax()",
    "ops.einsum('bhwc,cd->bhwd', x, c(C, 5))",
    "ops.einsum('bhwc,bc->bhw', x, ops.mean(x, axis=[1, 2]))",
    # Positions, rotary and added; the class token.
    f"{_ROWS}x + c(1, W, C)",
    f"{_ROWS}ops.concatenate([ops.broadcast_to(c(1, 1, C), (x.shape[0], 1, C)), x], 1)",
    f"{_ROWS}ops.concatenate([ops.zeros((x.shape[0], 1, C)) + c(1, 1, C), x], 1) -> x[:, 0]",
    f"{_ROWS}ops.concatenate([-x[..., 4:], x[..., :4]], -1) * c(W, C) + x * c(W, C)",
    f"{_ROWS}(lambda p: ops.concatenate([-p[1], p[0]], -1))(ops.split(x, 2, axis=2))"
    " -> x * c(W, C)",
    f"{_ROWS}(lambda p: ops.concatenate([p[0] * c(W, 4) - p[1] * c(W, 4), "
    "p[0] * c(W, 4) + p[1] * c(W, 4)], -1))(ops.split(x, 2, axis=2))",
    "ops.concatenate([x, ops.broadcast_to(c(1, H, W, 2), (x.shape[0], H, W, 2))], 3)",
    # Patches and windows.
    "Conv2D(16, 4, strides=4) -> Reshape((H * W, C)) -> LayerNormalization() -> Dense(8)",
    "ops.reshape(x, (-1, 2, H // 2, W, C)) -> ops.reshape(x, (-1, H, W, C))",
    "ops.reshape(x, (-1, H // 2, 2, W * C)) -> ops.transpose(x, (0, 2, 1, 3))",
    "ops.reshape(x, (-1, H // 2, 2 * W, C))",
    "ops.concatenate([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)",
    "ops.concatenate([x[:, 1:], x[:, :1]], 1)",
    "ops.concatenate([x[:, :, -2:], x[:, :, :-2]], 2)",
    "ops.roll(x, -2, axis=1)",
    "ops.image.extract_patches(x, (2, 2))",
    f"{_ROWS}Permute((2, 1)) -> Dense(12, activation='gelu') -> Dense(6) -> Permute((2, 1))",
]
REDUCTIONS = [
    # Keras's own has operations that TensorFlow's converter does not take.
    *[
        f"tf.{how}(x, {axis}, output_type='{dtype}')"
        for how in ("argmax", "argmin")
        for axis in (1, 2, 3)
        for dtype in ("int32", "int64")
    ],
    *[f"ops.cumsum(x, axis={axis})" for axis in (2, 3)],
    "ops.flip(ops.cumsum(ops.flip(x, 1), axis=1), 1)",
    "tf.cumsum(x, axis=1, exclusive=True)",
    "tf.cumsum(x, axis=2, reverse=True)",
    "tf.cumsum(x, axis=3, exclusive=True, reverse=True)",
    f"{_ROWS}ops.cumsum(x, axis=1)",
    f"{_ROWS}ops.cumsum(x, axis=2)",
    "ops.cumprod(ops.tanh(x), axis=1)",
    "ops.top_k(x, 1)[0]",
    "ops.top_k(x, 3)[1]",
    "ops.cast(x >= ops.max(x, axis=-1, keepdims=True), 'float32')",
    "ops.max(x, axis=-1) - ops.min(x, axis=-1)",
    "ops.all(x > -1.0, axis=3)",
    "ops.any(x > 0.5, axis=[1, 2])",
    "ops.count_nonzero(x > 0.3, axis=3)",
    "ops.diff(x, axis=1)",
    "ops.median(x, axis=-1)",
    "ops.mean(ops.abs(x), axis=[1, 2])",
    "ops.sum(ops.softmax(x) * c(C), axis=-1)",
    "ops.sum(x * ops.softmax(Conv2D(1, 1)(x), axis=[1, 2]), axis=[1, 2])",
    "ops.mean(x, axis=[1, 2]) -> tf.argmax(x, -1, output_type='int32')",
    "ops.mean(x, axis=[1, 2]) -> ops.softmax(x) -> ops.max(x, axis=-1)",
    "ops.concatenate([ops.mean(x, axis=[1, 2]), ops.max(x, axis=[1, 2])], -1)",
    "ops.concatenate([ops.mean(x, axis=[1, 2]), ops.std(x, axis=[1, 2])], -1)",
    "ops.stack([ops.mean(x, axis=3), ops.max(x, axis=3)], 3)",
    "ops.var(x, axis=[1, 2], keepdims=True)",
    "ops.logsumexp(x, axis=[1, 2])",
    "ops.norm(x, ord=1, axis=-1)",
    "ops.norm(x, axis=[1, 2])",
]
SIZES = [
    "UpSampling2D(3)",
    "UpSampling2D((2, 3), interpolation='bilinear')",
    "UpSampling2D(4, interpolation='bilinear')",
    *[
        f"ops.image.resize(x, ({height}, {width}), interpolation={how!r}{more})"
        for height, width, how, more in (
            (24, 20, "bilinear", ""),
            (24, 20, "nearest", ""),
            (6, 5, "bilinear", ", antialias=True"),
            (3, 20, "bilinear", ""),
            (24, 5, "nearest", ""),
            (36, 30, "nearest", ""),
            (18, 15, "bilinear", ""),
            (6, 5, "bicubic", ""),
            (24, 20, "lanczos3", ""),
            (20, 20, "bilinear", ", pad_to_aspect_ratio=True"),
            (8, 8, "bilinear", ", crop_to_aspect_ratio=True"),
        )
    ],
    "tf.image.resize(x, (24, 20), method='area')",
    "tf.compat.v1.image.resize_nearest_neighbor(x, (6, 5), align_corners=True)",
    "tf.compat.v1.image.resize_nearest_neighbor(x, (24, 20), half_pixel_centers=True)",
    "tf.compat.v1.image.resize_bilinear(x, (6, 5), align_corners=True)",
    "tf.compat.v1.image.resize_bilinear(x, (6, 5), half_pixel_centers=True)",
    "tf.compat.v1.image.resize_bilinear(x, (1, 1), align_corners=True)",
    "Resizing(16, 16, crop_to_aspect_ratio=True)",
    "CenterCrop(6, 6)",
    "tf.nn.depth_to_space(x, 2)",
    "Conv2D(12, 1) -> tf.nn.depth_to_space(x, 2)",
    "Conv2D(9, 1) -> tf.nn.depth_to_space(x, 3)",
    "Conv2D(16, 1) -> tf.nn.depth_to_space(x, 4)",
    "tf.nn.space_to_depth(x, 2) -> Conv2D(8, 1)",
    "tf.nn.space_to_depth(x, 2) -> tf.nn.depth_to_space(x, 2)",
    "AdaptiveAveragePooling2D((3, 2))",
    "AdaptiveAveragePooling2D(5)",
    "AdaptiveMaxPooling2D((4, 5))",
    "AdaptiveAveragePooling2D(1)",
    "x + UpSampling2D(2)(AveragePooling2D(2)(x))",
    "x + UpSampling2D(2, interpolation='bilinear')(MaxPooling2D(2)(x))",
    "ops.concatenate([x, UpSampling2D(2)(Conv2D(8, 3, strides=2, padding='same')(x))], -1)",
    "ops.concatenate([MaxPooling2D(s, strides=1, padding='same')(x) for s in (5, 9, 13)], -1)",
    "ops.concatenate([AveragePooling2D(2)(x), MaxPooling2D(2)(x)], -1)",
    *[
        f"ops.pad(x, [[0, 0], {around}], mode={mode!r})"
        for mode in ("constant", "reflect", "symmetric")
        for around in (
            "[2, 2], [2, 2], [0, 0]",
            "[1, 0], [0, 2], [0, 0]",
            "[0, 0], [0, 0], [1, 2]",
            "[0, 0], [0, 3], [0, 0]",
            "[1, 1], [1, 1], [1, 1]",
        )
    ],
    *[
        f"{_ROWS}ops.pad(x, [[0, 0], {around}], mode={mode!r})"
        for mode in ("constant", "reflect", "symmetric")
        for around in ("[1, 2], [0, 0]", "[0, 0], [2, 1]")
    ],
    "ops.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]], mode='reflect') -> Conv2D(8, 7)",
    "ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode='symmetric') -> DepthwiseConv2D(3)",
    "ZeroPadding2D(1) -> DepthwiseConv2D(3, strides=2)",
    "ZeroPadding2D(((0, 1), (0, 1))) -> Conv2D(8, 3, strides=2)",
    "ZeroPadding2D(1) -> BatchNormalization() -> Conv2D(8, 3)",
    "ZeroPadding2D(1) -> ReLU() -> Conv2D(8, 3)",
    "ZeroPadding2D(1) -> Conv2DTranspose(8, 3, strides=2)",
    "Cropping2D(((1, 0), (0, 1))) -> ZeroPadding2D(((0, 1), (1, 0)))",
]
CHOICES = [
    *[
        f"ops.where(x {test} {operand}, {chosen})"
        for test, operand in (
            (">", "0.0"),
            (">=", "c(C)"),
            ("<", "c(H, W, C)"),
            ("<=", "ops.sin(x)"),
            ("!=", "0.0"),
            (">", "ops.mean(x, axis=3, keepdims=True)"),
        )
        for chosen in ("x, -x", "0.0, x", "x, 0.5", "x, c(C)", "x, c(H, W, C)")
    ],
    *[
        f"ops.cast(ops.{test}(x, {operand}), 'float32')"
        for test in ("greater", "greater_equal", "less_equal", "equal", "not_equal")
        for operand in ("0.0", "c(C)", "ops.sin(x)")
    ],
    *[
        f"ops.cast(ops.logical_{how}(x > 0.1, ops.sin(x) > 0.2), 'float32')"
        for how in ("and", "or", "xor")
    ],
    "ops.cast(ops.logical_not(x > 0.1), 'float32')",
    "x * ops.cast(x > 0.3, 'float32')",
    "x * ops.cast(ops.abs(x) > 0.3, 'float32') + 0.1",
    "ops.where(c(H, W, C) > 0, x, 0.0)",
    "ops.where(c(C) > 0, x, -x)",
    "ops.where(c(H, W, 1) > 0, x, -1.0)",
    "ops.where(ops.mean(x, axis=3, keepdims=True) > 0, x, -x)",
    "ops.where(ops.mean(x, axis=[1, 2], keepdims=True) > 0, x, 0.0)",
    "ops.where(ops.isnan(x), 0.0, x)",
    "ops.nan_to_num(x)",
    "ops.divide_no_nan(x, ops.relu(ops.sin(x)))",
    "ops.sign(x) * ops.log1p(ops.abs(x))",
    "ops.clip(x, -3.0, 3.0) / 6.0 + 0.5",
    "ops.clip(ops.round(x * 127.0), -128.0, 127.0) / 127.0",
    "ops.fmod(x, 0.7)",
    "ops.mod(ops.abs(x), 2.0)",
    "ops.floor_divide(x, 0.25)",
    "ops.take(x, [1, 1, 0], axis=2) if W > 1 else x",
    "ops.take_along_axis(x, ops.argsort(x, axis=-1), axis=-1)",
    "ops.one_hot(ops.argmax(x, axis=3), C) * x",
    "ops.eye(C)[None, None] * x[:, :1, :1]",
    "ops.tril(x)",
    "ops.rot90(x, axes=(1, 2))",
    "ops.swapaxes(x, 1, 2) -> ops.flip(x, 1)",
    "ops.moveaxis(x, 3, 1)",
    "ops.moveaxis(x, 3, 1) -> Conv2D(4, 3) -> ops.moveaxis(x, 1, 3)",
    "ops.moveaxis(x, 3, 1) -> ops.mean(x, axis=[2, 3])",
    "ops.slice(x, (0, 1, 1, 0), (x.shape[0], H - 2, W - 2, C)) if H > 2 and W > 2 else x",
    "ops.slice_update(x, (0, 0, 0, 0), ops.sin(x[:, :1]))",
    "ops.cast(ops.cast(x * 4.0, 'int32') * 2, 'float32')",
    "ops.cast(ops.cast(x, 'bool'), 'float32')",
    "ops.cast(ops.cast(x, 'float16'), 'float32')",
]
SEQUENCES = [
    f"{_ROWS}{stage}"
    for stage in (
        "Conv1D(8, 5, dilation_rate=2, padding='causal')",
        "Conv1D(8, 3, strides=3)",
        "Conv1D(8, 1, activation='sigmoid')",
        "Conv1D(C, 3, groups=C, padding='same')",
        "SeparableConv1D(8, 3, padding='same')",
        "Conv1DTranspose(8, 3, strides=2, padding='same')",
        "Conv1DTranspose(8, 4, strides=2)",
        "DepthwiseConv1D(5, strides=2)",
        "DepthwiseConv1D(3, depth_multiplier=2, padding='same')",
        "MaxPooling1D(3, strides=2, padding='same')",
        "AveragePooling1D(2)",
        "AdaptiveAveragePooling1D(4)",
        "GlobalMaxPooling1D() -> Dense(3)",
        "TimeDistributed(Dense(5))",
        "x * Dense(1, activation='sigmoid')(x)",
        "x * ops.softmax(Dense(1)(x), axis=1) -> ops.sum(x, axis=1)",
        "ops.tanh(Conv1D(8, 2, padding='causal')(x)) * "
        "ops.sigmoid(Conv1D(8, 2, padding='causal')(x))",
        "x + Conv1D(C, 3, padding='same')(x)",
        "LayerNormalization() -> Conv1D(16, 1, activation='gelu') -> Conv1D(8, 1)",
        "x[:, -1]",
        "x[:, ::2]",
        "x[:, :, ::2]",
        "ops.concatenate([x[:, :1], x[:, 1:] - x[:, :-1]], 1)",
        "ops.concatenate([x, ops.zeros((x.shape[0], 1, C))], 1)",
        "ops.max(x, axis=1)",
        "ops.max(x, axis=2)",
        "tf.argmax(x, 1, output_type='int32')",
        "ops.expand_dims(x, 1) -> Conv2D(4, (1, 3))",
        "x - ops.max(x, axis=2, keepdims=True) -> ops.exp(x)",
        "x / ops.sum(ops.abs(x), axis=1, keepdims=True)",
        "x * c(C) + c(C)",
        "x + c(1, 1, C)",
        "ops.maximum(x, c(W, 1))",
        "ops.where(x > 0, x, -x)",
        "ops.split(x, 2, axis=2)[1]",
        "ops.stack([x, ops.sin(x)], 3)",
        "ops.repeat(x, 2, axis=1)",
        "ops.tile(x, (1, 2, 1))",
        "ops.flip(x, 2)",
    )
] + [
    f"x[:, 0] -> {stage}"
    for stage in (
        "SimpleRNN(4, unroll=True)",
        "GRU(4, unroll=True)",
        "GRU(4, unroll=True, return_sequences=True)",
        "GRU(4, unroll=True, reset_after=False)",
        "LSTM(4, unroll=True, return_sequences=True)",
        "Bidirectional(LSTM(3, unroll=True))",
        "ops.cumsum(x, axis=1)",
    )
]
VECTORS = [
    f"GlobalAveragePooling2D() -> {stage}"
    for stage in (
        "Dense(16, activation='gelu') -> Dense(8)",
        "Dense(16, activation='hard_swish') -> Dense(10) -> Softmax()",
        "Dense(1, activation='sigmoid')",
        "Dense(6) -> x / ops.norm(x, axis=-1, keepdims=True)",
        "Dense(6) -> tf.argmax(x, -1, output_type='int32')",
        "Dense(6) -> ops.log_softmax(x)",
        "(lambda p: p[0] * ops.sigmoid(p[1]))(ops.split(Dense(16)(x), 2, axis=1))",
        "(lambda p: ops.concatenate([p[1], p[0]], 1))(ops.split(Dense(16)(x), 2, axis=1))",
        "x * Dense(C, activation='sigmoid')(x)",
        "x + Dense(C)(x)",
        "x - ops.mean(x, axis=1, keepdims=True)",
        "x * c(1, C) + c(C)",
        "ops.where(x > 0, x, 0.1 * x)",
        "x[:, ::2]",
        "x[:, 2:5]",
        "ops.reshape(x, (-1, 2, 4)) -> ops.mean(x, axis=1)",
        "ops.reshape(x, (-1, 2, 4)) -> Softmax() -> Flatten()",
        "ops.expand_dims(x, 1) * ops.expand_dims(ops.sin(x), 2)",
        "ops.matmul(x, c(C, C)) -> ops.sum(x * ops.sin(x), axis=1)",
        "ops.cumsum(x, axis=1)",
        "ops.pad(x, [[0, 0], [1, 2]])",
        "ops.maximum(x, c(C))",
        "ops.max(x, axis=1, keepdims=True)",
        "ops.stack([x, ops.sin(x)], 1)",
        "ops.concatenate([x, c(1, 3)], 1)",
        "BatchNormalization() -> Dense(4)",
        "PReLU()",
    )
]
LAYERS = [
    "SpectralNormalization(Conv2D(4, 3))",
    "SpatialDropout2D(0.5)",
    "ActivityRegularization(0.1)",
    "RandomFlip()",
    "Conv2D(8, 3, strides=4)",
    "Conv2D(8, 3, strides=3, padding='same', activation='relu')",
    "Conv2D(8, (5, 1), padding='same') -> Conv2D(8, (1, 5), padding='same')",
    "Conv2D(8, 9, padding='same')",
    "Conv2D(8, 3, dilation_rate=4, padding='same')",
    "Conv2D(8, 3, dilation_rate=(1, 2), padding='same')",
    "Conv2D(33, 1)",
    "Conv2D(8, 1, activation='tanh')",
    "DepthwiseConv2D(9, padding='same')",
    "DepthwiseConv2D(3, dilation_rate=4, padding='same')",
    "DepthwiseConv2D(5, strides=2, padding='same', activation='relu6')",
    "Conv2DTranspose(8, 2, strides=2, activation='relu')",
    "Conv2DTranspose(8, 4, strides=2, padding='same')",
    "Conv2DTranspose(8, 4, strides=4)",
    "Conv2DTranspose(8, 3, strides=(2, 1), padding='same')",
    "Conv2DTranspose(8, 3, dilation_rate=2)",
    "Conv2DTranspose(3, 5, strides=2, padding='same', use_bias=False)",
    "MaxPooling2D(3, strides=2) -> Conv2D(8, 1)",
    "MaxPooling2D(5, strides=1, padding='same') -> MaxPooling2D(5, strides=1, padding='same')",
    "AveragePooling2D(7, strides=1, padding='same')",
    "AveragePooling2D(2, strides=2, padding='same') -> Conv2D(8, 1)",
    "(x, Conv2D(8, 3, strides=2, padding='same')(x), AveragePooling2D(4)(x))",
    "(Conv2D(4, 1)(x), Conv2D(6, 1, activation='sigmoid')(x))",
    "ops.conv(x, c(3, 3, C, 4), padding='same')",
    "ops.depthwise_conv(x, c(3, 3, C, 1), padding='same')",
    "tf.nn.conv2d(x, ops.reshape(Dense(C * 4)(ops.mean(x, axis=[0, 1, 2])[None]), (1, 1, C, 4)), "
    "1, 'SAME')",
]
PIECES = [
    *POWERS, *ACTIVATIONS, *GATES, *NORMS, *ATTENTION, *REDUCTIONS, *SIZES, *CHOICES, *SEQUENCES,
    *VECTORS, *LAYERS,
]  # fmt: skip
# Grouped convolutions: (channels, filters, groups).
GROUPED = [
    (channels, filters, groups)
    for channels in (8, 12, 16, 24, 32, 64)
    for groups in (2, 3, 4, 8, 16)
    for filters in (channels, 2 * channels, channels // 2, groups)
    if channels % groups == 0 == filters % groups and groups < channels
]
# Shapes with a batch, as whole sets of images are given.
BATCHED = [(2, 12, 10, 8), (4, 8, 6, 8), (3, 4, 4, 16)]
