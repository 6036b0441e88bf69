"""The bridge from Keras 3 to tf_keras: the same model, layer by layer, with the same weights.

Imports Keras through `ulsam_keras`, and tf_keras inside functions only.
"""

from ulsam_keras.quantization.bridge.build import Bridged, bridge, copy_weights, to_tf_keras
from ulsam_keras.quantization.bridge.table import bridges

__all__ = ["Bridged", "bridge", "bridges", "copy_weights", "to_tf_keras"]
