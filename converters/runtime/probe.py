"""A model of one operation, and what it tells about the GPU of this machine.

Imports the schema of ai_edge_litert inside the function that uses it.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from converters.extras import require
from converters.runtime.result import GpuPrecision, RunResult
from converters.runtime.runner import run

_SHAPE = (1, 2, 2, 4)
_SOFTWARE = ("swiftshader", "llvmpipe")


@cache
def doubling_model() -> bytes:
    """A float32 .tflite model that adds its (1, 2, 2, 4) input to itself."""
    require("Running a model", "ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    def tensor(name: str) -> schema.TensorT:
        result = schema.TensorT()
        result.name, result.shape, result.type = name, list(_SHAPE), schema.TensorType.FLOAT32
        return result

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    add = schema.OperatorT()
    add.inputs, add.outputs = [0, 0], [1]
    add.builtinOptionsType, add.builtinOptions = (
        schema.BuiltinOptions.AddOptions,
        schema.AddOptionsT(),
    )
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [tensor("x"), tensor("y")], [add]
    graph.inputs, graph.outputs = [0], [1]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    return bytes(convert_object_to_bytearray(model))


def gpu_trial(
    env: Mapping[str, str | None] | None = None, gpu_precision: GpuPrecision = "float32"
) -> RunResult:
    """One operation, run on the GPU of this machine.

    Args:
        env: Environment variables for the run, as in `run`. Defaults to `None`.
        gpu_precision: What it is asked to compute in. Defaults to `"float32"`.

    Returns:
        What became of it: `"no_driver"` where there is no GPU; another outcome than `"ok"` where
        it does not work.

    Raises:
        ImportError: If the extra `convert` is not installed.
    """
    return run(
        doubling_model(),
        np.zeros(_SHAPE, "float32"),
        accelerator="gpu",
        gpu_precision=gpu_precision,
        timeout=60,
        repeats=0,
        env=env,
    )


def half_precision(env: Mapping[str, str | None] | None = None) -> bool:
    """Whether the GPU of this machine computes in float16 when it is asked to.

    Args:
        env: Environment variables for the probe, as in `run`. Defaults to `None`.

    Returns:
        `False` also where there is no adapter.

    Raises:
        ImportError: If the extra `convert` is not installed.
    """
    return gpu_trial(env, "float16").gpu_precision == "float16"


def is_software(adapter: str) -> bool:
    """Whether an adapter of this name computes on the CPU, so that its times are of no GPU."""
    return any(name in adapter.lower() for name in _SOFTWARE)


def vulkan_adapter(env: Mapping[str, str | None] | None = None) -> str | None:
    """The name of the adapter that a GPU run uses on this machine, `None` if there is none.

    Args:
        env: Environment variables for the probe, as in `run`. Defaults to `None`.

    Returns:
        The adapter's name, such as `"SwiftShader Device (Subzero)"`, a software renderer.

    Raises:
        ImportError: If the extra `convert` is not installed.
    """
    return gpu_trial(env).adapter or None
