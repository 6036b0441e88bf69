"""Two models, or a model and a recording, side by side: outputs, and the attention inside.

Imports NumPy; TensorFlow and Keras only for a Keras model.
"""

from converters.verify.compare import Verification, verify

__all__ = ["Verification", "verify"]
