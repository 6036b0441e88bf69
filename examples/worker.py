"""One worker of a training with `tf.distribute`: the program that every machine of a cluster runs.

    TF_CONFIG='{"cluster": …, "task": …}' python worker.py OUT.npz --steps 40

Without TF_CONFIG it is the only worker. The first worker writes the losses and the weights.
`workers_tensorflow.py` starts it; see there. Needs TensorFlow and scikit-learn.
"""

from __future__ import annotations

import argparse
import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import digit_pictures
from ulsam_keras import ULSAM

GLOBAL_BATCH = 64


def build(synchronized: bool) -> keras.Model:
    """The network; `synchronized` norms take their statistics over the global batch."""
    x = inputs = keras.Input((32, 32, 1))
    for filters, strides in [(16, 2), (32, 2), (32, 1)]:
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9, synchronized=synchronized)(x)
        x = layers.ReLU()(x)
    x = ULSAM(4, synchronized=synchronized)(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def batches(context: tf.distribute.InputContext, pictures: digit_pictures.Pictures):
    """This worker's share of every global batch, the same global batches for any number of them."""
    share = context.get_per_replica_batch_size(GLOBAL_BATCH)
    data = tf.data.Dataset.from_tensor_slices((pictures.images, pictures.labels))
    data = data.shuffle(len(pictures.images), seed=0).repeat().batch(share)
    return data.shard(context.num_input_pipelines, context.input_pipeline_id)


def main() -> None:
    """Trains for some steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--unsynchronized", action="store_true")
    args = parser.parse_args()
    keras.config.set_floatx(args.dtype)
    keras.utils.set_random_seed(0)  # every worker starts from the same weights

    # Before anything else of TensorFlow's: it waits here for the other workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    train, test = digit_pictures.load(4096)
    data = iter(strategy.distribute_datasets_from_function(lambda c: batches(c, train)))

    with strategy.scope():
        model = build(synchronized=not args.unsynchronized)
        optimizer = keras.optimizers.Adam(3e-3)
        optimizer.build(model.trainable_variables)  # its variables too belong to the strategy
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def replica_step(images, labels):
        with tf.GradientTape() as tape:
            # The sum over the share, divided by the *global* batch: shares add up to the mean.
            loss = loss_of(labels, model(images, training=True)) / GLOBAL_BATCH
        gradients = tape.gradient(loss, model.trainable_variables)
        # Sums the gradients over the workers. Reduce them nowhere else, or they count twice.
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def step(images, labels):
        losses = strategy.run(replica_step, args=(images, labels))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    losses = [float(step(*next(data))) for _ in range(args.steps)]
    logits = model(test.images, training=False).numpy()
    accuracy = (logits.argmax(axis=1) == test.labels).mean()
    workers = strategy.num_replicas_in_sync
    print(f"{workers} worker(s): last loss {losses[-1]:.4f}, accuracy {accuracy:.1%}", flush=True)
    if strategy.cluster_resolver.task_id in (None, 0):
        weights = {weight.path: weight.numpy() for weight in model.weights}
        np.savez(args.out, losses=losses, accuracy=accuracy, **weights)


if __name__ == "__main__":
    main()
