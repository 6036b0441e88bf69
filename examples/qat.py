# %% [markdown]
# # To int8, and training for it
#
# A phone computes int8 fastest. Three ways lead there, and what each leaves is measured here: of
# the answers, and of the *attention*, which answers hardly show. The network is one that int8
# hurts: 2, 4 and 6 channels wide, on pictures of every contrast. (A wide network on easy pictures
# loses nothing, and needs none of this.) It runs on Keras's TensorFlow back end and needs the extra
# `qat`.

# %%
import contextlib
import io
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

from needs import need

need("sklearn", "tensorflow", "tensorflow_model_optimization", "tf_keras")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import digit_pictures
from converters import attention_snr, runtime, to_tflite
from ulsam_keras import ULSAM, quantization

QUICK = "--quick" in sys.argv  # a smaller setting, as the tests run it
OUT = Path("out/examples")
OUT.mkdir(parents=True, exist_ok=True)
BATCH, RATE = 100, 1e-2
EPOCHS, QAT_EPOCHS = (3, 1) if QUICK else (10, 6)
counts = (2000, 300) if QUICK else (6000, 4000)
train, test = digit_pictures.load(*counts, fragments=0, least_contrast=0.02)

# %% [markdown]
# ## The float network
#
# A MobileNetV2 in miniature. Train it in float first, until it has learnt and the running
# statistics of its norms have settled: quantisation-aware training goes on from there.


# %%
def conv_norm(x, layer, relu=True):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layer(x))
    return layers.ReLU()(x) if relu else x


def bottleneck(x, channels, strides=1):
    y = conv_norm(x, layers.Conv2D(6 * x.shape[-1], 1, use_bias=False))
    y = conv_norm(y, layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False))
    y = conv_norm(y, layers.Conv2D(channels, 1, use_bias=False), relu=False)
    return layers.Add()([x, y]) if x.shape == y.shape else y


def build():
    inputs = keras.Input((32, 32, 1))
    x = conv_norm(inputs, layers.Conv2D(2, 3, 2, padding="same", use_bias=False))
    x = ULSAM(2, name="ulsam1")(bottleneck(x, 2))
    x = bottleneck(x, 4, strides=2)
    x = ULSAM(2, name="ulsam2")(bottleneck(x, 4))
    x = bottleneck(x, 6)
    x = ULSAM(2, name="ulsam3")(bottleneck(x, 6))
    x = conv_norm(x, layers.Conv2D(12, 1, use_bias=False))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def fit(model, keras, epochs, rate):
    """Trains a model of Keras 3, or of tf_keras with its own optimizers and losses."""
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * len(train.images) // BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(decay), loss, metrics=["accuracy"])
    model.fit(train.images, train.labels, batch_size=BATCH, epochs=epochs, verbose=2)


keras.utils.set_random_seed(0)
model = build()
fit(model, keras, EPOCHS, RATE)
print(f"{model.count_params()} weights")

# %% [markdown]
# ## Without training
#
# Ranges come from some hundred representative pictures. TFLite's own conversion first, as
# TensorFlow's guide has it; then `to_tflite`, whose softmax keeps small attention alive and whose
# ranges are measured again where TFLite's calibration gets them wrong.

# %%
samples = train.images[:300]
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
with contextlib.redirect_stdout(io.StringIO()):  # it lists every variable
    tflite_own = converter.convert()

int8 = to_tflite(model, precision="int8", representative_data=samples)

# %% [markdown]
# ## With training
#
# `quantize_model` makes a tf_keras model with the weights of yours, in which every tensor that the
# file will round is rounded. `calibrate` sets its ranges from data. A third of the float training's
# learning rate served here: the best one is worth a search.

# %%
import tf_keras

q = quantization.quantize_model(model)
quantization.calibrate(q, [samples])
tf_keras.utils.set_random_seed(0)
fit(q, tf_keras, QAT_EPOCHS, RATE / 3)
int8_qat = to_tflite(q, precision="int8")
restored = quantization.restore(
    q, keras.models.clone_model(model)
)  # the trained weights, back in Keras 3

# %% [markdown]
# More training by itself may help too, so that a fair comparison gives the float network as much of
# it.

# %%
longer = keras.models.clone_model(model)
longer.set_weights(model.get_weights())
fit(longer, keras, QAT_EPOCHS, RATE / 3)
int8_longer = to_tflite(longer, precision="int8", representative_data=samples)


# %% [markdown]
# ## What each has left
#
# Right answers on held-out pictures; and of each site the signal-to-noise ratio of the attention
# *inside the file* against the float network of the same weights: 0 dB is an attention that is
# lost.


# %%
def answers(model):
    if isinstance(model, bytes):
        (logits,) = runtime.run(model, test.images).outputs.values()
    else:
        logits = model.predict(test.images, verbose=0)
    return logits.argmax(axis=1) == test.labels


rows = {
    "float32": (model, None),
    "int8, TFLite's own": (tflite_own, model),
    "int8, to_tflite": (int8, model),
    "float32, trained on": (longer, None),
    "int8 of that": (int8_longer, longer),
    "float32 after QAT": (restored, None),
    "int8 after QAT": (int8_qat, restored),
}
right = {name: answers(found) for name, (found, _) in rows.items()}
attention = {
    name: [site.snr for site in attention_snr(found, against, test.images[:100])]
    for name, (found, against) in rows.items()
    if against is not None
}
for name in rows:
    snr = ", ".join("?" if value is None else f"{value:.0f}" for value in attention.get(name, []))
    print(f"{name:20} {right[name].mean():6.2%}" + (f"   attention {snr} dB" if snr else ""))
gain = right["int8 after QAT"].astype(float) - right["int8 of that"]
error = gain.std() / np.sqrt(len(gain))
print(f"QAT against as much float training: {gain.mean():+.2%}, standard error {error:.2%}")

# %% [markdown]
# The file computes what the training saw, but for values between two steps that fall the other way:

# %%
(found,) = runtime.run(int8_qat, test.images).outputs.values()
same = (found.argmax(axis=1) == q.predict(test.images, verbose=0).argmax(axis=1)).mean()
print(f"the file answers as the model in training on {same:.1%} of the pictures")
assert same > 0.8
(OUT / "qat_int8.tflite").write_bytes(int8_qat)
restored.save(OUT / "qat_restored.keras")
