# %% [markdown]
# # Which sites are worth their cost
#
# A ULSAM is cheap, not free: on a phone its passes over the maps cost time. So put in several,
# train, ask what each is worth, and keep those that are worth it.

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

QUICK = "--quick" in sys.argv  # a smaller setting, as the tests run it
EPOCHS = 4 if QUICK else 6
BATCH = 50
OUT = Path("out/examples")
OUT.mkdir(parents=True, exist_ok=True)
train, test = digit_pictures.load(1500 if QUICK else 4000)

# %% [markdown]
# ## The network, without attention


# %%
def build():
    x = inputs = keras.Input((32, 32, 1))
    for block, (filters, strides) in enumerate([(16, 2), (32, 2), (32, 1), (48, 1)], start=1):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=f"conv{block}")(
            x
        )
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{block}")(x)
        x = layers.ReLU(name=f"relu{block}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="digit")(x))


# %% [markdown]
# ## Every place, and its price
#
# `sites` lists each tensor that a ULSAM fits on, the numbers of groups that divide its channels,
# and the multiply-adds.

# %%
model = build()
places = [site for site in ulsam_keras.sites(model) if site.name.startswith("relu")]
for place in places:
    print(place)

# %% [markdown]
# ## One everywhere


# %%
def train_with(sites):
    """A network with ULSAM at these sites, trained from the same start."""
    keras.utils.set_random_seed(0)
    model = build()
    if sites:
        model = ulsam_keras.add_ulsam(model, after=sites, num_splits=4)
    steps = EPOCHS * len(train.images) // BATCH
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train.images, train.labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    return model, model.evaluate(test.images, test.labels, verbose=0, return_dict=True)["accuracy"]


everywhere, accuracy = train_with([place.name for place in places])
print(f"held-out accuracy {accuracy:.1%}")

# %% [markdown]
# ## What each is worth
#
# `ablate` leaves the attention of one at a time out (`y = x`) and compares the outputs. The
# signal-to-noise ratio says how much they move, also where no answer changes: 20 dB is a change of
# a tenth. A *high* ratio is a site that hardly matters.

# %%
rows = ulsam_keras.ablate(everywhere, test.images, labels=test.labels, classifier=True)
for row in rows:
    print(row)
figure = ulsam_keras.plot_attention(everywhere, test.images[:2])
figure.savefig(OUT / "sites.png", dpi=100)

# %% [markdown]
# The site on the largest map costs the most. What counts is what the outputs lose for what is
# saved, so we keep the two whose absence moves the outputs most.

# %%
kept = [row.site.removesuffix("_ulsam") for row in sorted(rows, key=lambda row: row.snr)[:2]]
saved = sum(row.multiply_adds for row in rows if row.site.removesuffix("_ulsam") not in kept)
print(f"kept: {', '.join(kept)}; {saved:,} of {sum(row.multiply_adds for row in rows):,} saved")

# %% [markdown]
# ## Train again with those
#
# What a site is worth to a network trained *with* it is not what one trained without it would lose:
# the other layers take over. Only a training tells, and its error bar.

# %%
_, accuracy_kept = train_with(kept)
_, accuracy_without = train_with([])
error = np.sqrt(accuracy * (1 - accuracy) / len(test.images))
print(f"held-out accuracy with ULSAM at every site  {accuracy:.1%}")
print(f"                       at the two kept      {accuracy_kept:.1%}")
print(f"                       at none              {accuracy_without:.1%}")
print(f"one standard error of such a number         {error:.1%}")
assert accuracy_kept > accuracy - 4 * max(error, 0.005)

# %% [markdown]
# Where these differ by an error bar or two, the sites did not buy accuracy on this task, and the
# honest choice for a phone is the cheaper network. A ULSAM can also *take the place* of a block
# (`add_ulsam(model, replace=[(first, last)])`), which is where it makes a network faster.
