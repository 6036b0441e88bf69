"""What is checked of a ``.tflite`` file before anything is made of it.

What fails here the LiteRT runtime refuses too, so that rules, rewrites and verification may rely
on it: constants are of the size that their shape tells, steps of integers are one or one per index,
and operators have the tensors of their kind. Imports the standard library.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

# Bits of a value; the other types have no fixed size.
_BITS = {
    **dict.fromkeys(("INT2",), 2),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("FLOAT32", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT64", "INT64", "UINT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}
# More bytes than this no runtime counts.
_MOST = 1 << 62
# The inputs that a kernel reads without asking whether they are there; each has an output.
KINDS = {
    **dict.fromkeys(
        (
            "ABS", "AVERAGE_POOL_2D", "CAST", "CEIL", "CONCATENATION", "COS", "DEPTH_TO_SPACE",
            "DEQUANTIZE", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "L2_NORMALIZATION",
            "LEAKY_RELU", "LOG", "LOGISTIC", "LOG_SOFTMAX", "MAX_POOL_2D", "NEG", "PACK",
            "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RESHAPE", "ROUND",
            "RSQRT", "SIN", "SOFTMAX", "SPACE_TO_DEPTH", "SQRT", "SQUARE", "SQUEEZE", "TANH",
            "UNPACK",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            "ADD", "BATCH_MATMUL", "BROADCAST_TO", "CONV_2D", "CUMSUM", "DEPTHWISE_CONV_2D", "DIV",
            "EQUAL", "EXPAND_DIMS", "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED", "GREATER",
            "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "MAXIMUM", "MEAN", "MINIMUM",
            "MIRROR_PAD", "MUL", "NOT_EQUAL", "PAD", "POW", "PRELU", "REDUCE_MAX", "REDUCE_MIN",
            "REDUCE_PROD", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SPLIT",
            "SQUARED_DIFFERENCE", "SUB", "SUM", "TILE", "TRANSPOSE",
        ),
        2,
    ),
    **dict.fromkeys(("PADV2", "SLICE", "SPLIT_V", "TRANSPOSE_CONV"), 3),
    "STRIDED_SLICE": 4,
}  # fmt: skip
# The options that are read of an operator; an operator without them has the runtime's zeros.
OPTIONS = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), "Pool2DOptionsT"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), "ReducerOptionsT"),
    "BATCH_MATMUL": "BatchMatMulOptionsT",
    "CONCATENATION": "ConcatenationOptionsT",
    "CONV_2D": "Conv2DOptionsT",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptionsT",
    "PACK": "PackOptionsT",
    "STRIDED_SLICE": "StridedSliceOptionsT",
    "TRANSPOSE_CONV": "TransposeConvOptionsT",
    "UNPACK": "UnpackOptionsT",
}
# What tables of the schema hold: tables in lists, and names.
_TABLES = {
    "Model": ("OperatorCodes", "Subgraphs", "Buffers", "Metadata", "SignatureDefs",
              "ExternalBufferGroups", "ExternalBuffers"),
    "SubGraph": ("Tensors", "Operators"),
    "Tensor": ("VariantTensors",),
    "SparsityParameters": ("DimMetadata",),
    "SignatureDef": ("Inputs", "Outputs"),
}  # fmt: skip
_NAMES = {
    "Model": ("Description",),
    "OperatorCode": ("CustomCode",),
    "SubGraph": ("Name",),
    "Tensor": ("Name",),
    "Metadata": ("Name",),
    "SignatureDef": ("SignatureKey",),
    "TensorMap": ("Name",),
    "ExternalBufferGroup": ("Name",),
    "ExternalBuffer": ("Packing",),
}
_NAMED_OPTIONS = {
    "VarHandleOptions": ("Container", "SharedName"),
    "StablehloCustomCallOptions": ("CallTargetName", "BackendConfig"),
    "StableHLOCompositeOptions": ("Name",),
}
# The least bytes that a table and what it refers to take in a real file, and how many tables and
# bytes of names a file may have whatever its size.
_TABLE, _MANY_TABLES, _MANY_BYTES = 64, 1 << 16, 1 << 20


class Cost:
    """What may be made of a file: as much as its size tells.

    Offsets may point to one table, vector or name as often as they like, so that a file of a
    kilobyte can be gigabytes of objects.

    Args:
        size: The bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._tables, self._bytes = _MANY_TABLES + size // _TABLE, _MANY_BYTES + size

    def take(self, tables: int = 0, count: int = 0) -> None:
        """Takes tables, and bytes of names and numbers.

        Raises:
            ValueError: If it is more than there can be.
        """
        self._tables -= tables
        self._bytes -= count
        if min(self._tables, self._bytes) < 0:
            raise ValueError("more tables and names than the file has room for")

    def walk(self, model: Any, schema: Any) -> None:
        """Takes all tables and names of a model.

        Args:
            model: The schema's reader of its root.
            schema: The module of the schema's classes.

        Raises:
            ValueError: If they are more than there can be.
        """
        pending = [model]
        while pending:
            table = pending.pop()
            kind = type(table).__name__
            for field in _NAMES.get(kind) or _NAMED_OPTIONS.get(kind, ()):
                self.take(count=len(getattr(table, field)() or b""))
            for field in _TABLES.get(kind, ()):
                count, read = getattr(table, f"{field}Length")(), getattr(table, field)
                self.take(tables=count)
                pending.extend(read(i) for i in range(count))
            if kind == "Tensor" and (sparsity := table.Sparsity()) is not None:
                pending.append(sparsity)
            if kind == "Operator":
                pending += _named_options(table, schema)


def _named_options(operator: Any, schema: Any) -> Iterator[Any]:
    """The options of an operator that hold names."""
    for union in ("BuiltinOptions", "BuiltinOptions2"):
        code, kinds = getattr(operator, f"{union}Type")(), getattr(schema, union)
        kind = next((kind for kind in _NAMED_OPTIONS if code and vars(kinds).get(kind) == code), "")
        table = getattr(operator, union)() if kind else None
        if table is not None:
            options = getattr(schema, kind)()
            options.Init(table.Bytes, table.Pos)
            yield options


def check_tensor(
    dtype: str, shape: Sequence[int], size: int | None, steps: tuple[int, int, int], *, sparse: bool
) -> None:
    """Checks what a tensor says of itself.

    Args:
        dtype: The schema's name of its type.
        shape: Its shape.
        size: The bytes of its data; `None` if it is no constant.
        steps: How many scales and zero points it has, and along which axis.
        sparse: Whether it holds what is not zero alone.

    Raises:
        ValueError: If they do not belong together.
    """
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * 16 > _MOST or math.prod(n or 1 for n in shape) > _MOST:
        raise ValueError("a shape that is none")
    bits = _BITS.get(dtype)
    if size is not None and bits is not None and not sparse and size != -(-count * bits // 8):
        raise ValueError("a constant of another size than its shape")
    scales, zeros, axis = steps
    if scales != zeros:
        raise ValueError("a step without its zero")
    if scales > 1 and not (0 <= axis < len(shape) and shape[axis] == scales):
        raise ValueError("steps along no axis")


def check_operator(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Checks that an operator has the tensors that its kernel reads and writes.

    Raises:
        ValueError: If it has not.
    """
    least = KINDS.get(name, 0)
    if least and (len(inputs) < least or None in inputs[:least] or not outputs):
        raise ValueError("an operator without the tensors of its kind")
