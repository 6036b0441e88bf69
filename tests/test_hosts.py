"""Whole networks with ULSAM: a program of PyTorch becomes a Keras model that gives the same."""

import keras
import numpy as np
import pytest
import torch

from converters import to_keras
from hosts import HOSTS, deviation, images, randomise
from ulsam_keras import ULSAM

# Of the largest output: float32 rounding, summed in another order.
TOLERANCE = 1e-5
# Of the largest output: what samples differ by at least; a constant would prove nothing.
ALIVE = 1e-2


def by_name(outputs):
    if torch.is_tensor(outputs):
        return [outputs]
    return list(outputs.values()) if isinstance(outputs, dict) else list(outputs)


@pytest.mark.parametrize("name", HOSTS)
def test_host(name, tmp_path):
    host = HOSTS[name]
    network = randomise(host.build(**host.small), images(host.small_shape, 8, seed=1))
    sample = images(host.small_shape, 3, seed=2)
    with torch.no_grad():
        expected = network(sample)
    assert deviation(expected) > ALIVE
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (sample[:2],), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "host.pt2")

    model, report = to_keras(tmp_path / "host.pt2")
    layers = [layer for layer in model.layers if isinstance(layer, ULSAM)]
    assert len(layers) == len(report.ulsam) == host.sites[1]
    (given,) = report.inputs
    outputs = model(sample.numpy().transpose(given.order), training=False)
    if isinstance(outputs, dict):
        if isinstance(expected, dict):
            assert set(outputs) == set(expected)
        outputs = [outputs[end.name] for end in report.outputs]
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    for end, ours, theirs in zip(report.outputs, outputs, by_name(expected), strict=True):
        ours = keras.ops.convert_to_numpy(ours).transpose(np.argsort(end.order))
        theirs = theirs.numpy()
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max(), end.name
