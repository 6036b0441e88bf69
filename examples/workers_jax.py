# %% [markdown]
# # Several devices on JAX: `keras.distribution.DataParallel`
#
# On JAX, Keras spreads each batch over the devices and `fit` stays `fit`. One program computes with the
# whole batch, whatever device a part of it lies on, so that batch normalization takes the
# statistics of the global batch by itself: `synchronized=True`, which is for TensorFlow, is not needed.
#
# Here the processor plays eight devices, and we hold them to one. On a machine with several
# GPUs or TPUs leave the two lines out that say how many: `list_devices()` finds them.

# %%
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"  # before JAX starts

import keras
import numpy as np
from keras import layers

import digit_pictures
from ulsam_keras import ULSAM

QUICK = "--quick" in sys.argv  # a smaller setting, as the tests run it
BATCH = 64
train, test = digit_pictures.load(1024 if QUICK else 4096)
devices = keras.distribution.list_devices()
print(devices)
assert len(devices) == 8

# %% [markdown]
# ## The training
#
# `set_distribution` comes before the model is made, and is all there is to do. The weights are on every device,
# each has an eighth of the batch: let the number of devices divide its size.


# %%
def fit(devices, epochs):
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 1))
    for filters, strides in [(16, 2), (32, 2), (32, 1)]:
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = ULSAM(num_splits=4)(x)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train.images, train.labels, batch_size=BATCH, epochs=epochs, verbose=2)
    return model


def difference(found, wanted):
    """The largest difference of any weight, relative to the largest value of that weight."""
    return max(
        np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)
        for a, b in zip(found.get_weights(), wanted.get_weights(), strict=True)
    )


# %% [markdown]
# ## Eight are one
#
# In float64, where rounding cannot hide a mistake: what is left of one epoch must be near 1e-16,
# and is asked to be below 1e-9.

# %%
import jax

jax.config.update("jax_enable_x64", True)
keras.config.set_floatx("float64")
one, eight = fit(devices[:1], epochs=1), fit(devices, epochs=1)
kernel = eight.trainable_weights[0].value
print(f"a kernel is on {len(kernel.sharding.device_set)} devices")
assert len(kernel.sharding.device_set) == 8
print(f"eight devices against one after an epoch: {difference(eight, one):.1e}")
assert difference(eight, one) < 1e-9

# %% [markdown]
# ## A training
#
# In float32, as one does it.

# %%
keras.config.set_floatx("float32")
model = fit(devices, epochs=2 if QUICK else 8)
accuracy = model.evaluate(test.images, test.labels, verbose=0, return_dict=True)["accuracy"]
print(f"eight devices: right on {accuracy:.1%} of held-out pictures")
keras.distribution.set_distribution(None)
