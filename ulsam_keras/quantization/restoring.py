"""`restore`: trained weights back into the Keras 3 model.

Imports Keras through the bridge, and tf_keras inside functions only.
"""

from typing import Any

import keras
import numpy as np

from ulsam_keras.quantization.bridge.build import bridge, weight_values
from ulsam_keras.quantization.quantize import check_quantized, layers_by_name


def restore(q: Any, model: keras.Model) -> keras.Model:
    """Copies the weights of a quantisation-aware trained model back into its Keras 3 model.

    The float weights are copied, batch normalization statistics included: rounding happens on
    the way through the quantised model, and is not in them.

    Args:
        q: A model from `quantize_model`, trained or loaded.
        model: The Keras 3 model that it was made from, or one of the same layers.

    Returns:
        `model`, with its weights replaced.

    Raises:
        ValueError: If `q` is not from `quantize_model`, if the two do not belong together, or if
            a weight is not finite. `model` is then as it was.
    """
    check_quantized(q)
    pairs = weight_values(bridge(model).weights, layers_by_name(q))
    for variable, value in pairs:
        if not np.isfinite(value).all():
            raise ValueError(
                "The trained model must have finite weights; load a checkpoint from before the "
                f"loss became NaN. Received: NaN or infinity for {variable.path!r}"
            )
    for variable, value in pairs:
        variable.assign(value)
    return model
