# %% [markdown]
# # Several workers on TensorFlow: `MultiWorkerMirroredStrategy`
#
# Each worker computes the gradients of its share of a batch, and they are summed: two workers with
# 32 pictures each must train the very network that one trains with 64. Batch normalization breaks
# that quietly, as each worker normalizes with the statistics of its own share. Keras's
# `BatchNormalization(synchronized=True)` and `ULSAM(synchronized=True)` take them over all workers.
#
# Here two worker processes on this machine train, and we hold them to one.

# %%
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from needs import need

need("sklearn", "tensorflow")

import numpy as np

import worker  # the program that every worker runs, beside this file

QUICK = "--quick" in sys.argv  # a smaller setting, as the tests run it
OUT = Path("out/examples")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The worker
#
# [worker.py](worker.py) is what you take to a cluster. The model and the optimizer are made inside
# of `strategy.scope()`, and the loop is our own, as `fit` of Keras 3 fails with several workers
# (3.15):
#
# ```python
# with strategy.scope():
#     model = build(synchronized=True)
#     optimizer = keras.optimizers.Adam(3e-3)
#     optimizer.build(model.trainable_variables)
#
# def replica_step(images, labels):
#     with tf.GradientTape() as tape:
#         loss = loss_of(labels, model(images, training=True)) / GLOBAL_BATCH
#     gradients = tape.gradient(loss, model.trainable_variables)
#     optimizer.apply_gradients(zip(gradients, model.trainable_variables))
#     return loss
#
# @tf.function
# def step(images, labels):
#     losses = strategy.run(replica_step, args=(images, labels))
#     return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
# ```
#
# Three things make it equal to one worker: the loss is divided by the *global* batch, the gradients
# are summed by the optimizer and nowhere else, and the norms are synchronized.
#
# ## Starting them
#
# Every worker is told by the environment variable `TF_CONFIG` who takes part, and which of them it
# is. On a cluster each machine gets its own; here both are this one, at free ports.


# %%
def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def train(workers, steps, *options):
    """The losses, the accuracy and the weights after a training with so many workers."""
    path = OUT / f"workers_{workers}.npz"
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(workers)]}
    processes = []
    for index in range(workers):
        environment = dict(os.environ)
        if workers > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        command = [sys.executable, worker.__file__, path, "--steps", str(steps), *options]
        processes.append(subprocess.Popen(command, env=environment))
    try:
        for process in processes:
            assert process.wait(timeout=300) == 0
    finally:
        for process in processes:  # none is left waiting for one that failed
            process.kill()
    with np.load(path) as file:
        return dict(file)


def difference(found, wanted):
    """The largest difference of any array, relative to the largest value of that array."""
    return max(
        np.abs(found[name] - wanted[name]).max() / max(np.abs(wanted[name]).max(), 1e-12)
        for name in wanted
    )


# %% [markdown]
# ## Two are one
#
# In float32 any change of the order of sums grows from step to step, so that a mistake could pass
# for rounding. In float64 it cannot: what is left must be near 1e-16, and is asked to be below
# 1e-9.

# %%
STEPS = 5 if QUICK else 20
one = train(1, STEPS, "--dtype", "float64")
two = train(2, STEPS, "--dtype", "float64")
synchronized = difference(two, one)
print(f"two workers against one after {STEPS} steps: {synchronized:.1e}")
assert synchronized < 1e-9

# %% [markdown]
# Without synchronized norms it is another training:

# %%
alone = train(2, STEPS, "--dtype", "float64", "--unsynchronized")
print(f"the same without synchronized norms: {difference(alone, one):.1e}")
assert difference(alone, one) > 1e-3

# %% [markdown]
# ## A training
#
# In float32, as one does it.

# %%
if not QUICK:
    accuracy = train(2, 250)["accuracy"]
    print(f"two workers: right on {accuracy:.1%} of held-out pictures")
    assert accuracy > 0.5
