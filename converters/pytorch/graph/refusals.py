"""Operators that have no counterpart, and what to do instead.

Imports the standard library.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Operators that cannot be converted.

    Attributes:
        what: What they are.
        names: Their names, as a regular expression.
        why: Why there is nothing that they could become.
        instead: What to do.
    """

    what: str
    names: str
    why: str
    instead: str


_CUT = "export the part of the network before it, a module that returns what that node is given"
REFUSALS = (
    Refusal(
        "Fourier transforms, complex numbers",
        r"aten\.(_?fft_\w+|i?stft|complex|imag|polar|view_as_(complex|real)|angle|_?conj\w*)",
        "LiteRT and its GPU delegate have no complex numbers",
        "transform before the network, or multiply by matrices of cosines and sines",
    ),
    Refusal(
        "decoding of detections: nms, nonzero, argwhere",
        r"torchvision\.(batched_)?nms|aten\.(nonzero\w*|argwhere)",
        "it chooses among detections, which stays outside of the model",
        _CUT,
    ),
    Refusal(
        "masked_select, unique, bincount, histc, mode",
        r"aten\.(masked_select|masked_scatter|_?unique\w*|bincount|hist\w+|mode)",
        "how much it gives depends on the input",
        "multiply by the mask, or take the top k",
    ),
    Refusal(
        "inverses and decompositions of matrices",
        r"aten\._?(linalg_)?(svd|inv|inv_ex|inverse|pinv|pinverse|eig\w*|det|slogdet|logdet|qr|lu\w*"
        r"|solve\w*|lstsq|cholesky\w*|matrix_exp|matrix_power|matrix_rank|tensor(inv|solve)|ldl\w*"
        r"|svdvals|cond|householder_product|triangular_solve|geqrf|ormqr|orgqr)|aten\.nuclear_norm",
        "LiteRT decomposes no matrices",
        _CUT,
    ),
    Refusal(
        "roi_align, roi_pool, deform_conv2d of torchvision",
        r"torchvision\.(deform_conv2d|_?ps_roi\w+|_?roi_\w+)",
        "it has no counterpart in LiteRT",
        "write it with torch.nn.functional.grid_sample",
    ),
    Refusal(
        "losses",
        r"aten\.(cross_entropy_loss|nll_loss\w*|mse_loss|l1_loss|smooth_l1_loss|huber_loss|ctc_loss"
        r"|kl_div|binary_cross_entropy\w*|\w+_embedding_loss|\w*margin_loss|poisson_nll_loss)",
        "it is a loss",
        "export a module that returns the predictions",
    ),
    Refusal(
        "quantised programs",
        r"(quantized_decomposed|quantized|torchao)\.\w+|aten\.(fake_)?quantize_\w+|aten\.dequantize",
        "the program is quantised already",
        "export the network of real numbers, and convert it with `precision='int8'`",
    ),
    Refusal(
        "torch.cond, while_loop, scan, map",
        r"higher_order\.\w+",
        "it steers by what is computed",
        "write both sides and choose with torch.where, or a loop of a fixed number of steps",
    ),
    Refusal(
        "max_unpool2d, max_unpool3d, fractional_max_pool",
        r"aten\.(max_unpool[23]d|fractional_max_pool[23]d)",
        "it needs the positions that a pool chose",
        "use torch.nn.functional.interpolate or a transposed convolution",
    ),
    Refusal(
        "random numbers",
        r"aten\.(multinomial|\w*normal\w*|poisson|randint\w*|randperm|binomial|exponential|random"
        r"|uniform|cauchy|geometric)",
        "it is random",
        "give the random numbers as an input, or call .eval() on the module before the export",
    ),
    Refusal(
        "packed sequences",
        r"aten\._?(pack_padded_sequence|pad_packed_sequence)",
        "how long they are depends on the input",
        "export the recurrent layer on padded sequences, and choose with torch.where",
    ),
    Refusal(
        "torch.equal, allclose",
        r"aten\.(equal|allclose|is_nonzero)",
        "it steers by what is computed",
        "compare element by element, and choose with torch.where",
    ),
    Refusal(
        "as_strided, put, resize",
        r"aten\.(as_strided\w*|put|set|resize\w*)",
        "it speaks of memory instead of dimensions",
        "use slices, unfold or reshape",
    ),
)


def refused(target: str) -> str:
    """Why an operator has no counterpart, and what to do; empty where nothing is known of it."""
    name = ".".join(target.split(".")[:2]).removesuffix("_")
    for refusal in REFUSALS:
        if re.fullmatch(refusal.names, name):
            return f"{refusal.why}; {refusal.instead}"
    return ""
