"""The sweep of the port: a PyTorch layer or few, a Keras one, the shape it gets, and the verdict.

The layers are code, as the table of docs/porting.md shows it. Those with weights take each other's
in order. The verdicts:

- `equal`: ported without a word, and the outputs are PyTorch's.
- `refused`: a ValueError, nothing changed.
- `warned: WORD`: ported with a warning that has the word, and the outputs differ.
- `warned though equal: WORD`: likewise, and PyTorch's layer happens to do as Keras's.
- `beyond: WORD`: the outputs differ and no key tells; the word is in the report's settings, or in
  brackets where the layer has no weights.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One row: PyTorch's and Keras's code, the shape (C, ...) of the input, the verdict."""

    theirs: str
    ours: str
    shape: tuple[int, ...]
    verdict: str


def _cases(shape, *rows):
    return [Case(*row[:2], row[2] if len(row) > 3 else shape, row[-1]) for row in rows]


EVEN, ODD, LINE, VECTOR = (3, 16, 16), (3, 15, 15), (6, 16), (6,)

CONVOLUTIONS = _cases(
    EVEN,
    ("Conv2d(3, 8, 3)", "Conv2D(8, 3)", "equal"),
    ("Conv2d(3, 8, (3, 5), bias=False)", "Conv2D(8, (3, 5), use_bias=False)", "equal"),
    ("Conv2d(3, 8, 3)", "Conv2D(8, 3, use_bias=False)", "refused"),
    ("Conv2d(3, 8, 3, bias=False)", "Conv2D(8, 3)", "refused"),
    ("Conv2d(3, 8, 3)", "Conv2D(8, 5)", "refused"),
    ("Conv2d(3, 8, 3)", "Conv2D(6, 3)", "refused"),
    ("Conv2d(3, 8, 3, padding=1)", 'Conv2D(8, 3, padding="same")', "equal"),
    ("Conv2d(3, 8, 3, padding=1)", "Conv2D(8, 3)", "beyond: padding"),
    ("Conv2d(3, 8, 3, 2)", "Conv2D(8, 3, strides=2)", "equal"),
    ("Conv2d(3, 8, 3, 2)", "Conv2D(8, 3)", "beyond: stride"),
    ("Conv2d(3, 8, 3, 2, 1)", 'Conv2D(8, 3, strides=2, padding="same")', "warned: one side"),
    ("Conv2d(3, 8, 3, 2, 1)", 'Conv2D(8, 3, strides=2, padding="same")', ODD, "equal"),
    (
        "Conv2d(3, 8, 3, 2, 1)",
        "ZeroPadding2D(1) → Conv2D(8, 3, strides=2)",
        "equal",
    ),
    (
        "Conv2d(3, 8, 3, 2, 1)",
        "ZeroPadding2D(((0, 1), (0, 1))) → Conv2D(8, 3, strides=2)",
        "warned: one side",
    ),
    (
        "Conv2d(3, 8, 3, 2, 1)",
        "ZeroPadding2D(((1, 0), (1, 0))) → Conv2D(8, 3, strides=2)",
        "equal",
    ),
    (
        "Conv2d(3, 8, 3, 2, 1)",
        "ZeroPadding2D(((1, 0), (1, 0))) → Conv2D(8, 3, strides=2)",
        ODD,
        "warned: one side",
    ),
    (
        "Conv2d(3, 8, 5, 2, 2)",
        "ZeroPadding2D(((2, 1), (2, 1))) → Conv2D(8, 5, strides=2)",
        "equal",
    ),
    (
        "Conv2d(3, 8, 3, 2, 1)",
        "lambda x: ops.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))) → Conv2D(8, 3, strides=2)",
        "warned: one side",
    ),
    (
        "ZeroPad2d((0, 1, 0, 1)) → Conv2d(3, 8, 3, 2)",
        'Conv2D(8, 3, strides=2, padding="same")',
        "warned though equal: one side",
    ),
    ("Conv2d(3, 8, 7, 2, 3)", 'Conv2D(8, 7, strides=2, padding="same")', "warned: one side"),
    ("Conv2d(3, 8, 1, 2)", 'Conv2D(8, 1, strides=2, padding="same")', "equal"),
    ("Conv2d(3, 8, 2, 2)", 'Conv2D(8, 2, strides=2, padding="same")', "equal"),
    ("Conv2d(3, 8, 4, 2, 1)", 'Conv2D(8, 4, strides=2, padding="same")', "equal"),
    (
        'Conv2d(3, 8, 2, padding="same")',
        'Conv2D(8, 2, padding="same")',
        "warned though equal: one side",
    ),
    (
        "ZeroPad2d((1, 0, 1, 0)) → Conv2d(3, 8, 2)",
        'Conv2D(8, 2, padding="same")',
        "warned: one side",
    ),
    (
        "Conv2d(3, 8, 3, (2, 1), 1)",
        'Conv2D(8, 3, strides=(2, 1), padding="same")',
        "warned: one side",
    ),
    ("Conv2d(3, 3, 3)", "Conv2DTranspose(3, 3)", "beyond: padding"),
    (
        "Conv2d(3, 8, 3, padding=2, dilation=2)",
        'Conv2D(8, 3, padding="same", dilation_rate=2)',
        "equal",
    ),
    ("Conv2d(3, 8, 3, dilation=2)", "Conv2D(8, 3)", "beyond: dilation"),
    (
        'Conv2d(3, 8, 3, padding=1, padding_mode="reflect")',
        'Conv2D(8, 3, padding="same")',
        "beyond: padding",
    ),
    ("Conv2d(6, 9, 3, groups=3)", "Conv2D(9, 3, groups=3)", (6, 8, 8), "equal"),
    ("Conv2d(6, 9, 3, groups=3)", "Conv2D(9, 3)", (6, 8, 8), "refused"),
    ("Conv2d(3, 3, 3, groups=3)", "DepthwiseConv2D(3)", "equal"),
    ("Conv2d(3, 6, 3, groups=3)", "DepthwiseConv2D(3, depth_multiplier=2)", "equal"),
    ("Conv2d(3, 6, 3, groups=3)", "DepthwiseConv2D(3)", "refused"),
    (
        "Conv2d(3, 3, 3, 2, 1, groups=3)",
        'DepthwiseConv2D(3, strides=2, padding="same")',
        "warned: one side",
    ),
    ("Conv2d(3, 3, 3, groups=3) → Conv2d(3, 8, 1)", "SeparableConv2D(8, 3)", "refused"),
    ("Conv1d(6, 8, 3, 2, 1)", 'Conv1D(8, 3, strides=2, padding="same")', LINE, "warned: one side"),
    ("Conv1d(6, 8, 3, padding=1)", 'Conv1D(8, 3, padding="same")', LINE, "equal"),
    ("Conv1d(6, 8, 3, padding=1)", 'Conv1D(8, 3, padding="causal")', LINE, "warned: one side"),
    ("Conv1d(6, 12, 3, groups=6)", "DepthwiseConv1D(3, depth_multiplier=2)", LINE, "equal"),
    ("Conv3d(3, 4, 3)", "Conv3D(4, 3)", (3, 5, 5, 5), "equal"),
    (
        "Conv3d(3, 4, 3, 2, 1)",
        'Conv3D(4, 3, strides=2, padding="same")',
        (3, 6, 6, 6),
        "warned: one side",
    ),
    ("Conv2d(3, 8, 3)", 'Conv2D(8, 3, activation="relu")', "beyond: (activation)"),
)
TRANSPOSED = _cases(
    (3, 6, 6),
    ("ConvTranspose2d(3, 8, 3, 2)", "Conv2DTranspose(8, 3, strides=2)", "equal"),
    ("ConvTranspose2d(3, 8, 2, 2)", "Conv2DTranspose(8, 2, strides=2)", "equal"),
    (
        "ConvTranspose2d(3, 8, 2, 2)",
        'Conv2DTranspose(8, 2, strides=2, padding="same")',
        "equal",
    ),
    (
        "ConvTranspose2d(3, 8, 4, 2, 1)",
        'Conv2DTranspose(8, 4, strides=2, padding="same")',
        "equal",
    ),
    (
        "ConvTranspose2d(3, 8, 3, 2, 1, 1)",
        'Conv2DTranspose(8, 3, strides=2, padding="same")',
        "warned: crop",
    ),
    (
        "ConvTranspose2d(3, 8, 3, 2, 1, 1)",
        "Conv2DTranspose(8, 3, strides=2) → Cropping2D(((1, 0), (1, 0)))",
        "equal",
    ),
    (
        "ConvTranspose2d(3, 8, 3, 2, 1)",
        'Conv2DTranspose(8, 3, strides=2, padding="same", output_padding=0)',
        "equal",
    ),
    (
        "ConvTranspose2d(3, 8, 3, 2, 1, 1)",
        'Conv2DTranspose(8, 3, strides=2, padding="same", output_padding=1)',
        "warned: crop",
    ),
    ("ConvTranspose2d(3, 8, 3, padding=1)", 'Conv2DTranspose(8, 3, padding="same")', "equal"),
    ("ConvTranspose2d(3, 8, 3, 2, 1)", "Conv2DTranspose(8, 3, strides=2)", "beyond: padding"),
    ("ConvTranspose2d(3, 8, 3)", "Conv2DTranspose(8, 3, strides=2)", "beyond: stride"),
    (
        "ConvTranspose2d(3, 8, 3, 2, 0, 1)",
        "Conv2DTranspose(8, 3, strides=2)",
        "beyond: output padding",
    ),
    ("ConvTranspose2d(3, 8, 2, 3, 0, 1)", "Conv2DTranspose(8, 2, strides=3)", "equal"),
    (
        "ConvTranspose2d(3, 8, 2, 3)",
        "Conv2DTranspose(8, 2, strides=3)",
        "beyond: output padding",
    ),
    ("ConvTranspose2d(4, 8, 3, groups=2)", "Conv2DTranspose(8, 3)", (4, 6, 6), "refused"),
    ("ConvTranspose1d(6, 8, 3, 2)", "Conv1DTranspose(8, 3, strides=2)", LINE, "equal"),
    (
        "ConvTranspose1d(6, 8, 3, 2, 1, 1)",
        'Conv1DTranspose(8, 3, strides=2, padding="same")',
        LINE,
        "warned: crop",
    ),
    ("ConvTranspose3d(3, 4, 2, 2)", "Conv3DTranspose(4, 2, strides=2)", (3, 4, 4, 4), "equal"),
    (
        "ConvTranspose3d(3, 4, 3, 2, 1, 1)",
        'Conv3DTranspose(4, 3, strides=2, padding="same")',
        (3, 4, 4, 4),
        "warned: crop",
    ),
)
# Pools have no keys; the convolution before them does.
_SIDES = "((0, 0), (1, 1), (1, 1), (0, 0))"
_CONV, _KERAS_CONV = "Conv2d(3, 8, 1) → ", "Conv2D(8, 1) → "
POOLS = _cases(
    EVEN,
    *(
        (_CONV + theirs, _KERAS_CONV + ours, *rest)
        for theirs, ours, *rest in (
            ("MaxPool2d(2)", "MaxPooling2D(2)", "equal"),
            ("MaxPool2d(3, 2)", "MaxPooling2D(3, 2)", "equal"),
            ("MaxPool2d(3, 2, 1)", 'MaxPooling2D(3, 2, "same")', "warned: one side"),
            ("MaxPool2d(3, 2, 1)", 'MaxPooling2D(3, 2, "same")', ODD, "equal"),
            (
                "MaxPool2d(3, 2, ceil_mode=True)",
                'MaxPooling2D(3, 2, "same")',
                "warned though equal: one side",
            ),
            (
                "MaxPool2d(3, 2, 1)",
                "ZeroPadding2D(1) → MaxPooling2D(3, 2)",
                "warned: minus infinity",
            ),
            (
                "ReLU() → MaxPool2d(3, 2, 1)",
                "ReLU() → ZeroPadding2D(1) → MaxPooling2D(3, 2)",
                "equal",
            ),
            (
                "MaxPool2d(3, 2, 1)",
                f"lambda x: ops.pad(x, {_SIDES}) → MaxPooling2D(3, 2)",
                "warned: minus infinity",
            ),
            (
                "MaxPool2d(3, 2, 1)",
                f"lambda x: ops.pad(x, {_SIDES}, constant_values=-1e30) → MaxPooling2D(3, 2)",
                "equal",
            ),
            (
                "MaxPool2d(3, 2, 1)",
                "lambda x: ops.max_pool(x, 3, 2, 'same')",
                "warned: one side",
            ),
            ("MaxPool2d(3, 1, 1)", 'MaxPooling2D(3, 1, "same")', "equal"),
            ("MaxPool2d(3)", "MaxPooling2D(2)", "beyond: (pool)"),
            ("AvgPool2d(2)", "AveragePooling2D(2)", "equal"),
            ("AvgPool2d(3, 2, 1)", 'AveragePooling2D(3, 2, "same")', ODD, "warned: zeros"),
            ("AvgPool2d(3, 2, 1)", "ZeroPadding2D(1) → AveragePooling2D(3, 2)", "equal"),
            (
                "AvgPool2d(3, 2, 1, count_include_pad=False)",
                'AveragePooling2D(3, 2, "same")',
                ODD,
                "warned though equal: zeros",
            ),
            ("AdaptiveAvgPool2d(1) → Flatten()", "GlobalAveragePooling2D()", "equal"),
        )
    ),
)
NORMS = _cases(
    (6, 5, 4),
    ("BatchNorm2d(6)", "BatchNormalization(epsilon=1e-5)", "equal"),
    ("BatchNorm2d(6)", "BatchNormalization()", "warned: epsilon"),
    ("BatchNorm2d(6, eps=1e-3)", "BatchNormalization()", "warned though equal: epsilon"),
    ("BatchNorm2d(6)", "BatchNormalization(epsilon=1e-2)", "beyond: epsilon"),
    ("BatchNorm2d(6, momentum=0.5)", "BatchNormalization(epsilon=1e-5)", "equal"),
    (
        "BatchNorm2d(6, affine=False)",
        "BatchNormalization(epsilon=1e-5, center=False, scale=False)",
        "equal",
    ),
    ("BatchNorm2d(6)", "BatchNormalization(epsilon=1e-5, center=False)", "refused"),
    ("BatchNorm2d(6, track_running_stats=False)", "BatchNormalization(epsilon=1e-5)", "refused"),
    ("BatchNorm2d(6)", "BatchNormalization(axis=1, epsilon=1e-5)", "refused"),
    ("BatchNorm2d(6)", "BatchNormalization(axis=1, epsilon=1e-5)", (6, 6, 4), "warned: axis"),
    ("BatchNorm1d(6)", "BatchNormalization(epsilon=1e-5)", VECTOR, "equal"),
    ("BatchNorm1d(6)", "BatchNormalization(epsilon=1e-5)", LINE, "equal"),
    ("LayerNorm(6)", "LayerNormalization(epsilon=1e-5)", VECTOR, "equal"),
    ("LayerNorm(6)", "LayerNormalization()", VECTOR, "warned: epsilon"),
    ("LayerNorm(6, bias=False)", "LayerNormalization(epsilon=1e-5, center=False)", VECTOR, "equal"),
    ("LayerNorm(6)", "LayerNormalization(epsilon=1e-5, center=False)", VECTOR, "refused"),
    (
        "Permute(0, 2, 3, 1) → LayerNorm(6) → Permute(0, 3, 1, 2)",
        "LayerNormalization(epsilon=1e-5)",
        "equal",
    ),
    ("LayerNorm((6, 5, 4))", "LayerNormalization(axis=[1, 2, 3], epsilon=1e-5)", "equal"),
    (
        "LayerNorm((6, 6, 6))",
        "LayerNormalization(axis=[1, 2, 3], epsilon=1e-5)",
        (6, 6, 6),
        "equal",
    ),
    (
        "LayerNorm((6, 6, 4))",
        "LayerNormalization(axis=[-1, -2, -3], epsilon=1e-5)",
        (6, 6, 4),
        "equal",
    ),
    ("LayerNorm((5, 4))", "LayerNormalization(axis=[1, 2], epsilon=1e-5)", "equal"),
    ("LayerNorm((4, 4))", "LayerNormalization(axis=[1, 2], epsilon=1e-5)", (6, 4, 4), "equal"),
    (
        "Permute(0, 2, 3, 1) → LayerNorm((5, 4, 6)) → Permute(0, 3, 1, 2)",
        "LayerNormalization(axis=[1, 2, 3], epsilon=1e-5)",
        "equal",
    ),
    ("LayerNorm((6, 16))", "LayerNormalization(axis=[1, 2], epsilon=1e-5)", LINE, "equal"),
    ("LayerNorm((6, 6))", "LayerNormalization(axis=[1, 2], epsilon=1e-5)", (6, 6), "warned: axes"),
    (
        "Permute(0, 2, 1) → LayerNorm((16, 6)) → Permute(0, 2, 1)",
        "LayerNormalization(axis=[1, 2], epsilon=1e-5)",
        LINE,
        "equal",
    ),
    ("LayerNorm((6, 5, 4))", "LayerNormalization(epsilon=1e-5)", "refused"),
    ("GroupNorm(3, 6)", "GroupNormalization(3, epsilon=1e-5)", "equal"),
    ("GroupNorm(3, 6)", "GroupNormalization(3)", "warned: epsilon"),
    ("GroupNorm(3, 6)", "GroupNormalization(2, epsilon=1e-5)", "beyond: groups"),
    ("GroupNorm(3, 6)", "GroupNormalization(3, axis=1, epsilon=1e-5)", (6, 6, 4), "warned: axis"),
    ("InstanceNorm2d(6, affine=True)", "GroupNormalization(6, epsilon=1e-5)", "equal"),
    ("GroupNorm(1, 6)", "GroupNormalization(1, epsilon=1e-5)", "equal"),
    ("GroupNorm(1, 6)", "LayerNormalization(epsilon=1e-5)", "beyond: axis"),
    ("InstanceNorm2d(6, affine=True)", "LayerNormalization(epsilon=1e-5)", "beyond: axis"),
    ("LayerNorm(4)", "LayerNormalization(epsilon=1e-5)", (4, 4, 4), "beyond: axis"),
    ("LayerNorm(4)", "LayerNormalization(axis=2, epsilon=1e-5)", "equal"),
    (
        "Permute(0, 2, 3, 1) → LayerNorm(6) → Permute(0, 3, 1, 2)",
        "GroupNormalization(1, epsilon=1e-5)",
        "beyond: groups",
    ),
    ("ULSAM(6, 3)", "ULSAM(3)", "equal"),
    ("ULSAM(6, 3)", "ULSAM(2)", "refused"),
    ("ULSAM(6, 3)", "ULSAM(3, epsilon=1)", "beyond: epsilon"),
)
OTHERS = _cases(
    (6, 5, 4),
    ("PReLU()", "PReLU(shared_axes=[1, 2])", "equal"),
    ("PReLU()", "PReLU()", "equal"),
    ("PReLU(6)", "PReLU(shared_axes=[1, 2])", "equal"),
    ("PReLU(6)", "PReLU()", "refused"),
    ("PReLU()", "PReLU()", (3, 16, 16), "equal"),
    ("PReLU(6)", "PReLU(shared_axes=[2, 3])", (6, 6, 4), "warned: axis"),
    ("PReLU(6)", "PReLU()", VECTOR, "equal"),
    ("Embedding(9, 3) → Permute(0, 2, 1)", "Embedding(9, 3)", (5,), "equal"),
    ("Embedding(9, 3, padding_idx=0) → Permute(0, 2, 1)", "Embedding(9, 3)", (5,), "equal"),
    ("Embedding(9, 3) → Permute(0, 2, 1)", "Embedding(9, 4)", (5,), "refused"),
    ("RMSNorm(6)", "RMSNormalization()", VECTOR, "refused"),
    ("LSTM(6, 4)", "LSTM(4)", (5, 6), "refused"),
    ("Linear(6, 4)", "Dense(4)", VECTOR, "equal"),
    ("Linear(6, 6, bias=False)", "Dense(6, use_bias=False)", VECTOR, "equal"),
    ("Linear(6, 4)", "Dense(4, use_bias=False)", VECTOR, "refused"),
    ("Flatten() → Linear(120, 4)", "Flatten() → Dense(4)", "equal"),
    ("Flatten() → Linear(120, 4)", "Reshape((-1,)) → Dense(4)", "equal"),
    (
        "Flatten() → Linear(120, 4)",
        "lambda x: ops.transpose(x, (0, 2, 1, 3)) → Flatten() → Dense(4)",
        "warned: flattened",
    ),
    (
        "Linear(6, 120) → Unflatten(1, (6, 5, 4))",
        "Dense(120) → Reshape((5, 4, 6))",
        VECTOR,
        "warned: reshaped",
    ),
    ("Conv2d(6, 4, 1)", "Dense(4)", "equal"),
    ("Permute(0, 2, 3, 1) → Linear(6, 4) → Permute(0, 3, 1, 2)", "Conv2D(4, 1)", "equal"),
    ("Conv2d(6, 4, 1) → LeakyReLU()", "Conv2D(4, 1) → LeakyReLU(0.01)", "equal"),
    ("Conv2d(6, 4, 1) → LeakyReLU()", "Conv2D(4, 1) → LeakyReLU()", "warned: slope"),
    (
        "Conv2d(6, 4, 1) → LeakyReLU()",
        "Conv2D(4, 1) → lambda x: ops.leaky_relu(x)",
        "warned: slope",
    ),
    ("Conv2d(6, 4, 1) → LeakyReLU()", 'Conv2D(4, 1, activation="leaky_relu")', "warned: slope"),
    ("Conv2d(6, 4, 1) → GELU()", 'Conv2D(4, 1, activation="gelu")', "equal"),
    ("Conv2d(6, 4, 1) → GELU()", "Conv2D(4, 1) → lambda x: ops.gelu(x)", "warned: gelu"),
)
_SHUFFLE = "Conv2d(6, 12, 1) → PixelShuffle(2)"
_CONV6 = "Conv2d(6, 8, 1) → "
_UNSHUFFLE = "PixelUnshuffle(2) → Conv2d(24, 5, 1)"
SHUFFLES = _cases(
    (6, 4, 8),
    (_SHUFFLE, "Conv2D(12, 1) → lambda x: ops.depth_to_space(x, 2)", "equal"),
    (_SHUFFLE, "Conv2D(12, 1) → Lambda(lambda x: ops.depth_to_space(x, 2))", "equal"),
    (
        _SHUFFLE,
        "Conv2D(12, 1) → Reshape((4, 8, 2, 2, 3)) → Permute((1, 3, 2, 4, 5)) → Reshape((8, 16, 3))",
        "equal",
    ),
    (
        _SHUFFLE,
        "Conv2D(12, 1) → Reshape((4, 8, 3, 2, 2)) → Permute((1, 4, 2, 5, 3)) → Reshape((8, 16, 3))",
        "equal",
    ),
    (
        "Conv2d(6, 12, 1, bias=False) → BatchNorm2d(12) → PReLU(12) → PixelShuffle(2)",
        "Conv2D(12, 1, use_bias=False) → BatchNormalization(epsilon=1e-5) → "
        "PReLU(shared_axes=[1, 2]) → lambda x: ops.depth_to_space(x, 2)",
        "equal",
    ),
    (
        "ConvTranspose2d(6, 12, 2, 2) → ReLU() → PixelShuffle(2) → Conv2d(3, 5, 1)",
        "Conv2DTranspose(12, 2, strides=2) → ReLU() → lambda x: ops.depth_to_space(x, 2) → "
        "Conv2D(5, 1)",
        "equal",
    ),
    (_SHUFFLE, "Conv2D(12, 1) → Reshape((8, 16, 3))", "warned: PixelShuffle"),
    (
        "Conv2d(6, 8, 1) → ChannelShuffle(2)",
        "Conv2D(8, 1) → Reshape((4, 8, 2, 4)) → Permute((1, 2, 4, 3)) → Reshape((4, 8, 8))",
        "equal",
    ),
    (
        "Conv2d(6, 8, 1) → ChannelShuffle(2)",
        "Conv2D(8, 1) → Reshape((4, 8, 4, 2)) → Permute((1, 2, 4, 3)) → Reshape((4, 8, 8))",
        "beyond: (groups)",
    ),
    (
        "Conv2d(6, 12, 1, groups=2) → PixelShuffle(2)",
        "Conv2D(12, 1, groups=2) → lambda x: ops.depth_to_space(x, 2)",
        "warned: PixelShuffle",
    ),
    (
        "Conv2d(6, 12, 1) → GroupNorm(2, 12) → PixelShuffle(2)",
        "Conv2D(12, 1) → GroupNormalization(2, epsilon=1e-5) → lambda x: ops.depth_to_space(x, 2)",
        "warned: PixelShuffle",
    ),
    (
        "PixelShuffle(2) → Conv2d(2, 5, 1)",
        "lambda x: ops.depth_to_space(x, 2) → Conv2D(5, 1)",
        (8, 4, 4),
        "warned: PixelShuffle",
    ),
    (_UNSHUFFLE, "lambda x: ops.space_to_depth(x, 2) → Conv2D(5, 1)", "equal"),
    (
        "PixelUnshuffle(2) → BatchNorm2d(24) → Conv2d(24, 24, 3, groups=24) → Conv2d(24, 5, 1)",
        "lambda x: ops.space_to_depth(x, 2) → BatchNormalization(epsilon=1e-5) → "
        "DepthwiseConv2D(3) → Conv2D(5, 1)",
        (6, 8, 8),
        "equal",
    ),
    (
        "PixelUnshuffle(2) → Flatten() → Linear(192, 4)",
        "lambda x: ops.space_to_depth(x, 2) → Flatten() → Dense(4)",
        "warned: PixelUnshuffle",
    ),
    (
        "Conv2d(6, 12, 1) → PixelUnshuffle(2)",
        "Conv2D(12, 1) → lambda x: ops.space_to_depth(x, 2)",
        "warned: PixelUnshuffle",
    ),
    (_CONV6 + "Upsample(scale_factor=2)", "Conv2D(8, 1) → UpSampling2D(2)", "equal"),
    (
        _CONV6 + 'Upsample(scale_factor=2, mode="bilinear")',
        'Conv2D(8, 1) → UpSampling2D(2, interpolation="bilinear")',
        "equal",
    ),
    (
        _CONV6 + 'Upsample(scale_factor=2, mode="bilinear", align_corners=True)',
        'Conv2D(8, 1) → UpSampling2D(2, interpolation="bilinear")',
        "beyond: (align_corners)",
    ),
    (
        _CONV6 + 'Upsample(scale_factor=2, mode="bicubic")',
        'Conv2D(8, 1) → UpSampling2D(2, interpolation="bicubic")',
        "warned: formula",
    ),
    (
        _CONV6 + "Upsample((3, 5))",
        'Conv2D(8, 1) → Resizing(3, 5, interpolation="nearest")',
        "warned: formula",
    ),
    (
        _CONV6 + 'Upsample((3, 5), mode="nearest-exact")',
        'Conv2D(8, 1) → Resizing(3, 5, interpolation="nearest")',
        "warned though equal: formula",
    ),
)
CASES = {
    "Convolutions": CONVOLUTIONS,
    "Transposed convolutions": TRANSPOSED,
    "Pools": POOLS,
    "Norms and ULSAM": NORMS,
    "Slopes, vectors, activations": OTHERS,
    "Channels and positions": SHUFFLES,
}
