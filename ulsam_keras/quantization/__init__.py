"""Quantisation-aware training: Keras 3 to tf_keras with tfmot's wrappers, and back.

    q = quantization.quantize_model(model)
    quantization.calibrate(q, batches)
    q.compile(...); q.fit(...)
    model = quantization.restore(q, model)

Importing this changes nothing in the process: tf_keras and tensorflow-model-optimization, the
extra `qat`, are loaded by the functions that need them, and every name here on its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ulsam_keras.quantization.bridge.build import to_tf_keras as to_tf_keras
    from ulsam_keras.quantization.bridge.registry import bridges as bridges
    from ulsam_keras.quantization.calibration import calibrate as calibrate
    from ulsam_keras.quantization.configs import LayerQuantizeConfig as LayerQuantizeConfig
    from ulsam_keras.quantization.configs import ULSAMQuantizeConfig as ULSAMQuantizeConfig
    from ulsam_keras.quantization.export import Inference as Inference
    from ulsam_keras.quantization.export import inference_function as inference_function
    from ulsam_keras.quantization.quantize import is_quantized as is_quantized
    from ulsam_keras.quantization.quantize import quantize_model as quantize_model
    from ulsam_keras.quantization.quantize import scope as scope
    from ulsam_keras.quantization.restoring import restore as restore
    from ulsam_keras.quantization.saving import load as load
    from ulsam_keras.quantization.saving import save as save
    from ulsam_keras.quantization.tf_layers import BlockDiagonalConv2D as BlockDiagonalConv2D
    from ulsam_keras.quantization.tf_layers import SubspaceAttention as SubspaceAttention

_HOME = {
    "BlockDiagonalConv2D": "tf_layers",
    "Inference": "export",
    "LayerQuantizeConfig": "configs",
    "SubspaceAttention": "tf_layers",
    "ULSAMQuantizeConfig": "configs",
    "bridges": "bridge.registry",
    "calibrate": "calibration",
    "inference_function": "export",
    "is_quantized": "quantize",
    "load": "saving",
    "quantize_model": "quantize",
    "restore": "restoring",
    "save": "saving",
    "scope": "quantize",
    "to_tf_keras": "bridge.build",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
