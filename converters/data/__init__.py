"""Data that models are given: `.npz` files, images, samples in memory, and what they look like.

Imports NumPy and `checkpoint`; Keras and TensorFlow inside the function that reads images.
"""
