"""What one run of a model gives back. Imports NumPy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Accelerator = Literal["cpu", "cpu_builtin", "cpu_reference", "gpu"]
GpuPrecision = Literal["float32", "float16"]
Outcome = Literal["ok", "refused", "crashed", "timed_out", "no_driver"]


@dataclass(frozen=True)
class RunResult:
    """The result of `converters.runtime.run`.

    Attributes:
        outcome: `"ok"`; `"refused"`, the runtime raised an error (an operation that the GPU
            delegate does not support, say) or the device said that a part of it is beyond its
            limits (a texture of weights, say); `"crashed"`, the process died; `"timed_out"`, it was
            killed at the time limit; `"no_driver"`, no Vulkan adapter was found.
        outputs: The output arrays by signature name, the batch first; `None` unless `"ok"`.
        adapter: Which kernels or which device ran: `"XNNPACK"`, `"built-in kernels"`,
            `"reference kernels"`, or the GPU adapter's name. Empty if no GPU adapter was reached.
        fully_accelerated: Whether every operation ran on the GPU. `False` on the CPU.
        gpu_precision: The precision that really ran, which is `"float32"` for a requested
            `"float16"` where the adapter has no half precision; `None` unless `"ok"`.
        milliseconds: Median wall time of one invocation with its outputs read, the first one left
            out; `None` unless `"ok"`, or if no timed repeats were asked for.
        message: The runtime's own words, on one line; empty for `"ok"`.
        signal: The name of the signal that ended a `"crashed"` process, such as `"SIGABRT"`.
            `None` if it ended without one.
    """

    outcome: Outcome
    outputs: dict[str, np.ndarray] | None = None
    adapter: str = ""
    fully_accelerated: bool = False
    gpu_precision: GpuPrecision | None = None
    milliseconds: float | None = None
    message: str = ""
    signal: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the model ran to the end."""
        return self.outcome == "ok"

    @property
    def problem(self) -> str:
        """Why it did not run, in one line; empty if it did."""
        return "" if self.ok else f"{self.outcome}: {self.message}"
