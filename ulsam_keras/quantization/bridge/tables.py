"""How the stock layers of Keras 3 read in tf_keras: data.

Imports nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stock:
    """A layer that tf_keras has under the same name and that computes the same there.

    Attributes:
        weights: The attribute of the tf_keras layer, and that of the Keras 3 layer.
        renamed: The Keras 3 argument, and the tf_keras one.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


STOCK: dict[str, Stock] = {
    "Conv2D": Stock(_same("kernel", "bias")),
    "Conv2DTranspose": Stock(_same("kernel", "bias")),
    "DepthwiseConv2D": Stock({"depthwise_kernel": "kernel", "bias": "bias"}),
    "Dense": Stock(_same("kernel", "bias")),
    "BatchNormalization": Stock(_same("gamma", "beta", "moving_mean", "moving_variance")),
    "PReLU": Stock(_same("alpha")),
    "LeakyReLU": Stock(renamed={"negative_slope": "alpha"}),
    "ReLU": Stock(),
    "ELU": Stock(),
    "Softmax": Stock(),
    "MaxPooling2D": Stock(),
    "AveragePooling2D": Stock(),
    "GlobalAveragePooling2D": Stock(),
    "GlobalMaxPooling2D": Stock(),
    "Dropout": Stock(),
    "SpatialDropout2D": Stock(),
    "GaussianNoise": Stock(),
    "GaussianDropout": Stock(),
    "Flatten": Stock(),
    "Reshape": Stock(),
    "Permute": Stock(),
    "ZeroPadding2D": Stock(),
    "Cropping2D": Stock(),
    "UpSampling2D": Stock(),
    "Concatenate": Stock(),
}

# Written out in several tf_keras layers, by the functions of `stock.py`.
EXPANDED = (
    "Activation",
    "Add",
    "Average",
    "Identity",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "Rescaling",
    "SeparableConv2D",
    "Subtract",
)

# Arguments without a meaning in a float32 tf_keras model whose weights are copied afterwards.
DROPPED = frozenset(
    {
        "dtype",
        "autocast",
        "quantization_config",
        "lora_rank",
        "lora_alpha",
        "gptq_unpacked_column_size",
    }
)

# Keras 3's activation, and the tf_keras layer (with its arguments) that computes it. The others
# are in `stock.py`: tf_keras has no hard_silu, its hard_sigmoid is another function, and silu is
# two LiteRT operators with a range each.
ACTIVATIONS: dict[str, tuple[str, Mapping[str, object]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("ReLU", {"max_value": 6.0}),
    "leaky_relu": ("LeakyReLU", {"alpha": 0.2}),
    "elu": ("ELU", {}),
    "softmax": ("Softmax", {}),
    "sigmoid": ("Activation", {"activation": "sigmoid"}),
    "tanh": ("Activation", {"activation": "tanh"}),
    "gelu": ("Activation", {"activation": "gelu"}),
    "selu": ("Activation", {"activation": "selu"}),
    "exponential": ("Activation", {"activation": "exponential"}),
    "softplus": ("Activation", {"activation": "softplus"}),
    "softsign": ("Activation", {"activation": "softsign"}),
}
EXPANDED_ACTIVATIONS = ("linear", "silu", "hard_sigmoid", "hard_silu")
