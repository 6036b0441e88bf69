"""Largest relative differences between the Keras layer and the PyTorch module, per quantity.

`python tests/parity.py` prints the table for the Keras back end that KERAS_BACKEND names; `--json`
prints the bare numbers, `--few` takes the first cases only and `--rest` the others, `--cases` names
those above 1e-5, `--models` adds what `backend_models.py` finds. The oracle runs in float64, so
that every difference is the layer's own.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import backend_models  # noqa: E402

# g, C, H, W, N
CASES = [
    (4, 64, 14, 14, 2),
    (1, 8, 7, 7, 2),
    (2, 16, 5, 9, 3),
    (8, 64, 6, 6, 4),
    (16, 64, 7, 5, 2),
    (16, 16, 9, 9, 2),
    (4, 512, 14, 14, 1),
    (4, 16, 1, 1, 8),
    (2, 8, 1, 12, 3),
    (2, 8, 12, 1, 3),
    (3, 21, 4, 4, 1),
    (4, 32, 56, 56, 1),
]
FEW = 3
# Source keys of each Keras weight, in the order of `keras_weights`.
TRAINABLE = {
    "depthwise_kernel": "conv_dws.weight",
    "depthwise_bias": "conv_dws.bias",
    "depthwise_gamma": "bn_dws.weight",
    "depthwise_beta": "bn_dws.bias",
    "pointwise_kernel": "conv_point.weight",
    "pointwise_bias": "conv_point.bias",
    "pointwise_gamma": "bn_point.weight",
    "pointwise_beta": "bn_point.bias",
}
STATISTICS = {
    "depthwise_mean": "bn_dws.running_mean",
    "depthwise_variance": "bn_dws.running_var",
    "pointwise_mean": "bn_point.running_mean",
    "pointwise_variance": "bn_point.running_var",
}


def keras_weights(layer):
    """The layer's weights under the names of TRAINABLE and STATISTICS."""
    return {
        "depthwise_kernel": layer.depthwise_conv.kernel,
        "depthwise_bias": layer.depthwise_conv.bias,
        "depthwise_gamma": layer.depthwise_norm.gamma,
        "depthwise_beta": layer.depthwise_norm.beta,
        "pointwise_kernel": layer.pointwise_kernel,
        "pointwise_bias": layer.pointwise_bias,
        "pointwise_gamma": layer.pointwise_norm.gamma,
        "pointwise_beta": layer.pointwise_norm.beta,
        "depthwise_mean": layer.depthwise_norm.moving_mean,
        "depthwise_variance": layer.depthwise_norm.moving_variance,
        "pointwise_mean": layer.pointwise_norm.moving_mean,
        "pointwise_variance": layer.pointwise_norm.moving_variance,
    }


def gather(named, name, groups):
    """A PyTorch quantity of every group, in the layout of the Keras weight `name`."""
    key = {**TRAINABLE, **STATISTICS}[name]
    parts = [np.asarray(named[f"subspaces.{i}.{key}"]).reshape(-1) for i in range(groups)]
    if name == "depthwise_kernel":
        return np.concatenate(parts).reshape(1, 1, -1, 1)
    if name == "pointwise_kernel":
        return np.stack(parts, axis=-1)[None, None]
    return np.concatenate(parts)


def oracle(groups, channels, seed, dead=False):
    """A PyTorch ULSAM in float64 whose weights and statistics are random float32 numbers.

    With `dead` the depthwise kernel of the first channel is 0, as pruning leaves it.
    """
    import torch

    import torch_reference

    torch.manual_seed(seed)
    module = torch_reference.ULSAM(channels, groups).double()
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif "conv_" in key and key.endswith(".weight"):
                # Away from 0: where a training batch normalization undoes the weight's scale, what
                # is left of its gradient is rounding noise divided by the weight.
                signs = torch.randint_like(value, 2).mul(2).sub(1)
                value.uniform_(0.5, 1.5).mul_(signs).div_(value.shape[1] ** 0.5)
            elif key.endswith("bn_point.bias"):
                value.uniform_(1.0, 2.0)  # most scores alive behind the last ReLU
            elif "bn_" in key and key.endswith(".weight"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.normal_(0.0, 0.5)
            if value.is_floating_point():
                value.copy_(value.float())
        if dead:
            module.subspaces[0].conv_dws.weight[0] = 0.0
    return module


def fill(layer, module):
    """Puts the module's weights and statistics into the built layer."""
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    for name, weight in keras_weights(layer).items():
        weight.assign(gather(state, name, layer.num_splits).astype("float32"))


def _relative(value, reference, scale=None):
    scale = np.abs(reference).max() if scale is None else scale
    return float(np.abs(np.asarray(value, "float64") - reference).max() / max(scale, 1e-30))


def keras_run(layer, x, upstream_y, upstream_a, training):
    """Outputs, attention, gradients of the input and of every weight, by the active back end.

    The gradients are those of what is trainable: {name: gradient}, the input's under "input".
    """
    import keras
    import torch

    backend = keras.backend.backend()
    weights = {n: w for n, w in keras_weights(layer).items() if w.trainable}

    upstream_y = keras.ops.convert_to_tensor(upstream_y)
    upstream_a = keras.ops.convert_to_tensor(upstream_a)

    def loss_of(y, a):
        return keras.ops.sum(y * upstream_y) + keras.ops.sum(a * upstream_a)

    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, a = layer(x, training=training, return_attention_scores=True)
            loss = loss_of(y, a)
        grads = tape.gradient(loss, [x, *[w.value for w in weights.values()]])
    elif backend == "jax":
        import jax

        trainable = [w.value for w in layer.trainable_variables]
        fixed = [w.value for w in layer.non_trainable_variables]

        def forward(x, trainable):
            (y, a), updated = layer.stateless_call(
                trainable, fixed, x, training=training, return_attention_scores=True
            )
            return loss_of(y, a), (y, a, updated)

        gradient = jax.jit(jax.grad(forward, argnums=(0, 1), has_aux=True))
        (gx, gw), (y, a, updated) = gradient(x, trainable)
        by_id = {id(v): g for v, g in zip(layer.trainable_variables, gw, strict=True)}
        grads = [gx, *[by_id[id(w)] for w in weights.values()]]
        for variable, value in zip(layer.non_trainable_variables, updated, strict=True):
            variable.assign(value)
    else:
        x = torch.tensor(x, requires_grad=True)
        y, a = layer(x, training=training, return_attention_scores=True)
        grads = torch.autograd.grad(loss_of(y, a), [x, *[w.value for w in weights.values()]])
    to_numpy = keras.ops.convert_to_numpy
    names = ["input", *weights]
    return to_numpy(y), to_numpy(a), dict(zip(names, map(to_numpy, grads), strict=True))


def differences(
    groups,
    channels,
    height,
    width,
    batch,
    data_format="channels_last",
    seed=0,
    mean=0,
    deviation=1,
    dead=False,
):
    """{quantity: largest relative difference} of one case, on inputs of that mean and deviation.

    "frozen" is training mode with both norms frozen: the layer's form for training computes what
    its form for inference does, and the module in eval mode.
    """
    import keras
    import torch

    import ulsam_keras

    rng = np.random.default_rng(seed)
    shape = (batch, channels, height, width)
    x = rng.normal(mean, deviation, shape).astype("float32")
    upstream_y = rng.normal(size=shape).astype("float32")
    upstream_a = rng.normal(size=(batch, groups, height, width)).astype("float32")
    first = data_format == "channels_first"
    one_position = height * width == 1

    def to_keras(array):
        return array if first else np.ascontiguousarray(array.transpose(0, 2, 3, 1))

    def from_keras(array):
        return array if first else array.transpose(0, 3, 1, 2)

    result = {}
    for mode in ("eval", "train", "frozen"):
        training = mode == "train"
        module = oracle(groups, channels, seed, dead).train(training)
        layer = ulsam_keras.ULSAM(groups, data_format=data_format)
        layer.build(to_keras(x).shape)
        fill(layer, module)
        layer.depthwise_norm.trainable = layer.pointwise_norm.trainable = mode != "frozen"
        before = {n: gather(module.state_dict(), n, groups) for n in STATISTICS}

        tx = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        ta = module.attention(tx)
        ty = tx * ta.repeat_interleave(channels // groups, dim=1) + tx
        (ty * torch.tensor(upstream_y)).sum().add((ta * torch.tensor(upstream_a)).sum()).backward()
        if not training:  # the module's own forward must be what the oracle above spells out
            assert torch.equal(module(tx), ty)

        y, a, gradients = keras_run(
            layer, to_keras(x), to_keras(upstream_y), to_keras(upstream_a), mode != "eval"
        )
        result[f"{mode} output"] = _relative(from_keras(y), ty.detach().numpy())
        result[f"{mode} attention"] = _relative(from_keras(a), ta.detach().numpy())
        result[f"{mode} gradient input"] = _relative(
            from_keras(gradients.pop("input")), tx.grad.numpy()
        )
        named = {n: p.grad.numpy() for n, p in module.named_parameters()}
        reference = {n: gather(named, n, groups) for n in TRAINABLE}
        # Some gradients vanish by cancellation (a bias before a training batch normalization, a
        # shift before a softmax, everything before the softmax of one position), so the scale is
        # the largest gradient of the same stage, or of the input where a map has one position.
        for name, grad in gradients.items():
            stage = [g for n, g in reference.items() if n.split("_")[0] == name.split("_")[0]]
            scale = max(np.abs(g).max() for g in ([tx.grad.numpy()] if one_position else stage))
            result[f"{mode} gradient {name}"] = _relative(grad, reference[name], scale)
        if mode != "eval":
            n = batch * height * width
            after = {s: gather(module.state_dict(), s, groups) for s in STATISTICS}
            for name in STATISTICS:
                expected = after[name]
                if training and name.endswith("variance"):
                    # PyTorch's batch term is the unbiased variance, Keras's the biased one.
                    kept = 0.1 * before[name]
                    expected = kept + (expected - kept) * (n - 1) / n
                # A mean may be near 0; what it is compared with in use is the standard deviation.
                spread = after[name.replace("mean", "variance")] ** 0.5
                scale = max(np.abs(expected).max(), spread.max())
                got = keras.ops.convert_to_numpy(keras_weights(layer)[name])
                result[f"{mode} statistics {name}"] = _relative(got, expected, scale)
    return result


def table(cases=CASES):
    """{quantity: largest relative difference over the cases}; the first in both data formats."""
    worst = {}
    for index, case in enumerate(cases):
        for data_format in ("channels_last", "channels_first")[: 2 if index == 0 else 1]:
            for quantity, value in differences(*case, data_format=data_format).items():
                if "--cases" in sys.argv and value > 1e-5:
                    print(case, quantity, value)
                worst[quantity] = max(worst.get(quantity, 0.0), value)
    return worst


def far():
    """`differences` of inputs around 100 that differ by 0.01."""
    return differences(4, 32, 14, 14, 8, mean=100, deviation=0.01)


def second_order():
    """{quantity: difference} of the gradients of the sum of the squared gradient of the input.

    The upstream gradient of the outputs is their square's, so that it is differentiated too.
    """
    import keras
    import torch

    import ulsam_keras

    module = oracle(2, 8, seed=0).train()
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 8)).astype("float32")
    tx = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float64, requires_grad=True)

    def of_torch(y, x, weights):
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [x, *weights], allow_unused=True)

    gammas = [space.bn_dws.weight for space in module.subspaces]
    expected = of_torch(module(tx), tx, gammas)
    expected = [expected[0].permute(0, 2, 3, 1).numpy(), torch.cat(expected[1:]).numpy()]

    layer = ulsam_keras.ULSAM(2)
    layer.build(x.shape)
    fill(layer, module)
    gamma = layer.depthwise_norm.gamma
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        kx = tf.constant(x)
        with tf.GradientTape() as outer:
            outer.watch(kx)
            with tf.GradientTape() as inner:
                inner.watch(kx)
                loss = tf.reduce_sum(layer(kx, training=True) ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, kx) ** 2)
        found = outer.gradient(penalty, [kx, gamma.value])
    elif backend == "jax":
        import jax

        trainable = [w.value for w in layer.trainable_variables]
        fixed = [w.value for w in layer.non_trainable_variables]
        at = [id(w) for w in layer.trainable_variables].index(id(gamma))

        def loss(x, trainable):
            y, _ = layer.stateless_call(trainable, fixed, x, training=True)
            return (y**2).sum()

        def penalty(x, trainable):
            return (jax.grad(loss)(x, trainable) ** 2).sum()

        of_x, of_weights = jax.grad(penalty, argnums=(0, 1))(x, trainable)
        found = of_x, of_weights[at]
    else:
        kx = torch.tensor(x, requires_grad=True)
        found = of_torch(layer(kx, training=True), kx, [gamma.value])
    return {
        quantity: _relative(keras.ops.convert_to_numpy(value), reference)
        for quantity, value, reference in zip(("input", "gamma"), found, expected, strict=True)
    }


def compiled():
    """The difference between the layer and torch.compile of it, one graph; or why it is none."""
    import torch

    import ulsam_keras

    layer = ulsam_keras.ULSAM(2)
    layer.build((None, 6, 6, 8))
    x = torch.randn(2, 6, 6, 8)
    function = torch.compile(lambda x: layer(x, training=True), fullgraph=True, backend="eager")
    try:
        found = function(x)
    except Exception as error:  # of this alone; the other numbers are told all the same
        return f"{type(error).__name__}: {error}"
    return float(abs(found - layer(x, training=True)).detach().max())


if __name__ == "__main__":
    chosen = slice(0, FEW) if "--few" in sys.argv else slice(FEW * ("--rest" in sys.argv), None)
    numbers = table(CASES[chosen])
    if "--json" in sys.argv:
        models = backend_models.found() if "--models" in sys.argv else {}
        found = {"table": numbers, "models": models}
        if "--few" in sys.argv:
            found["far"] = far()
            found["dead"] = differences(2, 8, 5, 5, 3, dead=True)
            found["second"] = second_order()
            if os.environ["KERAS_BACKEND"] == "torch":
                found["compiled"] = compiled()
        print(json.dumps(found))
    else:
        for quantity, value in numbers.items():
            print(f"{quantity:45} {value:.1e}")
