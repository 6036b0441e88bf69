"""The wrapper round each quantised layer: tfmot's, which keeps frozen what is frozen.

Imports tensorflow-model-optimization, so it is itself imported inside functions only.
"""

from typing import Any

from ulsam_keras.quantization.extra import tfmot

_QuantizeWrapper: Any = tfmot().QuantizeWrapperV2


class FreezableQuantizeWrapper(_QuantizeWrapper):
    """tfmot's wrapper, but for the weights of a layer that is not trainable.

    tfmot's lists every quantised weight among its trainable ones, whatever the layer says.
    """

    @property
    def trainable_weights(self) -> list[Any]:
        return super().trainable_weights if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        fixed = super().non_trainable_weights
        return fixed if self.trainable else self._dedup_weights(super().trainable_weights + fixed)
