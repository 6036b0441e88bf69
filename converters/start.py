"""Starts TensorFlow without its start-up chatter on the user's terminal."""

from converters.extras import require
from converters.tflite.quiet import without_native_logs


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices, holding back what it logs of that.

    Raises:
        ImportError: If the extra `convert` is not installed.
    """
    require("Running Keras models for a comparison", "tensorflow")
    with without_native_logs():
        import tensorflow as tf

        tf.config.list_logical_devices()
