"""Starts TensorFlow without its start-up chatter on the user's terminal."""

from converters.tflite.quiet import without_native_logs


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices, holding back what it logs of that."""
    with without_native_logs():
        import tensorflow as tf

        tf.config.list_logical_devices()
