"""Which of a checkpoint's dicts is the model's state dict, and what its keys are called.

Imports nothing outside this package.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from converters.checkpoint import folding, leftovers
from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    Tree,
    UnsupportedTensor,
    alike,
    listing,
    refused,
    shown,
)
from converters.checkpoint.modules import state_dict
from converters.checkpoint.unpickler import INERT, Object

# Names under which training scripts keep the model, in the order of preference.
_MODEL_NAMES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "params",
    "weights",
)
_TOP = "."  # what `entry` calls the state dict at the top of the file
_DATA_PARALLEL = "module"
# Modules that wrap another one anywhere in a network, a name that no user gives: torch.compile,
# fully sharded data parallelism, activation checkpoints.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# torch.optim.swa_utils.AveragedModel keeps its counter beside the model under `module.`.
_AVERAGING_COUNTER = "n_averaged"
# Wrappers nest (checkpoint -> ema -> shadow); deeper than this no state dict was ever met.
_DEPTH = 5
_MOST_NAMES = 30  # of classes that were passed over, in a warning

_Path = tuple[str, ...]
_Tensors = dict[str, LazyTensor | UnsupportedTensor]


@dataclass(frozen=True)
class _Candidate:
    """A dict or a module that has tensors: its tensors by key, and itself."""

    tensors: _Tensors
    node: Any


def select(tree: Tree, entry: str | None) -> tuple[dict[str, LazyTensor], list[str]]:
    """Choose one state dict, strip wrappers' prefixes from its keys and fold what belongs together.

    Args:
        tree: Content of the checkpoint.
        entry: Name or dotted path of a state dict; the model's when None.

    Returns:
        The tensors by key, in the order of the file; and what is to be known of the rest, as
        predicates of the file.

    Raises:
        ContentError: No tensors, no such entry, no entry that is known to be the model's, something
            else where a tensor belongs, or keys that become equal without their prefixes.
    """
    notes = list(tree.notes)
    if isinstance(tree.root, LazyTensor | UnsupportedTensor):
        raise ContentError(
            "expected a state dict; save a dict of named tensors. Received: a single tensor"
        )
    found = _find(tree)
    if not found:
        problem = f"no tensors under text keys in {_describe(tree.root)}"
        if tree.unknown:
            raise refused(tree.unknown, problem)
        raise ContentError(
            "holds no tensors under text keys; save model.state_dict(). "
            f"Received: {_describe(tree.root)}"
        )
    path, others = _choose(found, entry)
    chosen = found[path]
    if others and entry is None:
        notes.append(
            f"holds several state dicts: took the model's, {_listing([path], found)}; "
            f"`entry` takes another: {_listing(others, found)}"
        )
    if isinstance(chosen.node, Object):
        notes.append(
            f"holds a whole module, {shown(str(chosen.node.origin))}: its weights were read; "
            "what it computes is in its code and not in this file. Where the code is, "
            "converters.export_program(model, inputs, 'net.pt2') writes both"
        )
    _refuse_others(chosen)
    counter = chosen.tensors.get(_AVERAGING_COUNTER)
    stripped, dropped = _strip(chosen.tensors)
    tensors, folded = folding.fold(stripped, tree.room)
    notes += folded
    handed = [t for t in chosen.tensors.values() if not (dropped and t is counter)]
    told = [found[other].node for other in others]
    if rest := leftovers.describe(tree, chosen.node, handed, told):
        notes.append(f"has tensors that were left: {rest}")
    if numbers := _numbers(chosen.node):
        notes.append(
            "has numbers under keys of weights, which are no tensors and were left: "
            f"{listing(numbers, _MOST_NAMES)}"
        )
    if tree.unknown:
        notes.append(
            "names what no state dict needs, which was passed over and not executed: "
            f"{listing(tree.unknown, _MOST_NAMES)}"
        )
    return tensors, notes


def _refuse_others(chosen: _Candidate) -> None:
    """Raise for what is no tensor, or no array's, where a tensor belongs."""
    for key, tensor in chosen.tensors.items():
        if isinstance(tensor, UnsupportedTensor):
            raise ContentError(
                f"no NumPy array can hold {tensor.kind}; {tensor.advice}. Received: {shown(key)}"
            )
    if not isinstance(chosen.node, dict):
        return
    for key, value in chosen.node.items():
        # A key with a dot is that of a parameter. get_extra_state() may return anything.
        is_parameter = type(key) is str and "." in key and not key.endswith(leftovers.EXTRA_STATE)
        if is_parameter and isinstance(value, Object):
            raise refused([shown(str(value.origin))], f"at {shown(key)}, a weight's key")


def _numbers(node: Any) -> list[str]:
    """Keys like those of parameters with bare numbers, of Python or NumPy, instead of tensors."""
    if not isinstance(node, dict):
        return []
    found = [
        alike(key)
        for key, value in node.items()
        if type(key) is str and "." in key and not key.endswith(leftovers.EXTRA_STATE)
        if isinstance(value, int | float) or value is INERT
    ]
    return [shown(key) for key in dict.fromkeys(found)]


def _find(tree: Tree) -> dict[_Path, _Candidate]:
    """Collect the dicts and whole modules that have tensors."""
    found: dict[_Path, _Candidate] = {}
    # A pickle may refer to one dict many times, and to itself: each is entered once.
    known: dict[int, _Candidate] = {}

    def visit(node: Any, path: _Path) -> bool:
        """Say whether there is a model's state dict here or below."""
        is_module = isinstance(node, Object) and node.state is not None
        if not (is_module or isinstance(node, dict)) or len(path) > _DEPTH:
            return False
        if id(node) in known:
            candidate, below = known[id(node)], False
        else:
            candidate = known[id(node)] = _Candidate({}, node)
            if is_module:
                candidate.tensors.update(state_dict(node, tree.room))
                below = False
            elif path and "param_groups" in node:  # an optimizer's state
                return False
            else:
                inner = [(k, v) for k, v in node.items() if type(k) is str]
                # A list, for `any` must not stop at the first. An extra state may be anything.
                extra = leftovers.EXTRA_STATE
                below = any([visit(v, (*path, k)) for k, v in inner if not k.endswith(extra)])
                own = {k: v for k, v in inner if isinstance(v, LazyTensor | UnsupportedTensor)}
                if not (below and all(_is_stray(k, v) for k, v in own.items())):
                    candidate.tensors.update(own)
        if candidate.tensors:
            found[path] = candidate
        return below or (bool(candidate.tensors) and not leftovers.is_bookkeeping(path))

    visit(tree.root, ())
    return found


def _is_stray(key: str, tensor: LazyTensor | UnsupportedTensor) -> bool:
    """Say whether a tensor beside a state dict is one of the training script, not a weight."""
    if "." in key:
        return False
    return getattr(tensor, "shape", ()) in ((), (1,)) or leftovers.is_bookkeeping((key,))


def _choose(found: dict[_Path, _Candidate], entry: str | None) -> tuple[_Path, list[_Path]]:
    """Choose a path; the second are those that could be meant as well."""
    if entry is not None:
        matches = [path for path in found if _matches(path, entry)]
        exact = [path for path in matches if entry == (".".join(path) or _TOP)]
        if len(matches) == 1 or exact:
            path = (exact or matches)[0]
            return path, [p for p in found if p != path and not leftovers.is_bookkeeping(p)]
        if found.keys() == {()}:
            raise ContentError(
                "holds one state dict and no named entries; leave `entry` out. "
                f"Received: entry={shown(entry)}"
            )
        problem = "several entries match" if matches else "no such entry"
        raise ContentError(
            f"{problem}; the entries are {_listing(found, found)}. Received: entry={shown(entry)}"
        )
    candidates = [path for path in found if not leftovers.is_bookkeeping(path)] or list(found)
    top = min(candidates, key=len)
    below = [path for path in candidates if path[: len(top)] == top and path != top]
    chosen: _Path | None
    if len(candidates) == 1:
        chosen = top
    elif len(below) < len(candidates) - 1:
        chosen = _model_path(candidates)
    else:  # one level has tensors and the others are in it
        named = _model_path(below)
        if _is_dotted(found[top]) or not any(_is_dotted(found[path]) for path in below):
            chosen = named if named and not _is_dotted(found[top]) else top
        else:
            chosen = below[0] if len(below) == 1 else named
    if chosen is None:
        raise ContentError(
            "holds several state dicts and none has a name known to be the model's; choose one "
            f"with `entry`. Received: {_listing(candidates, found)}"
        )
    return chosen, [path for path in candidates if path != chosen]


def _is_dotted(candidate: _Candidate) -> bool:
    """Say whether these are the parameters of modules in a module."""
    return any("." in key for key in candidate.tensors)


def _model_path(paths: list[_Path]) -> _Path | None:
    """Find the one path that leads through names of models, below what all paths share."""
    shared = len(os.path.commonprefix(paths))
    for name in _MODEL_NAMES:
        below = [path for path in paths if path[shared : shared + 1] == (name,)]
        if len(below) == 1:
            return below[0]
        if below:
            return _model_path(below)
    return None


def _listing(paths: Iterable[_Path], found: Iterable[_Path]) -> str:
    """Name state dicts as `entry` takes them: by the top key, or by the path if that is shared."""
    tops = Counter(path[:1] for path in found)
    names = [".".join(path[:1] if tops[path[:1]] == 1 else path) or _TOP for path in paths]
    return listing([shown(name) for name in names], _MOST_NAMES)


def _matches(path: _Path, entry: str) -> bool:
    dotted = ".".join(path) or _TOP
    return dotted == entry or dotted.startswith(f"{entry}.")


def _strip(tensors: _Tensors) -> tuple[dict[str, LazyTensor], bool]:
    """Drop wrappers anywhere, and leading ``module.`` as often as every key carries it.

    A ``module`` that only some keys carry, or that stands further inside, is the model's own. The
    second is whether the counter of an averaged model was left.
    """
    parts = {key: [part for part in key.split(".") if part not in _WRAPPERS] for key in tensors}
    while True:
        wrapped = [p for key, p in parts.items() if key != _AVERAGING_COUNTER]
        if not wrapped or not all(len(p) > 1 and p[0] == _DATA_PARALLEL for p in wrapped):
            break
        parts = {key: p[1:] for key, p in parts.items() if key != _AVERAGING_COUNTER}
    stripped: dict[str, LazyTensor] = {}
    for key, p in parts.items():
        name = ".".join(p)
        if name in stripped:
            raise ContentError(
                "two keys are the same without the names of wrappers "
                f"({', '.join(sorted(_WRAPPERS))}); rename one. "
                f"Received: {shown(key)} and another {shown(name)}"
            )
        tensor = tensors[key]
        assert isinstance(tensor, LazyTensor)  # the others were refused
        stripped[name] = tensor
    return stripped, len(parts) < len(tensors)


def _describe(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"a dict with keys {shown(list(tree)[:5])}" if tree else "an empty dict"
    if isinstance(tree, Object):
        return f"an object of {shown(str(tree.origin))}"
    return f"a {type(tree).__name__}"
