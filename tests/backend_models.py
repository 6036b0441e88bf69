"""What models with ULSAM give on the active back end, as names and numbers to compare.

`parity.py --models` prints it for the back end that KERAS_BACKEND names.
"""

import tempfile

import numpy as np


def fill(model):
    """The same weights on every back end."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        else:
            value = rng.normal(size=weight.shape) / max(1, np.prod(weight.shape[:-1])) ** 0.5
        weight.assign(value.astype("float32"))
    return model


def flat(value):
    import keras

    return np.ravel(keras.ops.convert_to_numpy(value)).astype("float64")[::7].tolist()


def found():
    """{what: names, or numbers}."""
    import keras

    from ulsam_keras import (
        ULSAM,
        ablate,
        add_ulsam,
        attention_maps,
        networks,
        sites,
        with_attention,
    )

    x = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype("float32")
    network = fill(networks.MobileNetV1((32, 32, 3), 0.25, classes=5, ulsam_after=(3,)))
    result = {
        "network": flat(network.predict(x, verbose=0)),
        "multiply-adds": networks.count(network).multiply_adds,
    }

    image = keras.Input((8, 8, 3), name="image")
    inner_image = keras.Input((8, 8, 4))
    inner = keras.Model(inner_image, ULSAM(2, name="deep")(inner_image), name="inner")
    y = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    y = keras.layers.BatchNormalization(name="norm", trainable=False)(y)
    y = keras.layers.Conv2D(4, 1, name="head")(ULSAM(2, name="still", trainable=False)(inner(y)))
    base = keras.Model(image, y)
    result["sites"] = [site.name for site in sites(base)]
    model = fill(add_ulsam(base, after=["stem", "inner/deep"], num_splits=2))
    x = x[:, ::4, ::4]
    result["model"] = flat(model.predict(x, verbose=0))
    for name, value in attention_maps(model, x).items():
        result[f"attention of {name}"] = flat(value)
    rows = ablate(model, x, batch_size=1)
    result["ablated"] = [row.site for row in rows]
    result["costs"] = [row.multiply_adds for row in rows]
    for row in rows:
        # The energy of the change, over that of the signal.
        result[f"noise of {row.site}"] = [10 ** (-row.snr / 10)]
    result["after ablation"] = flat(model.predict(x, verbose=0))
    probe = with_attention(model)
    outputs = probe.predict(x, verbose=0)
    result["outputs"] = list(probe.output)
    with tempfile.TemporaryDirectory() as folder:
        probe.save(f"{folder}/probe.keras")
        again = keras.saving.load_model(f"{folder}/probe.keras").predict(x, verbose=0)
    result["saved"] = all(np.array_equal(again[name], outputs[name]) for name in outputs)

    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    result["loss"] = model.fit(x, np.ones((2, 8, 8, 4)), verbose=0, shuffle=False).history["loss"]
    # By layer: the gradient of a bias before a norm is 0, or what rounding makes of it.
    result["moved"] = sorted(
        {
            weight.path.rpartition("/")[0]
            for weight, old in zip(model.weights, before, strict=True)
            if (keras.ops.convert_to_numpy(weight) != old).any()
        }
    )
    result["after a step"] = flat(model.predict(x, verbose=0))
    return result
