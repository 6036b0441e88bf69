"""Quantisation-aware training: Keras 3 to tf_keras with tfmot's wrappers, and back.

    q = quantization.quantize_model(model)
    quantization.calibrate(q, batches)
    q.compile(...); q.fit(...)
    model = quantization.restore(q, model)

Importing this changes nothing in the process: tf_keras and tensorflow-model-optimization, the
extra `qat`, are loaded by the functions that need them and on first use of the classes made of
theirs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ulsam_keras.quantization.bridge import bridges as bridges
from ulsam_keras.quantization.bridge import to_tf_keras as to_tf_keras
from ulsam_keras.quantization.calibration import calibrate as calibrate
from ulsam_keras.quantization.export import Inference as Inference
from ulsam_keras.quantization.export import inference_function as inference_function
from ulsam_keras.quantization.plan import Recipe as Recipe
from ulsam_keras.quantization.quantize import is_quantized as is_quantized
from ulsam_keras.quantization.quantize import quantize_model as quantize_model
from ulsam_keras.quantization.quantize import scope as scope
from ulsam_keras.quantization.restoring import restore as restore
from ulsam_keras.quantization.saving import load as load
from ulsam_keras.quantization.saving import save as save

if TYPE_CHECKING:
    from ulsam_keras.quantization.configs import LayerQuantizeConfig as LayerQuantizeConfig
    from ulsam_keras.quantization.configs import ULSAMQuantizeConfig as ULSAMQuantizeConfig
    from ulsam_keras.quantization.tf_layers import BlockDiagonalConv2D as BlockDiagonalConv2D
    from ulsam_keras.quantization.tf_layers import SubspaceAttention as SubspaceAttention


def __getattr__(name: str) -> Any:
    if name in ("LayerQuantizeConfig", "ULSAMQuantizeConfig"):
        return getattr(import_module(f"{__name__}.configs"), name)
    if name in ("BlockDiagonalConv2D", "SubspaceAttention"):
        return getattr(import_module(f"{__name__}.tf_layers"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
