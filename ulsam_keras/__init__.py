"""Subspace attention (ULSAM) for Keras 3.

Imports Keras; of this package only what needs nothing more than Keras and NumPy.
"""

from ulsam_keras.back_end import explain

try:
    import keras  # noqa: F401
except ImportError as error:
    explain(error)
    raise

from ulsam_keras import networks
from ulsam_keras.ablation import Ablation, ablate
from ulsam_keras.attention import attention_maps, with_attention
from ulsam_keras.candidates import Site, sites
from ulsam_keras.layer import ULSAM, SubSpace
from ulsam_keras.plotting import plot_attention
from ulsam_keras.surgery import add_ulsam

__all__ = [
    "ULSAM",
    "Ablation",
    "Site",
    "SubSpace",
    "ablate",
    "add_ulsam",
    "attention_maps",
    "networks",
    "plot_attention",
    "sites",
    "with_attention",
]
