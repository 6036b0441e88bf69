# %% [markdown]
# # ULSAM in a network that you already have
#
# `add_ulsam` puts subspace attention into a trained model, all weights kept, and the result is
# fine-tuned. The network is one of `keras.applications`. Nothing is downloaded here: we pretrain it
# ourselves on one half of a task, the digits 0 to 4, and fine-tune it on few pictures of the other.

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
OUT = Path("out/examples")
OUT.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)
BATCH = 50

train, test = digit_pictures.load(3000 if QUICK else 4000, 1000)


def half(pictures, first, count=None):
    """Pictures of five digits, in whole batches, and which of the five."""
    mine = (pictures.labels >= first) & (pictures.labels < first + 5)
    images, labels = pictures.images[mine][:count], pictures.labels[mine][:count] - first
    whole = len(images) // BATCH * BATCH
    return images[:whole], labels[:whole]


def fit(model, data, epochs, rate):
    steps = epochs * len(data[0]) // BATCH
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*data, batch_size=BATCH, epochs=epochs, verbose=2)


def accuracy(model, data):
    return model.evaluate(*data, verbose=0, return_dict=True)["accuracy"]


# %% [markdown]
# ## The network that you have
#
# With `weights="imagenet"` you would start from there. Our pictures are small, so we take MobileNet
# up to its fifth block, where the maps have 4 x 4 positions, and put a head on it.
#
# A network without weights needs one more thing: batch normalizations of `keras.applications` have
# a momentum of 0.99 or 0.999, made for many thousand steps. After a few hundred their running
# statistics are still far off, and a network that has learnt answers by chance in inference.


# %%
def with_head(base):
    x = layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, layers.Dense(5, name="classes")(x))


def mobilenet():
    whole = keras.applications.MobileNet((32, 32, 1), alpha=0.5, include_top=False, weights=None)
    base = keras.Model(whole.input, whole.get_layer("conv_pw_5_relu").output)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9
    return base


base = mobilenet()
low = with_head(base)
fit(low, half(train, 0), epochs=4, rate=5e-3)
accuracy_low = accuracy(low, half(test, 0))
print(f"the digits 0 to 4: {accuracy_low:.1%} of held-out pictures")
assert accuracy_low > 0.6

# %% [markdown]
# ## Where a ULSAM fits
#
# `sites` lists every place, with what a ULSAM costs there. Blocks end in a ReLU after the pointwise
# convolution; we take the last ones on maps of 8 x 8 and of 4 x 4 positions.

# %%
candidates = [site for site in ulsam_keras.sites(base) if "pw" in site.name and "relu" in site.name]
for site in candidates:
    print(site)
after = ["conv_pw_3_relu", "conv_pw_5_relu"]
assert set(after) <= {site.name for site in candidates}

# %% [markdown]
# ## Put it in
#
# `add_ulsam` gives a new model with weights of its own; yours stays as it is. A new ULSAM
# multiplies by `1 + a`, where `a` averages one over the number of positions, so it changes the
# features little, and fine-tuning begins near where the network was.

# %%
attentive = ulsam_keras.add_ulsam(base, after=after, num_splits=4)
for layer in base.layers:
    for mine, theirs in zip(layer.weights, attentive.get_layer(layer.name).weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
before = base.predict(test.images[:200], verbose=0)
change = attentive.predict(test.images[:200], verbose=0) - before
print(f"the features move by {np.linalg.norm(change) / np.linalg.norm(before):.1%} (norm)")
assert np.linalg.norm(change) < 0.5 * np.linalg.norm(before)

# %% [markdown]
# ## Fine-tune
#
# The usual two steps. First only what is new learns, with the rest frozen: the head and the ULSAM,
# which are trainable also where the model around them is not. Freezing the *layers* keeps their
# batch normalizations on the statistics that they have. Then everything, at a lower rate.

# %%
few = half(train, 5, 300)
high = half(test, 5)


def finetune(base):
    for layer in base.layers:
        layer.trainable = isinstance(layer, ULSAM)
    model = with_head(base)
    fit(model, few, epochs=8, rate=5e-3)
    frozen = accuracy(model, high)
    for layer in base.layers:
        layer.trainable = True
    fit(model, few, epochs=8, rate=2e-3)
    return model, frozen, accuracy(model, high)


model, frozen, with_ulsam = finetune(attentive)
_, _, without_ulsam = finetune(base)
scratch = with_head(mobilenet())
fit(scratch, few, epochs=16, rate=5e-3)
from_scratch = accuracy(scratch, high)

print(f"the digits 5 to 9, learnt from {len(few[0])} pictures, {len(high[0])} held out:")
print(f"  from scratch                        {from_scratch:.1%}")
print(f"  fine-tuned                          {without_ulsam:.1%}")
print(f"  fine-tuned with ULSAM               {with_ulsam:.1%}")
print(f"  of that, head and ULSAM alone       {frozen:.1%}")
assert with_ulsam > from_scratch

# %% [markdown]
# What was learnt on the other half carries over. How much of it ULSAM gives is the difference of
# the two middle lines, and one run says little about that: repeat it with several seeds before you
# believe it, and ask [sites.py](sites.py) which of the ULSAM is worth its cost.
#
# ## Where the new layers look

# %%
figure = ulsam_keras.plot_attention(model, high[0][:3])
figure.savefig(OUT / "finetuning.png", dpi=100)
model.save(OUT / "finetuning.keras")
