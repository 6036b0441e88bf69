"""What the tests of the port share: random PyTorch modules, state dicts, comparison of outputs.

Imports NumPy and PyTorch; Keras only inside functions.
"""

import numpy as np
import torch

# float32: both frameworks sum in different orders, a few roundings of 6e-8 each.
TOLERANCE = 1e-5


def randomise(module, seed=0):
    """Fill every weight and running statistic with random numbers; return it in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            else:
                tensor.normal_(0.0, 1.0 / max(1, tensor[0].numel()) ** 0.5, generator=generator)
                if tensor.ndim == 1:
                    tensor.add_(0.3)
    return module.eval()


def state_of(module, prefix=""):
    """The state dict as arrays that no longer share memory with the module."""
    return {prefix + key: value.numpy().copy() for key, value in module.state_dict().items()}


def inputs_of(*shape, seed=1):
    """A random (N, C, ...) batch."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def to_last(array):
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def difference(module, model, x, channels_first=False):
    """Largest difference of the outputs over the largest output, PyTorch in float64."""
    import keras

    with torch.no_grad():
        expected = module.double()(torch.from_numpy(x).double()).numpy()
    module.float()
    actual = keras.ops.convert_to_numpy(model(x if channels_first else to_last(x)))
    expected = expected if channels_first else to_last(expected)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def array(weight):
    """A copy of a Keras weight."""
    import keras

    return keras.ops.convert_to_numpy(weight).copy()


def values(target):
    """A copy of every weight of a layer or model."""
    return [array(weight) for weight in target.weights]


def unchanged(target, before):
    return all(np.array_equal(a, b) for a, b in zip(values(target), before, strict=True))


def assert_balanced(report, state, target):
    """Every key and every weight is accounted for once, and the two sides agree."""
    assert [record.key for record in report.sources] == list(state)
    assert len(report.weights) == len(target.weights)
    assert [record.shape for record in report.weights] == [tuple(w.shape) for w in target.weights]
    assert len({record.weight for record in report.weights}) == len(report.weights)
    forth = {r.key: r.weight for r in report.sources if r.status == "ported"}
    back = {key: r.weight for r in report.weights for key in r.keys}
    assert forth == back
    assert all((r.status == "ported") == bool(r.keys) for r in report.weights)
    assert {r.status for r in report.sources} <= {
        *("ported", "counter", "left over", "outside the prefix", "ignored")
    }
