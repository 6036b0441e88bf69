"""The dtypes of PyTorch and safetensors by name, as NumPy dtypes.

May import NumPy and ml_dtypes.
"""

import ml_dtypes
import numpy as np

# torch.<name>
TORCH_DTYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "float64": np.float64,
        "double": np.float64,
        "float32": np.float32,
        "float": np.float32,
        "float16": np.float16,
        "half": np.float16,
        "bfloat16": ml_dtypes.bfloat16,
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
        "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
        "float8_e5m2": ml_dtypes.float8_e5m2,
        "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
        "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
        "int64": np.int64,
        "long": np.int64,
        "int32": np.int32,
        "int": np.int32,
        "int16": np.int16,
        "short": np.int16,
        "int8": np.int8,
        "uint64": np.uint64,
        "uint32": np.uint32,
        "uint16": np.uint16,
        "uint8": np.uint8,
        "bool": np.bool_,
        "complex64": np.complex64,
        "complex128": np.complex128,
    }.items()
}

# Dtypes that a checkpoint may mention (as an argument, say) but that no array has.
TORCH_DTYPES_WITHOUT_ARRAY = (
    *("complex32", "qint8", "quint8", "qint32", "quint4x2", "quint2x4"),
    *(f"bits{name}" for name in ("1x8", "2x4", "4x2", "8", "16")),
    "float4_e2m1fn_x2",
)

# torch.<name>, the class that the pickle names for a storage. The quantised ones are here for their
# size: tensors in them are refused where they are rebuilt.
STORAGES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "DoubleStorage": np.float64,
        "FloatStorage": np.float32,
        "HalfStorage": np.float16,
        "BFloat16Storage": ml_dtypes.bfloat16,
        "LongStorage": np.int64,
        "IntStorage": np.int32,
        "ShortStorage": np.int16,
        "CharStorage": np.int8,
        "ByteStorage": np.uint8,
        "BoolStorage": np.bool_,
        "ComplexFloatStorage": np.complex64,
        "ComplexDoubleStorage": np.complex128,
        "QInt8Storage": np.int8,
        "QUInt8Storage": np.uint8,
        "QInt32Storage": np.int32,
        "QUInt4x2Storage": np.uint8,
        "QUInt2x4Storage": np.uint8,
        "UntypedStorage": np.uint8,
    }.items()
}

# The dtype field of a safetensors header.
SAFETENSORS_DTYPES: dict[str, np.dtype] = {
    name: TORCH_DTYPES[torch_name]
    for name, torch_name in {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2": "float8_e5m2",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "float8_e8m0fnu",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
        "C64": "complex64",
    }.items()
}
