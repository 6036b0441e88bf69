"""A PyTorch program into a Keras model."""
