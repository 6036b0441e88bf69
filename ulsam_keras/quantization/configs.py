"""The QuantizeConfigs: what is quantised in a layer, as data.

Imports tensorflow-model-optimization, so it is itself imported inside functions only.
"""

from collections.abc import Sequence
from typing import Any

from ulsam_keras.quantization.bridge.table import recipe_for
from ulsam_keras.quantization.extra import tfmot
from ulsam_keras.quantization.plan import Range
from ulsam_keras.quantization.quantizers import (
    FixedRangeQuantizer,
    MovingRangeQuantizer,
    WeightQuantizer,
)

_QuantizeConfig: Any = tfmot().QuantizeConfig


class LayerQuantizeConfig(_QuantizeConfig):
    """A QuantizeConfig from a list of what is quantised.

    Args:
        weights: Pairs of a weight's attribute and the axis whose every index has its own range,
            or `None`.
        constants: The same, for the attributes of functions that a constant or a computed kernel
            passes through.
        activations: Pairs of the attribute of a function that an inner tensor passes through, and
            its range.
        output: The range of the layer's output; `None` to leave it as it is. A range is
            `"moving"`, or a pair of numbers.
    """

    def __init__(
        self,
        weights: Sequence[Any] = (),
        constants: Sequence[Any] = (),
        activations: Sequence[Any] = (),
        output: Range | None = None,
    ) -> None:
        self.weights = [tuple(pair) for pair in weights]
        self.constants = [tuple(pair) for pair in constants]
        self.activations = [tuple(pair) for pair in activations]
        self.output = output

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return [(getattr(layer, name), WeightQuantizer(axis)) for name, axis in self.weights]

    def set_quantize_weights(self, layer: Any, quantize_weights: Sequence[Any]) -> None:
        for (name, _), value in zip(self.weights, quantize_weights, strict=True):
            setattr(layer, name, value)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        constants = [(getattr(layer, name), WeightQuantizer(axis)) for name, axis in self.constants]
        return constants + [(getattr(layer, name), _range(kind)) for name, kind in self.activations]

    def set_quantize_activations(self, layer: Any, quantize_activations: Sequence[Any]) -> None:
        names = [name for name, _ in (*self.constants, *self.activations)]
        for name, value in zip(names, quantize_activations, strict=True):
            setattr(layer, name, value)

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [] if self.output is None else [_range(self.output)]

    def get_config(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "constants": self.constants,
            "activations": self.activations,
            "output": self.output,
        }


def _range(kind: Range) -> Any:
    return MovingRangeQuantizer() if kind == "moving" else FixedRangeQuantizer(*kind)


class ULSAMQuantizeConfig(LayerQuantizeConfig):
    """The QuantizeConfig of any layer that ULSAM consists of in tf_keras.

    For models written in tf_keras. The layer says what is quantised in it, by the table of
    `ulsam_keras/quantization/bridge/table.py`.

    Args:
        layer: The tf_keras layer: a `BlockDiagonalConv2D`, a `SubspaceAttention`, or any stock
            one.
        fused: Boolean, whether the output stays as it is since the next layer is fused into this
            one: after a convolution that a batch normalization or ReLU follows, and after a batch
            normalization that a ReLU follows. Defaults to `False`.

    Example:

    >>> layer = SubspaceAttention(64, name="attention")
    >>> a = tfmot.quantization.keras.quantize_annotate_layer(layer, ULSAMQuantizeConfig(layer))(s)
    >>> with quantization.scope():
    ...     q = tfmot.quantization.keras.quantize_apply(model)
    """

    def __init__(self, layer: Any = None, *, fused: bool = False, **config: Any) -> None:
        if layer is None:
            super().__init__(**config)
        else:
            super().__init__(**recipe_for(layer).arguments(fused=fused))


CONFIGS = {config.__name__: config for config in (LayerQuantizeConfig, ULSAMQuantizeConfig)}
