"""MobileNetV1 and MobileNetV2 against the same networks in PyTorch, block by block.

The weights are copied by hand, in the order in which the layers come.
"""

import keras
import numpy as np
import pytest
import torch
from torch import nn

from torch_networks import MarvisV1, TonylinsV2, TorchvisionV2, randomise
from torch_reference import ULSAM as TorchULSAM
from ulsam_keras import ULSAM
from ulsam_keras.networks import MobileNetV1, MobileNetV2, block_output_names

# Of the largest value: float32 rounding through 54 convolutions, each summed in another order.
TOLERANCE = 1e-4


def copy_by_order(source: nn.Module, target: keras.Model) -> None:
    layers = [layer for layer in target.layers if layer.weights]
    modules = list(_leaves(source))
    assert len(modules) == len(layers)
    for module, layer in zip(modules, layers, strict=True):
        if isinstance(module, TorchULSAM):
            _copy_ulsam(module, layer)
        else:
            layer.set_weights(_weights(module, layer))


def _leaves(module):
    if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear, TorchULSAM)):
        yield module
        return
    for child in module.children():
        yield from _leaves(child)


def _weights(module, layer):
    if isinstance(module, nn.BatchNorm2d):
        parts = module.weight, module.bias, module.running_mean, module.running_var
        return [part.detach().numpy() for part in parts]
    kernel = module.weight.detach().numpy()
    if isinstance(module, nn.Linear):
        return [kernel.T, module.bias.detach().numpy()]
    axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [kernel.transpose(axes)]


def _copy_ulsam(module, layer):
    assert isinstance(layer, ULSAM)
    groups = list(module.subspaces)

    def joined(get):
        return np.concatenate([get(group).detach().numpy() for group in groups])

    layer.depthwise_conv.set_weights(
        [
            joined(lambda it: it.conv_dws.weight).transpose(2, 3, 0, 1),
            joined(lambda it: it.conv_dws.bias),
        ]
    )
    names = ("weight", "bias", "running_mean", "running_var")
    for norm, torch_name in ((layer.depthwise_norm, "bn_dws"), (layer.pointwise_norm, "bn_point")):
        norm.set_weights(
            [joined(lambda it, n=n, t=torch_name: getattr(getattr(it, t), n)) for n in names]
        )
    layer.pointwise_kernel.assign(joined(lambda it: it.conv_point.weight).transpose(2, 3, 1, 0))
    layer.pointwise_bias.assign(joined(lambda it: it.conv_point.bias))


def largest_difference(ours, theirs):
    theirs = theirs.detach().numpy()
    if theirs.ndim == 4:
        theirs = theirs.transpose(0, 2, 3, 1)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def check(network, model, size):
    randomise(network)
    copy_by_order(network, model)
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    names = block_output_names(model)
    cut = keras.Model(
        model.input,
        {stage: model.get_layer(name).output for stage, name in names.items()}
        | {"logits": model.output},
    )
    ours = keras.tree.map_structure(keras.ops.convert_to_numpy, cut(images, training=False))
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2))
        theirs = network.stage_outputs(x) | {"logits": network(x)}
    assert set(ours) == set(theirs)
    differences = {name: largest_difference(ours[name], theirs[name]) for name in theirs}
    assert max(differences.values()) <= TOLERANCE, differences


SITES = [
    pytest.param({}, {}, id="plain"),
    pytest.param({3: 4, 14: 2}, {}, id="after"),
    pytest.param({}, {8: 4, 13: 8}, id="in place"),
    pytest.param({1: 1, 8: 4}, {9: 2, 13: 16}, id="both, adjacent"),
]
V1_SITES = [
    pytest.param({}, {}, id="plain"),
    pytest.param({1: 4, 8: 2, 13: 4}, {3: 4, 9: 8, 11: 1}, id="both"),
]


@pytest.mark.parametrize(("after", "instead_of"), SITES)
def test_mobilenet_v2_equals_torchvisions(after, instead_of):
    network = TorchvisionV2(0.35, 10, after, instead_of)
    model = MobileNetV2(
        (64, 96, 3),
        0.35,
        classes=10,
        classifier_activation=None,
        ulsam_after=tuple(after),
        ulsam_instead_of=tuple(instead_of),
        num_splits=after | instead_of,
    )
    check(network, model, (64, 96))


@pytest.mark.parametrize("expand_first", [False, True])
def test_mobilenet_v2_of_given_widths_equals_tonylins(expand_first):
    network = TonylinsV2(0.3, 10, {2: 4}, {12: 8}, expand_first)
    model = MobileNetV2(
        (64, 64, 3),
        classes=10,
        classifier_activation=None,
        ulsam_after=(2,),
        ulsam_instead_of=(12,),
        num_splits={2: 4, 12: 8},
        widths=network.widths,
        hidden_widths=network.hidden_widths,
    )
    assert ("block_1_expand" in {layer.name for layer in model.layers}) == expand_first
    check(network, model, (64, 64))


@pytest.mark.parametrize(("after", "instead_of"), V1_SITES)
def test_mobilenet_v1_equals_marviss(after, instead_of):
    network = MarvisV1(0.25, 10, after, instead_of)
    model = MobileNetV1(
        (64, 96, 3),
        0.25,
        classes=10,
        classifier_activation=None,
        ulsam_after=tuple(after),
        ulsam_instead_of=tuple(instead_of),
        num_splits=after | instead_of,
    )
    check(network, model, (64, 96))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 64)])
def test_odd_and_smallest_sizes(size):
    model = MobileNetV2((None, None, 3), 0.35, classes=5, classifier_activation=None)
    check(TorchvisionV2(0.35, 5), model, size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torch_network", "keras_network", "sites"),
    [
        (TorchvisionV2, MobileNetV2, (12, 13, 15, 16)),
        (TonylinsV2, MobileNetV2, (13, 16)),
        (MarvisV1, MobileNetV1, (11,)),
    ],
)
def test_full_size(torch_network, keras_network, sites):
    network = torch_network(instead_of=dict.fromkeys(sites, 4))
    model = keras_network(ulsam_instead_of=sites, classifier_activation=None)
    check(network, model, (224, 224))
