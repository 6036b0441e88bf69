# %% [markdown]
# # ULSAM in the functional API, from zero
#
# We build a small convolutional network with subspace attention, train it, see *where* it looks,
# and save it. It runs on every back end of Keras: set `KERAS_BACKEND` to `tensorflow`, `jax` or
# `torch`.

# %%
import sys
from pathlib import Path

from needs import need

need("matplotlib", "sklearn")

import keras
import numpy as np
from keras import layers

import digit_pictures
import ulsam_keras
from ulsam_keras import ULSAM

QUICK = "--quick" in sys.argv  # a smaller setting, as the tests run it
EPOCHS = 4 if QUICK else 6
OUT = Path("out/examples")
OUT.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Data
#
# One digit of 16 x 16 pixels lies anywhere in a picture of 32 x 32, among fragments of other
# digits. The network has to find the digit before it can read it. The held-out pictures are of
# drawings that it has never seen.

# %%
train, test = digit_pictures.load(1500 if QUICK else 4000)
print("images", train.images.shape, "labels", train.labels.shape)

# %% [markdown]
# ## The model
#
# `ULSAM` is a layer like any other: maps in, maps of the same shape out. It cuts the channels into
# `num_splits` groups of neighbours, and gives each group one attention map `a`, a softmax over all
# positions. The output is `x * (1 + a)`, so the layer emphasises and never erases.
#
# Put it where the maps are small: `a` sums to 1 over the map, so that on 8 x 8 positions one of
# them can be doubled, where on 112 x 112 a diffuse attention changes nothing that matters.


# %%
def conv(x, filters, strides=1):
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    # A momentum of 0.9, as Keras's default of 0.99 wants more steps than this training has.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def build(attention=True):
    inputs = keras.Input((32, 32, 1))
    x = conv(inputs, 16, strides=2)
    x = conv(x, 32, strides=2)
    x = conv(x, 32)
    if attention:
        x = ULSAM(num_splits=4, name="middle")(x)
    x = conv(x, 48)
    if attention:
        x = ULSAM(num_splits=4, name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


model, plain = build(), build(attention=False)

# %% [markdown]
# What it costs: `5 * C + 3 * g` learned numbers for C channels in g groups, here 172 and 252.

# %%
added = sum(layer.count_params() for layer in model.layers if isinstance(layer, ULSAM))
learned = sum(
    np.prod(weight.shape)
    for layer in model.layers
    if isinstance(layer, ULSAM)
    for weight in layer.trainable_weights
)
assert learned == (5 * 32 + 3 * 4) + (5 * 48 + 3 * 4)
assert model.count_params() == plain.count_params() + added
print(f"{plain.count_params():,} weights without ULSAM, {model.count_params():,} with it")

# %% [markdown]
# ## Training
#
# Nothing is special about it, but for one habit: train on whole batches only. The norms inside
# ULSAM have `momentum=0.1`, as its authors published it: they follow the *last* batch to nine
# tenths, and a last batch of a few pictures would decide what inference computes.

# %%
BATCH = 50
assert len(train.images) % BATCH == 0


def fit(model):
    steps = EPOCHS * len(train.images) // BATCH
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train.images, train.labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    return model.evaluate(test.images, test.labels, verbose=0, return_dict=True)["accuracy"]


accuracy, accuracy_plain = fit(model), fit(plain)
error = np.sqrt(accuracy * (1 - accuracy) / len(test.images))
print(f"held-out accuracy {accuracy:.1%} with ULSAM, {accuracy_plain:.1%} without it")
print(f"one standard error of such a number: {error:.1%}")
assert accuracy > 0.7

# %% [markdown]
# Do not read more into the difference of two trainings than its error bars allow: on a task as
# small as this one, either network may come out ahead with another seed. What attention gives for
# certain is the next thing.
#
# ## Where it looks
#
# `attention_maps` computes the attention of every ULSAM in a model. The digit covers a quarter of
# each picture, so a map that tells no position from another has a quarter of its attention there.
# Nobody told the network where the digits are.

# %%
maps = ulsam_keras.attention_maps(model, test.images)
cell = test.on_digit.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))  # the digit's share of each position
on_digit = {
    name: (attention * cell[..., None]).sum(axis=(1, 2)).mean(axis=0)
    for name, attention in maps.items()
}
for name, shares in on_digit.items():
    print(f"{name}: share of the attention on the digit, by group:", np.round(shares, 2))
np.testing.assert_allclose(maps["last"].sum(axis=(1, 2)), 1, atol=1e-5)
assert on_digit["last"].mean() > 0.4

# %% [markdown]
# As a picture: in units of the uniform attention, so that 1 is "no opinion" and 16 is a position
# that has sixteen times its share.

# %%
figure = ulsam_keras.plot_attention(model, test.images[:3])
figure.savefig(OUT / "functional_api.png", dpi=100)

# %% [markdown]
# ## Saving
#
# A `.keras` file holds all of it. Whoever loads it has to `import ulsam_keras` first.

# %%
model.save(OUT / "functional_api.keras")
loaded = keras.saving.load_model(OUT / "functional_api.keras")
wanted = model.predict(test.images[:50], verbose=0)
found = loaded.predict(test.images[:50], verbose=0)
difference = np.abs(found - wanted).max() / np.abs(wanted).max()
print(f"the loaded model differs by {difference:.0e} of the largest logit")
assert difference < 1e-6

# %% [markdown]
# ## From here
#
# - [finetuning.py](finetuning.py): ULSAM in a network that you already have
# - [sites.py](sites.py): which of several ULSAM are worth their cost
# - [qat.py](qat.py): to an int8 file for a phone
