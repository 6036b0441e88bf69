"""Subspace attention (ULSAM) for Keras 3."""

from ulsam_keras.layer import ULSAM, SubSpace

__all__ = ["ULSAM", "SubSpace"]
