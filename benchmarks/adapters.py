"""Models on GPU adapters: fully on the GPU, differences from the CPU, operators, time.

    python benchmarks/adapters.py [--all]

Prints one row per model and adapter for the software drivers in .vulkan (scripts/vulkan_drivers.sh
puts them there) and for the machine's own GPU, if it has one. `--all` adds MobileNetV2 at 224x224.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
VULKAN = ROOT / ".vulkan"
ADAPTERS = {
    "SwiftShader": ("float32", {"LD_LIBRARY_PATH": str(VULKAN / "swiftshader")}),
    "lavapipe": (
        "float16",
        {
            "LD_LIBRARY_PATH": str(VULKAN / "lavapipe"),
            "VK_ICD_FILENAMES": str(VULKAN / "lavapipe" / "lvp_icd.json"),
            "GALLIVM_PERF": "nopt",
            "LP_NATIVE_VECTOR_WIDTH": "128",
        },
    ),
    "machine": ("float32", {}),
}


def models(everything):
    """(name, Keras model with random weights, or the trained digits network)."""
    import keras
    import numpy as np

    from converters import load_checkpoint, port_weights
    from ulsam_keras import ULSAM
    from ulsam_keras.networks import MobileNetV2

    def randomised(model):
        rng = np.random.default_rng(0)
        for weight in model.weights:
            # Statistics and scales of a trained network's size; kernels keep their initialisation.
            if weight.path.endswith(("moving_variance", "gamma")):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.path.endswith(("moving_mean", "beta")):
                weight.assign(rng.uniform(-0.5, 0.5, weight.shape))
            elif weight.path.endswith(("pointwise_kernel", "depthwise_conv/kernel")):
                weight.assign(rng.normal(0, 1, weight.shape))
        return model

    for groups, channels, size in [
        (1, 64, 14),
        (2, 64, 7),
        (4, 512, 14),
        (8, 64, 56),
        (16, 1024, 7),
    ]:
        inputs = keras.Input((size, size, channels))
        model = keras.Model(inputs, ULSAM(groups, name="ulsam")(inputs))
        yield f"block g={groups} {size}x{size}x{channels}", randomised(model)
    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    import model as digits

    network = digits.build()
    port_weights(load_checkpoint(ROOT / "examples" / "digits" / "digits_ulsam.pth"), network)
    yield "digits network", network
    for size, alpha in [(96, 0.35), *([(224, 1.0)] if everything else [])]:
        network = MobileNetV2(
            (size, size, 3),
            alpha=alpha,
            ulsam_instead_of=(12, 13, 15, 16),
            classifier_activation=None,
        )
        yield f"MobileNetV2 {alpha} {size}x{size}", randomised(network)


def main():
    """Prints the table."""
    import numpy as np

    from converters.runtime import run, vulkan_adapter
    from converters.tflite import Exporter
    from converters.verify.outputs import decibels, relative_difference
    from ulsam_keras import with_attention

    adapters = {
        name: value
        for name, value in ADAPTERS.items()
        if (name == "machine" or (VULKAN / name.lower()).is_dir()) and vulkan_adapter(value[1])
    }
    if "machine" not in adapters:
        print("the machine's own GPU: not run, no Vulkan driver")
    print("| model | operators | adapter | precision | on GPU | y | attention | its SNR, dB | ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, model in models("--all" in sys.argv):
        exporter, probe = Exporter(model), Exporter(with_attention(model))
        operators = len(exporter.convert().graph.operators)
        content = probe.convert().content
        [shape] = probe.input_shapes.values()
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        expected = run(content, x, repeats=0).outputs
        for adapter, (gpu_precision, env) in adapters.items():
            result = run(
                content, x, accelerator="gpu", gpu_precision=gpu_precision, env=env, repeats=3
            )
            head = f"| {name} | {operators} | {result.adapter or adapter} "
            if not result.ok:
                print(f"{head}| {gpu_precision} | {result.outcome}: {result.message} | | | | |")
                continue
            sites = [n for n in expected if n.endswith("_attention")]
            far = {n: relative_difference(result.outputs[n], expected[n]) for n in expected}
            snr = {n: decibels(expected[n], result.outputs[n] - expected[n]) for n in sites}
            largest = max(far[n] for n in expected if n not in sites)
            print(
                f"{head}| {result.gpu_precision} | {'yes' if result.fully_accelerated else 'NO'} "
                f"| {largest:.1e} | {max(far[n] for n in sites):.1e} "
                f"| {min(snr[n] for n in sites):.1f} | {result.milliseconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
