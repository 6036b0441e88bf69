"""ULSAM found in programs by what is computed, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import ulsam_keras
from converters.program import read_program
from converters.pytorch.graph.ulsam import find_ulsam_calls
from ulsam_variants import (
    AT_ONCE,
    AT_ONCE_WRONG,
    DSC,
    GROUPS,
    OTHER,
    SAME,
    TOGETHER,
    TOGETHER_WRONG,
    C,
    H,
    N,
    Together,
    W,
    by_view,
    randomised,
)

# Sums of a few dozen float32 numbers.
TOLERANCE = 1e-5
SAMPLES = torch.randn(N, C, H, W, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def exported(tmp_path):
    """Writes a module's program and reads it: the program."""

    def export(module, x=SAMPLES, edit=lambda program: program, **options):
        program = edit(torch.export.export(module, (x,), **options))
        torch.export.save(program, tmp_path / "net.pt2")
        return read_program(tmp_path / "net.pt2")

    return export


def difference(program, module, calls, x=SAMPLES):
    """How far a chain of the calls' layers is from the module, relative to its largest output."""
    y = x.numpy().transpose(0, 2, 3, 1)
    for call in calls:
        layer = ulsam_keras.ULSAM(
            call.num_splits,
            momentum=call.momentum,
            epsilon=call.epsilon,
            data_format="channels_last",
        )
        layer.build(y.shape)
        layer.set_weights(call.values(layer, program.tensors))
        y = np.asarray(layer(y))
    expected = module(x).detach().numpy()
    return np.abs(y.transpose(0, 3, 1, 2) - expected).max() / np.abs(expected).max()


MODULES = {
    **{name: lambda weigh=weigh: Together(weigh) for name, weigh in TOGETHER.items()},
    "together, a group per channel": lambda: Together(TOGETHER["repeated"], C),
    "published": lambda: DSC(),
    "one group": lambda: DSC(1),
    "a group per channel": lambda: DSC(8),
    "without bias": lambda: DSC(bias=False),
    "eps and momentum": lambda: DSC(eps=(1e-3, 1e-3), momentum=(0.1, 0.1)),
    "sum at the end": lambda: DSC(
        steps={"sum": lambda x, a: x * a, "join": lambda parts, x: torch.cat(parts, 1) + x}
    ),
    **{f"at once, {name}": lambda s=steps: DSC(steps=s) for name, steps in AT_ONCE.items()},
    "many spellings": lambda: DSC(
        steps={step: list(ways.values())[-1] for step, ways in SAME.items()}
    ),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_found(exported, make):
    module = randomised(make())
    program = exported(module)
    calls, near = find_ulsam_calls(program)
    assert not near and len(calls) == 1
    (call,) = calls
    assert (call.num_splits, call.channels) == (len(module.parts), C)
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    assert (call.momentum, call.epsilon) == (pytest.approx(1 - norm.momentum), norm.eps)
    assert call.nodes == {node.name for node in program.nodes}
    assert (call.source, call.result) == ("x", program.outputs[0].value)
    assert difference(program, module, calls) < TOLERANCE


class SideBySide(nn.ModuleDict):
    """Modules by name, each with one step in another way."""

    def __init__(self, step, ways):
        groups = GROUPS if step in ("cut", "join") else 1  # several only where that matters
        super().__init__({name: DSC(groups, steps={step: how}) for name, how in ways.items()})

    def forward(self, x):
        return {name: module(x) for name, module in self.items()}


@pytest.mark.parametrize("step", SAME)
def test_spellings(exported, step):
    modules = randomised(SideBySide(step, SAME[step]))
    program = exported(modules)
    calls, near = find_ulsam_calls(program)
    assert not near
    assert [call.module.split(".")[0] for call in calls] == list(modules)
    if step not in ("cut", "join"):  # where several see the input in one way
        assert set().union(*(call.nodes for call in calls)) == {n.name for n in program.nodes}
    differences = [
        difference(program, module, [call])
        for module, call in zip(modules.values(), calls, strict=True)
    ]
    assert max(differences) < TOLERANCE


@pytest.mark.parametrize("step", OTHER)
def test_near_misses(exported, step):
    ways = {name: how for name, (how, _) in OTHER[step].items()}
    calls, near = find_ulsam_calls(exported(randomised(SideBySide(step, ways))))
    assert not calls
    found = {
        name: [miss.difference for miss in near if miss.module.split(".")[0] == name]
        for name in ways
    }
    assert found == {name: [text] if text else [] for name, (_, text) in OTHER[step].items()}


def test_groups_with_one_difference_are_one_near_miss(exported):
    program = exported(randomised(DSC(steps={"softmax": torch.sigmoid})))
    calls, (miss,) = find_ulsam_calls(program)
    assert not calls
    assert (miss.source, miss.difference) == ("x", "the softmax is replaced by sigmoid")
    assert miss.nodes == {node.name for node in program.nodes}


@pytest.mark.parametrize("weigh", TOGETHER_WRONG.values(), ids=TOGETHER_WRONG)
def test_together_but_wrong(exported, weigh):
    module = randomised(Together(weigh))
    program = exported(module)
    calls, _ = find_ulsam_calls(program)
    assert not any(call.result == program.outputs[0].value for call in calls)


@pytest.mark.parametrize("steps", AT_ONCE_WRONG.values(), ids=AT_ONCE_WRONG)
def test_at_once_but_wrong(exported, steps):
    assert not find_ulsam_calls(exported(randomised(DSC(steps=steps))))[0]


class Chain(nn.Module):
    """A restoration net in small: head, blocks, a module, tail; then a module of its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(C, C, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(C, C, 1), nn.ReLU(), DSC(2), DSC(1))
        self.tail = DSC(4)

    def forward(self, x):
        return self.tail(F.relu(self.body(self.head(x)) + x, inplace=True))


def test_sites(exported):
    calls, near = find_ulsam_calls(exported(randomised(Chain())))
    assert not near
    assert [(call.module, call.num_splits) for call in calls] == [
        ("body.2", 2),
        ("body.3.parts.0", 1),
        ("tail", 4),
    ]
    assert calls[0].result == calls[1].source
    assert not calls[0].nodes & calls[1].nodes


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.site = DSC()

    def forward(self, x):
        return self.site(self.site(x))


def test_called_twice(exported):
    module = randomised(Twice())
    program = exported(module)
    calls, near = find_ulsam_calls(program)
    assert not near
    first, second = calls
    assert first.weights == second.weights
    assert (first.result, first.module) == (second.source, second.module)
    assert difference(program, module, calls) < TOLERANCE


def around(make, **options):
    """A module whose forward is made from one site: `make(site)(x)`."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.site = DSC(**options)
            self.extra = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return make(self.site, x)

    return randomised(Around())


def clone_before(site, x):
    return site(x.contiguous().clone()).clone() + 0


def written_after(site, x):
    y = site(x)
    y += 1
    return y


FOUND_INSIDE = {
    "the product of the input with a ULSAM": lambda site, x: x * site(x),
    "the ULSAM of a product": lambda site, x: site(x * 2),
    "no-ops around it": clone_before,
    "written to afterwards": written_after,
    "the input is used elsewhere too": lambda site, x: (site(x), x.chunk(4, 1)[1] * 2),
    "doubled": lambda site, x: site(x) + site(x),
}


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("make", FOUND_INSIDE.values(), ids=FOUND_INSIDE)
def test_found_inside(exported, make, groups):
    program = exported(around(make, groups=groups))
    calls, near = find_ulsam_calls(program)
    assert not near and {call.num_splits for call in calls} == {groups}
    # Without the nodes of the call everything else can be computed from its result.
    covered = set().union(*(call.nodes for call in calls))
    inner = {v for node in program.nodes if node.name in covered for v in node.outputs}
    inner -= {call.result for call in calls}
    rest = [node for node in program.nodes if node.name not in covered]
    assert not inner & {str(v) for node in rest for v in node.arguments.values()}
    assert not inner & {end.value for end in program.outputs}


def overwritten_input(site, x):
    part = site.parts[0]
    a = by_view(F.relu(part.second(part.pointwise(F.max_pool2d(F.relu(
        part.first(part.depthwise(x))), 3, 1, 1)))))  # fmt: skip
    y = x * a
    x += 1
    return y + x


def overwritten_view(site, x):
    part = site.parts[0]
    z = x.clone()
    a = by_view(F.relu(part.second(part.pointwise(F.max_pool2d(F.relu(
        part.first(part.depthwise(z))), 3, 1, 1)))))  # fmt: skip
    z[:, :4].mul_(2)
    return z * a + z


def with_attention(site, x):
    part = site.parts[0]
    a = by_view(F.relu(part.second(part.pointwise(F.max_pool2d(F.relu(
        part.first(part.depthwise(x))), 3, 1, 1)))))  # fmt: skip
    return x * a + x, a


def with_scores(site, x):
    part = site.parts[0]
    t = F.relu(part.first(part.depthwise(x)))
    a = by_view(F.relu(part.second(part.pointwise(F.max_pool2d(t, 3, 1, 1)))))
    return x * a + x, t.mean()


def with_weights(site, x):
    return site(x), site.parts[0].first.weight * 2


# A module around a site: name: (options of the site, forward, what the report says).
APART = {
    "shared": ({"shared": True}, lambda s, x: s(x), "one set of weights serves several groups"),
    "eps": ({"eps": (1e-5, 1e-3)}, lambda s, x: s(x), "its batch norms differ in momentum and eps, "
            "0.9 and 1e-05 and 0.9 and 0.001"),
    "momentum": ({"momentum": (0.1, 0.9)}, lambda s, x: s(x), "its batch norms differ in momentum "
                 "and eps, 0.1 and 1e-05 and 0.9 and 1e-05"),
    "attention": ({"groups": 1}, with_attention, "its attention is used elsewhere too"),
    "inner value": ({"groups": 1}, with_scores, "its value 'relu' is used elsewhere too"),
    "weight": ({}, with_weights, "'site.parts.0.first.weight' is used elsewhere too"),
    "overwritten": ({"groups": 1}, overwritten_input, "the input is not added to the product"),
    "view overwritten": ({"groups": 1}, overwritten_view, None),
    "training": ({}, lambda s, x: s.train()(x), "the depthwise batch norm has training True, not "
                 "False; the pointwise batch norm has training True, not False"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "make", "text"), APART.values(), ids=APART)
def test_apart(exported, options, make, text):
    calls, near = find_ulsam_calls(exported(around(make, **options)))
    assert not calls
    assert [str(miss) for miss in near] == ([f"like ULSAM, but {text}"] if text else [])


def test_parts_of_weights_in_common(exported):
    module = nn.Sequential(DSC(), DSC())
    module[0].parts[1].second = module[1].parts[2].second
    calls, near = find_ulsam_calls(exported(randomised(module)))
    assert not calls and len(near) == 2


def test_dropout_is_told(exported):
    module = randomised(DSC(1, steps={"between": lambda t: F.dropout(t, 0.2, False)}))
    ((call,), _) = find_ulsam_calls(exported(module))
    assert call.dropouts == ("dropout",)


def test_other_networks_have_none(exported):
    """Squeeze-and-excitation, and spatial attention over means and maxima."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(C, 2, 1), nn.Conv2d(2, C, 1)
            self.spatial = nn.Conv2d(2, 1, 7, padding=3)

        def forward(self, x):
            x = x * torch.sigmoid(self.wide(F.relu(self.narrow(x.mean((2, 3), keepdim=True)))))
            both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
            x = F.max_pool2d(x * torch.sigmoid(self.spatial(both)), 3, 1, 1) + x
            flat = x.flatten(2)
            return (flat @ flat.transpose(1, 2)).softmax(-1) @ flat

    assert find_ulsam_calls(exported(randomised(Attention()))) == ([], [])


# Dimensions left free, whether the program is decomposed as older versions do it, groups.
TRACED = {
    "batch": ([0], False, 4),
    "batch, lone": ([0], False, 1),
    "all": ([0, 2, 3], False, 2),
    "all, decomposed": ([0, 2, 3], True, 2),
    "decomposed, lone": ([], True, 1),
}


@pytest.mark.parametrize(("free", "lower", "groups"), TRACED.values(), ids=TRACED)
def test_dynamic_and_decomposed(exported, free, lower, groups):
    module = randomised(DSC(groups))
    edit = (lambda program: program.run_decompositions()) if lower else (lambda program: program)
    shapes = [dict.fromkeys(free, torch.export.Dim.AUTO)]
    program = exported(module, edit=edit, dynamic_shapes=shapes)
    calls, near = find_ulsam_calls(program)
    assert not near and len(calls) == 1
    assert difference(program, module, calls) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, C, 1, 1), (1, C, H, 1), (1, C, 4, 4), (3, C, 3, 3)])
def test_map_sizes(exported, shape):
    x = torch.randn(shape)
    module = randomised(DSC(2))
    program = exported(module, x)
    calls, near = find_ulsam_calls(program)
    assert not near and len(calls) == 1
    assert difference(program, module, calls, x) < TOLERANCE


def test_half_precision(exported):
    module = randomised(DSC(4)).half()
    program = exported(module, SAMPLES.half())
    ((call,), near) = find_ulsam_calls(program)
    assert not near
    assert difference(program, module.float(), [call]) < TOLERANCE


def test_training_goes_on_alike(exported):
    """A further forward pass in training mode gives what PyTorch's gives."""
    module = randomised(DSC(2, bias=False))
    program = exported(module)
    ((call,), _) = find_ulsam_calls(program)
    layer = ulsam_keras.ULSAM(2, momentum=call.momentum, epsilon=call.epsilon)
    x = SAMPLES.numpy().transpose(0, 2, 3, 1)
    layer.build(x.shape)
    layer.set_weights(call.values(layer, program.tensors))
    y = np.asarray(layer(x, training=True)).transpose(0, 3, 1, 2)
    expected = module.train()(SAMPLES).detach().numpy()
    assert np.abs(y - expected).max() < TOLERANCE * np.abs(expected).max()
    means = np.concatenate([part.first.running_mean for part in module.parts])
    np.testing.assert_allclose(layer.depthwise_norm.moving_mean, means, rtol=1e-4, atol=1e-5)


ANY_STEP = {
    step: [*SAME.get(step, {}).values(), *(how for how, _ in OTHER.get(step, {}).values())]
    for step in SAME.keys() | OTHER.keys()
}


@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    steps=st.fixed_dictionaries(
        {}, optional={step: st.sampled_from(ways) for step, ways in sorted(ANY_STEP.items())}
    )
)
def test_what_is_found_is_equal(exported, steps):
    module = randomised(DSC(2, steps=steps))
    try:
        program = exported(module)
    except RuntimeError:  # the edits do not fit one another: no such module
        return
    calls, _ = find_ulsam_calls(program)
    assert len(calls) <= 1
    for call in calls:
        assert (call.source, call.result) == ("x", program.outputs[0].value)
        assert difference(program, module, calls) < TOLERANCE
