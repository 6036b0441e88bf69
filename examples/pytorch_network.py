# %% [markdown]
# # Your own PyTorch network: from `.pt2` and from `.pth`
#
# There are two ways from PyTorch to Keras and on to a phone. From the **program** that
# `torch.export` writes (`.pt2`) you get the Keras model without a line of Keras. From a
# **checkpoint** (`.pth`), which holds weights and nothing of what is computed, you write the
# network in Keras, and the weights find their places by name. We go both ways with one network and
# compare each step with PyTorch.

# %%
import subprocess
import sys
from pathlib import Path

from needs import need

need("sklearn", "tensorflow", "torch")

import keras
import numpy as np
import torch
from keras import layers
from torch import nn

import digit_pictures
from converters import (
    export_program,
    load_checkpoint,
    port_weights,
    runtime,
    to_keras,
    to_tflite,
)
from ulsam_keras import ULSAM, attention_maps

QUICK = "--quick" in sys.argv  # a smaller setting, as the tests run it
OUT = Path("out/examples")
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)

# %% [markdown]
# ## A network of your own
#
# Two convolutions, and ULSAM as its authors wrote it: a module for each group of channels.


# %%
class SubSpace(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_dws = nn.Conv2d(channels, channels, 1, groups=channels)
        self.bn_dws = nn.BatchNorm2d(channels, momentum=0.9)
        self.conv_point = nn.Conv2d(channels, 1, 1)
        self.bn_point = nn.BatchNorm2d(1, momentum=0.9)

    def forward(self, x):
        a = torch.relu(self.bn_dws(self.conv_dws(x)))
        a = nn.functional.max_pool2d(a, 3, 1, 1)
        a = torch.relu(self.bn_point(self.conv_point(a)))
        a = torch.softmax(a.flatten(2), dim=2).view_as(a)
        return x * a + x


class Attention(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.subspaces = nn.ModuleList(SubSpace(channels // groups) for _ in range(groups))

    def forward(self, x):
        parts = x.chunk(len(self.subspaces), dim=1)
        return torch.cat([s(part) for s, part in zip(self.subspaces, parts, strict=True)], dim=1)


def block(inputs, outputs):
    conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(block(1, 24), block(24, 48), Attention(48, 4))
        self.last = block(48, 96)
        self.classifier = nn.Linear(96, 10)

    def forward(self, x):
        return self.classifier(self.last(self.features(x)).mean(dim=(2, 3)))


# %% [markdown]
# Training is what you do already. PyTorch's images are (N, C, H, W).

# %%
train, test = digit_pictures.load(1500 if QUICK else 6000)
images, labels = (torch.from_numpy(array) for array in (train.images, train.labels))
images = images.permute(0, 3, 1, 2).contiguous()
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(5 if QUICK else 8):
    for batch in torch.randperm(len(images)).split(50):
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.3f}")

net.eval()
test_images = torch.from_numpy(test.images).permute(0, 3, 1, 2).contiguous()
with torch.no_grad():
    wanted = net(test_images).numpy()
accuracy = (wanted.argmax(axis=1) == test.labels).mean()
print(f"PyTorch is right on {accuracy:.1%} of held-out pictures")


def relative_difference(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


# %% [markdown]
# ## First way: the program
#
# `export_program` wraps `torch.export` and keeps in the file what the module answers to a
# reference. The file is plain data: whoever reads it needs no PyTorch, and executes nothing of it.

# %%
export_program(
    net, test_images[:1], OUT / "net.pt2", reference=test_images[:100], labels=test.labels[:100]
)
model, report = to_keras(OUT / "net.pt2")
found = model.predict(test.images, verbose=0)  # channels last, as Keras has them
print(f"Keras from the program: {relative_difference(found, wanted):.1e} of the largest logit")
assert relative_difference(found, wanted) < 1e-5

# %% [markdown]
# The modules above are no class that the converter knows. ULSAM was found by what it *computes*,
# and is one layer now, whose attention can be seen and survives in int8.

# %%
sites = [layer.name for layer in model.layers if isinstance(layer, ULSAM)]
(maps,) = attention_maps(model, test.images[:2]).values()
print("ULSAM:", *sites, "with attention of shape", maps.shape)
assert sites == ["features.2"]

# %% [markdown]
# ## Second way: the checkpoint
#
# A state dict says `features.0.0.weight`, and nothing of strides, paddings or epsilons: these have
# to be right in your Keras network. Two that bite: PyTorch's `padding=1` pads both sides, Keras's
# `"same"` at a stride of 2 one side only; and the epsilon of a batch normalization is 1e-5 there
# and 1e-3 here.
#
# A layer takes the module whose path is its name, dots written as underscores.

# %%
torch.save(net.state_dict(), OUT / "net.pth")


def keras_block(x, filters, path):
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(filters, 3, strides=2, use_bias=False, name=f"{path}_0")(x)
    return layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name=f"{path}_1")(x))


inputs = keras.Input((32, 32, 1))
x = keras_block(inputs, 24, "features_0")
x = keras_block(x, 48, "features_1")
x = ULSAM(4, name="features_2")(x)
x = keras_block(x, 96, "last")
x = layers.GlobalAveragePooling2D()(x)
mine = keras.Model(inputs, layers.Dense(10, name="digit")(x))

# %% [markdown]
# Where a name differs, `name_map` tells. `port_weights` plans first: a key that is left over,
# missing or of another shape is an error that names it, and nothing is changed.

# %%
state = load_checkpoint(OUT / "net.pth")  # NumPy arrays; PyTorch is not needed
try:
    port_weights(state, mine)
except ValueError as error:
    print(error)
port = port_weights(state, mine, name_map={"digit": "classifier"})
print(port)
found = mine.predict(test.images, verbose=0)
print(f"Keras from the checkpoint: {relative_difference(found, wanted):.1e} of the largest logit")
assert relative_difference(found, wanted) < 1e-5

# %% [markdown]
# ## To a file for a phone
#
# Both are Keras models now. `to_tflite` gives the bytes of a LiteRT file; `runtime.run` runs it in
# a process of its own.

# %%
content = to_tflite(model)
(OUT / "net.tflite").write_bytes(content)
result = runtime.run(content, test.images[:100])
(answers,) = result.outputs.values()
print(f"the file: {relative_difference(answers, wanted[:100]):.1e} of the largest logit")
assert relative_difference(answers, wanted[:100]) < 1e-5

# %% [markdown]
# ## All of it in one command
#
# From the program, with the answers that are in it: the Keras model, the files, a report, and an
# exit status that is 0 only if every comparison passed. In a shell:
#
# ```
# ulsam-keras convert net.pt2 -o converted
# ```

# %%
command = Path(sys.executable).with_name("ulsam-keras")
arguments = ["convert", OUT / "net.pt2", "-o", OUT / "converted", "--no-gpu"]
done = subprocess.run([command, *arguments], text=True, capture_output=True)
print(done.stdout, done.stderr)
assert done.returncode == 0
