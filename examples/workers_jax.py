# %% [markdown]
# # Several devices on JAX: `keras.distribution.DataParallel`
#
# On JAX, Keras spreads each batch over the devices and `fit` stays `fit`. One program computes with
# the whole batch, whatever device a part of it lies on, so that batch normalization takes the
# statistics of the global batch by itself: `synchronized=True`, which is for TensorFlow, is not
# needed.
#
# Here the processor plays eight devices, and we hold them to one. On a machine with several GPUs or
# TPUs leave both variables about it out: `list_devices()` finds what is there.

# %%
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"  # before JAX starts
# Threads for the processor: a device that waits for the others keeps one busy, and with as many as
# cores, where those are fewer than devices, they can all be waiting.
os.environ["NPROC"] = "32"

from needs import need

need("jax", "sklearn")

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
# `set_distribution` comes before the model is made, and is all there is to do. The weights are on
# every device, each has an eighth of the batch: let the number of devices divide its size.


# %%
def build(devices):
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 1))
    for filters, strides in [(16, 2), (32, 2), (32, 1)]:
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = ULSAM(num_splits=4)(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def fit(model, optimizer, pictures, epochs=1):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(pictures.images, pictures.labels, batch_size=BATCH, epochs=epochs, verbose=2)


# %% [markdown]
# ## Eight are one
#
# A step of plain gradient descent at a rate of 1 moves the weights by the gradient, and the running
# statistics of the norms by those of the batch. Both have to be the same on eight devices as on
# one, but for rounding: float32 leaves 1e-6 or so, and statistics of an eighth of the batch would
# be off by a tenth. (From there on rounding grows with every step, as in any training: compare
# gradients, not networks.)


# %%
def moved_by_one_step(devices):
    """What a step adds to the learned weights, and to the running statistics; and the model."""
    model = build(devices)
    batch = digit_pictures.Pictures(*(array[:BATCH] for array in train))
    parts = model.trainable_weights, model.non_trainable_weights
    before = [np.concatenate([w.numpy().ravel() for w in part]) for part in parts]
    fit(model, keras.optimizers.SGD(1.0), batch)
    after = [np.concatenate([w.numpy().ravel() for w in part]) for part in parts]
    return [a - b for a, b in zip(after, before, strict=True)], model


one, _ = moved_by_one_step(devices[:1])
eight, model = moved_by_one_step(devices)
kernel = model.trainable_weights[0].value
print(f"each weight is on {len(kernel.sharding.device_set)} devices")
assert len(kernel.sharding.device_set) == 8
for name, a, b in zip(["gradients", "statistics"], eight, one, strict=True):
    difference = np.linalg.norm(a - b) / np.linalg.norm(b)
    print(f"{name} on eight devices against one: {difference:.1e} (relative norm)")
    assert difference < 1e-4

# %% [markdown]
# ## A training
#
# As one does it.

# %%
model = build(devices)
fit(model, keras.optimizers.Adam(3e-3), train, epochs=3 if QUICK else 8)
accuracy = model.evaluate(test.images, test.labels, verbose=0, return_dict=True)["accuracy"]
print(f"eight devices: right on {accuracy:.1%} of held-out pictures")
keras.distribution.set_distribution(None)
