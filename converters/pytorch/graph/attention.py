"""Products of matrices that both depend on the input, and what is made of them.

PyTorch: Keras

- matmul, bmm, mm, addmm, baddbmm, addmv, addr: `keras.ops.matmul`; `Dense` where the second is a
  weight
- outer, inner, tensordot, multi_dot, vecdot, cross, kron, bilinear, cdist: products, and sums
- scaled_dot_product_attention: product, scale, mask, softmax, product; keys that heads share are
  repeated
- einsum of two: a product of matrices, where letters are shared, summed or apart
- einsum of one: a permutation and a sum
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from converters.pytorch.graph.call import Call
from converters.pytorch.graph.elementwise import added
from converters.pytorch.graph.layout import (
    Atom,
    Group,
    Value,
    constant,
    flat,
    permuted,
    repeated,
    reshaped,
    squeezed,
    unsqueezed,
)
from converters.pytorch.graph.reduction import length
from converters.pytorch.graph.registry import converts
from converters.pytorch.graph.slicing import taken

_LEAST = float(np.finfo(np.float32).min)


def multiplied(call: Call, a: Value, b: Value) -> Value:
    """`a @ b` over the last two dimensions, the others broadcast."""
    vector_a, vector_b = a.rank == 1, b.rank == 1
    a = unsqueezed(a, 0) if vector_a else a
    b = unsqueezed(b, 1) if vector_b else b
    rank = max(a.rank, b.rank)
    # (…, m, k, 1) and (…, 1, k, n) share their atoms where they are to.
    left = unsqueezed(a, -1)
    right = unsqueezed(b, b.rank - 2)
    (left, right), dims = call.arranger.unified([left, right])
    lead = dims[: rank - 2]
    m, k, n = dims[rank - 2], dims[rank - 1], dims[rank]
    call.arranger.own_to_a_sample(k)
    left = replace(left, dims=left.dims[:-1])
    right = replace(right, dims=(*right.dims[: rank - 2], *right.dims[rank - 1 :]))
    if not lead or not any(right.dims[: rank - 2]) and call.arranger.fixed(right):
        # One matrix for all: every dimension but the last is a row.
        left = call.last(left, -1)
        matrix = call.ordered(squeezed(right, range(rank - 2)))
        tensor = call.ops.matmul(left.tensor, matrix.tensor)
        axes = (*left.axes[:-1], n)
    else:
        joined = _batch_axes(left, right, lead)
        left_axes = tuple(tuple(x for x in g if x in flat(left.axes)) for g in joined)
        right_axes = tuple(tuple(x for x in g if x in flat(right.axes)) for g in joined)
        left = call.arranger.arranged(left, (*left_axes, m, k))
        right = call.arranger.arranged(right, (*right_axes, k, n))
        tensor = call.ops.matmul(left.tensor, right.tensor)
        axes = (*joined, m, n)
    result = Value(tensor, axes, (*lead, m, n), dtype=call.meta.dtype)
    if vector_a:
        result = squeezed(result, [result.rank - 2])
    return squeezed(result, [result.rank - 1]) if vector_b else result


def _batch_axes(left: Value, right: Value, lead: tuple[Any, ...]) -> tuple[Any, ...]:
    """The axes that matrices are counted by, joined where there are more than two."""
    held = (set(flat(left.axes)), set(flat(right.axes)))

    def kind(atom: Atom) -> tuple[bool, ...]:
        return tuple(atom in h for h in held)

    # A dimension of which one side has only part, as of heads that share keys, is cut.
    groups = [tuple(run) for group in lead for in_any, run in groupby(group, kind) if any(in_any)]
    at = 0
    while len(groups) > 2 and at + 1 < len(groups):
        if kind(groups[at][0]) == kind(groups[at + 1][0]):
            groups[at : at + 2] = [groups[at] + groups[at + 1]]
        else:
            at += 1
    return tuple(groups)


@converts("aten.matmul", "aten.linalg_matmul", "aten.bmm", "aten.mm", "aten.mv", "aten.dot")
def matmul(call: Call) -> Value:
    """`self @ other`."""
    from converters.pytorch.graph.convolution import dense

    names = list(call.node.arguments)[:2]
    a, weight = call.value(names[0]), call.weight(names[1])
    if weight.constant and weight.rank == 2 and a.rank >= 2 and not a.constant and weight.keys:
        return dense(call, a, names[1], "", turned=True)
    return multiplied(call, a, call.value(names[1]))


@converts("aten.addmm")
def addmm(call: Call) -> Value:
    """A linear layer as older programs have it, or any product added to."""
    from converters.pytorch.graph.convolution import dense

    linear = call.get("beta", 1) == call.get("alpha", 1) == 1
    weight, bias = call.weight("mat2"), call.weight("self")
    if linear and weight.constant and bias.constant and bias.rank == 1:
        return dense(call, call.value("mat1"), "mat2", "self", turned=True)
    return product_added(call)


@converts("aten.baddbmm", "aten.addbmm", "aten.addmv", "aten.addr")
def product_added(call: Call) -> Value:
    """`beta * self + alpha * a @ b`."""
    if "addbmm" in call.node.target and "baddbmm" not in call.node.target:
        call.refuse("it sums over the batch")
    factors = [name for name in call.node.arguments if name not in ("self", "beta", "alpha")]
    a, b = map(call.value, factors)
    if "addr" in call.node.target:
        product = call.elementwise(call.ops.multiply, unsqueezed(a, 1), b)
    else:
        product = multiplied(call, a, b)
    alpha, beta = call.get("alpha", 1), call.get("beta", 1)
    product = product if alpha == 1 else product.with_tensor(product.tensor * float(alpha))
    if beta == 0:
        return product
    other = call.value("self")
    other = other if beta == 1 else other.with_tensor(other.tensor * float(beta))
    return added(call, other, product)


@converts(
    "aten.scaled_dot_product_attention", "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_attention_math", "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_flash_attention",
)  # fmt: skip
def attention(call: Call) -> list[Value]:
    """`softmax(query @ key.T * scale + mask) @ value`."""
    import keras

    query, key, value = (call.value(name) for name in ("query", "key", "value"))
    if call.get("dropout_p", 0.0):
        call.refuse("it drops out; call .eval() on the module before the export")
    scale = call.get("scale") or 1 / math.sqrt(query.shape[-1])
    if call.get("enable_gqa", False):
        key, value = (repeated(v, -3, query.shape[-3] // v.shape[-3]) for v in (key, value))
    query = query.with_tensor(query.tensor * float(scale))
    last = key.rank - 1
    scores = multiplied(call, query, permuted(key, [*range(last - 1), last, last - 1]))
    mask = call.optional("attn_mask") or call.optional("attn_bias")
    if call.get("is_causal", False):
        rows, columns = query.shape[-2], key.shape[-2]
        mask = constant(np.tril(np.ones((rows, columns), bool)))
    kept = mask if mask is not None and mask.dtype == "bool" else None
    if mask is not None:
        if kept is not None:
            shift = call.ops.where(kept.tensor, np.float32(0), np.float32(_LEAST))
            mask = kept.with_tensor(shift, dtype="float32")
        elif mask.constant:
            kept = mask.with_tensor(mask.tensor > -np.inf, dtype="bool")
            mask = mask.with_tensor(np.maximum(mask.tensor, _LEAST).astype("float32"))
        scores = added(call, scores, mask)
    scores, axis = call.isolated(scores, -1)
    axis = -1 if axis == len(scores.axes) - 1 else axis
    weights = scores.with_tensor(call.layer(keras.layers.Softmax, scores.tensor, axis=axis))
    if kept is not None and not _leaves_some(call, kept):
        # What attends to nothing gets zeros, as in PyTorch since 2.5; before, NaN.
        ones = call.ops.where(kept.tensor, np.float32(1), np.float32(0))
        kept = kept.with_tensor(ones, dtype="float32")
        weights = call.elementwise(call.ops.multiply, weights, kept)
    return [multiplied(call, weights, value)]


def _leaves_some(call: Call, mask: Value) -> bool:
    """Whether a mask is known to leave every query a key."""
    if not mask.constant:
        return False
    mask, axis = call.isolated(mask, -1)
    return bool(mask.tensor.any(axis).all())


@converts("aten.tensordot")
def tensordot(call: Call) -> Value:
    """A sum over pairs of dimensions."""
    a, b = call.value("self"), call.value("other")
    in_a = [chr(ord("a") + d) for d in range(a.rank)]
    in_b = [chr(ord("A") + d) for d in range(b.rank)]
    for d, e in zip(call.get("dims_self"), call.get("dims_other"), strict=True):
        in_b[b.dim(e)] = in_a[a.dim(d)]
    kept = [c for c in (*in_a, *in_b) if (c in in_a) != (c in in_b)]
    x, letters = _product(call, a, "".join(in_a), b, "".join(in_b), "".join(kept))
    return permuted(x, [letters.index(c) for c in kept])


@converts("aten.inner")
def inner(call: Call) -> Value:
    """A sum over the last dimension of both."""
    a, b = call.value("self"), call.value("other")
    if b.rank == 1:
        return multiplied(call, a, b)
    if b.rank > 2:
        call.refuse("the second has more than two dimensions")
    return multiplied(call, a, permuted(b, (1, 0)))


@converts("aten.outer", "aten.ger")
def outer(call: Call) -> Value:
    """Every product of two vectors."""
    a, b = call.value("self"), call.value("vec2")
    return call.elementwise(call.ops.multiply, unsqueezed(a, 1), b)


@converts("aten.kron")
def kron(call: Call) -> Value:
    """Every element of one times the whole of the other."""
    a, b = call.value("self"), call.value("other")
    rank = max(a.rank, b.rank)
    a, b = (replace(v, dims=((),) * (rank - v.rank) + v.dims) for v in (a, b))
    apart = [
        replace(
            v, dims=tuple(g for group in v.dims for g in ((group, ()) if first else ((), group)))
        )
        for v, first in ((a, True), (b, False))
    ]
    product = call.elementwise(call.ops.multiply, *apart)
    pairs = zip(product.dims[::2], product.dims[1::2], strict=True)
    return replace(product, dims=tuple((*outer, *within) for outer, within in pairs))


@converts("aten.linalg_multi_dot", "aten.chain_matmul")
def multi_dot(call: Call) -> Value:
    """Several matrices, one after the other."""
    first, *rest = call.values(next(iter(call.node.arguments)))
    for matrix in rest:
        first = multiplied(call, first, matrix)
    return first


@converts("aten.linalg_vecdot", "aten.vdot")
def vecdot(call: Call) -> Value:
    """Products of two vectors, summed."""
    names = list(call.node.arguments)[:2]
    product = call.elementwise(call.ops.multiply, *map(call.value, names))
    return call.summed(product, [call.get("dim", -1)])


@converts("aten.cross", "aten.linalg_cross")
def cross(call: Call) -> Value:
    """The cross product of vectors of three."""
    a, b = call.value("self"), call.value("other")
    # cross takes the first dimension of three, linalg_cross the last of all.
    first = a.shape.index(3) if call.node.target.startswith("aten.cross") else -1
    dim = a.dim(call.get("dim", first))

    def turned(x: Value, by: int) -> Value:
        return taken(call, x, dim, constant((np.arange(3) + by) % 3))

    ops = call.ops
    return call.elementwise(
        lambda p, q, r, s: ops.subtract(ops.multiply(p, q), ops.multiply(r, s)),
        *(turned(a, 1), turned(b, 2), turned(a, 2), turned(b, 1)),
    )


@converts("aten.bilinear")
def bilinear(call: Call) -> Value:
    """Products of every two of the last dimensions of two values, weighted."""
    a, b, weight = call.value("input1"), call.value("input2"), call.value("weight")
    units, rows, columns = weight.shape
    # (…, i) by (i, out j) gives (…, out, j), summed with (…, 1, j).
    matrix = permuted(weight, (1, 0, 2))
    joined = replace(matrix, dims=(matrix.dims[0], (*matrix.dims[1], *matrix.dims[2])))
    product = multiplied(call, a, joined)
    apart = reshaped(product, (*a.shape[:-1], units, columns), [None] * (a.rank + 1), call.batch)
    assert apart is not None
    both = call.elementwise(call.ops.multiply, apart, unsqueezed(b, b.rank - 1))
    total = call.summed(both, [a.rank])
    bias = call.optional("bias")
    return total if bias is None else added(call, total, bias)


@converts("aten._trilinear")
def trilinear(call: Call) -> Value:
    """A product of three values over dimensions that each has some of, summed over others."""
    factors = []
    for number in "123":
        value = call.value(f"i{number}")
        for dim in sorted(call.get(f"expand{number}")):
            value = unsqueezed(value, dim)
        factors.append(value)
    ops = call.ops
    product = call.elementwise(lambda a, b, c: ops.multiply(ops.multiply(a, b), c), *factors)
    return call.summed(product, call.get("sumdim"))


@converts("aten.cdist", "aten._cdist_forward")
def cdist(call: Call) -> Value:
    """How far every two rows are from each other."""
    a, b = call.value("x1"), call.value("x2")
    ahead, behind = unsqueezed(a, a.rank - 1), unsqueezed(b, b.rank - 2)
    apart = call.elementwise(call.ops.subtract, ahead, behind)
    return squeezed(call.reduced(apart, [-1], length(call, float(call.get("p", 2.0)))), [-1])


@converts("aten.einsum")
def einsum(call: Call) -> Value:
    """A sum over letters."""
    equation = call.get("equation").replace(" ", "")
    operands = call.values("tensors")
    inputs, _, output = equation.partition("->")
    terms = inputs.split(",")
    if "->" not in equation:
        letters = "".join(terms).replace(".", "")
        output = "..." * ("." in equation)
        output += "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if "." in equation:
        terms, output = _spelled_out(terms, output, operands)
    if any(len(set(term)) < len(term) for term in terms):
        call.refuse(f"the diagonal of a tensor, {equation!r}")
    current, letters = operands[0], terms[0]
    for number, (operand, term) in enumerate(zip(operands[1:], terms[1:], strict=True), 1):
        later = output + "".join(terms[number + 1 :])
        current, letters = _product(call, current, letters, operand, term, later)
    current, letters = _summed(call, current, letters, output)
    return permuted(current, [letters.index(c) for c in output])


def _spelled_out(
    terms: Sequence[str], output: str, operands: Sequence[Value]
) -> tuple[list[str], str]:
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in "".join(terms)]
    counts = [v.rank - len(t.replace("...", "")) for t, v in zip(terms, operands, strict=True)]
    most = max(counts)
    names = [
        t.replace("...", "".join(spare[most - count : most]))
        for t, count in zip(terms, counts, strict=True)
    ]
    return names, output.replace("...", "".join(spare[:most]))


def _summed(call: Call, x: Value, letters: str, wanted: str) -> tuple[Value, str]:
    gone = [d for d, c in enumerate(letters) if c not in wanted]
    if not gone:
        return x, letters
    return call.summed(x, gone), "".join(c for c in letters if c in wanted)


def _product(call: Call, a: Value, in_a: str, b: Value, in_b: str, later: str) -> tuple[Value, str]:
    """Two operands as matrices: letters of both that stay, of one, and those summed over."""
    a, in_a = _summed(call, a, in_a, in_b + later)
    b, in_b = _summed(call, b, in_b, in_a + later)
    both = [c for c in in_a if c in in_b and c in later]
    summed = [c for c in in_a if c in in_b and c not in later]
    only_a = [c for c in in_a if c not in in_b]
    only_b = [c for c in in_b if c not in in_a]
    if not summed:
        # Nothing is summed: each is broadcast over the letters of the other.
        letters = [*both, *only_a, *only_b]
        x, y = (
            replace(v, dims=tuple(v.dims[own.index(c)] if c in own else () for c in letters))
            for v, own in ((a, in_a), (b, in_b))
        )
        return call.elementwise(call.ops.multiply, x, y), "".join(letters)
    order = [*both, *summed, *only_a, *only_b]
    (x, y), _ = call.arranger.unified(
        [
            replace(v, dims=tuple(v.dims[own.index(c)] if c in own else () for c in order))
            for v, own in ((a, in_a), (b, in_b))
        ]
    )

    def matrix(v: Value, *sides: Sequence[str]) -> Value:
        dims = dict(zip(order, v.dims, strict=True))
        joined = tuple(tuple(x for c in side for x in dims[c]) for side in sides)
        return replace(v, dims=(*(dims[c] for c in both), *joined))

    left, right = matrix(x, only_a, summed), matrix(y, summed, only_b)
    product = multiplied(call, left, right)
    rows, columns = product.dims[-2:]
    dims = [*product.dims[: len(both)]]
    dims += _apart(rows, [x.dims[order.index(c)] for c in only_a])
    dims += _apart(columns, [y.dims[order.index(c)] for c in only_b])
    return replace(product, dims=tuple(dims)), "".join([*both, *only_a, *only_b])


def _apart(group: Group, like: Sequence[Group]) -> list[Group]:
    """A joined dimension taken apart again, into as many atoms each as before."""
    parts, start = [], 0
    for part in like:
        parts.append(group[start : start + len(part)])
        start += len(part)
    return parts
