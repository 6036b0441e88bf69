"""Which of a checkpoint's dicts is the model's state dict, and what its keys are called.

Imports nothing outside this package.
"""

import os
import warnings
from collections.abc import Iterable
from typing import Any

from converters.checkpoint.content import ContentError, LazyTensor, UnsupportedTensor, shown
from converters.checkpoint.modules import state_dict
from converters.checkpoint.unpickler import Global, Refused

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
# Words that begin the names of bookkeeping; what is below is taken only if `entry` asks for it.
_BOOKKEEPING = (
    *("optim", "sched", "scaler", "rng", "random", "metric", "loss", "meter", "callback"),
    *("config", "cfg", "args", "hparams", "hyper", "history"),
)
_DATA_PARALLEL, _COMPILED = "module", "_orig_mod"
# torch.optim.swa_utils.AveragedModel keeps its counter beside the model under `module.`.
_AVERAGING_COUNTER = "n_averaged"
# Wrappers nest (checkpoint -> ema -> shadow); deeper than this no state dict was ever met.
_DEPTH = 5

_Path = tuple[str, ...]


def select(tree: Any, entry: str | None, *, source: str) -> dict[str, LazyTensor]:
    """Choose one state dict and strip the wrappers' prefixes from its keys.

    Args:
        tree: Content of the checkpoint: nested dicts with text keys, or whole modules.
        entry: Name or dotted path of a state dict; the model's when None.
        source: The file's name, for the warning.

    Returns:
        The tensors by key, in the order of the file.

    Raises:
        ContentError: No tensors, no such entry, no entry that is known to be the model's, a kind of
            tensor without an array, or keys that become equal without their prefixes.
    """
    if isinstance(tree, LazyTensor | UnsupportedTensor):
        raise ContentError(
            "expected a state dict; save a dict of named tensors. Received: a single tensor"
        )
    found, modules = _find(tree)
    if not found:
        raise ContentError(
            "holds no tensors under text keys; save model.state_dict(). "
            f"Received: {_describe(tree)}"
        )
    path = _choose(found, entry, source)
    tensors = found[path]
    if path in modules:
        warnings.warn(
            f"{source!r} holds a whole module, {shown(str(modules[path]))}: its weights were read; "
            "what it computes is in its code and not in this file. Where the code is, "
            "converters.export_program(model, inputs, 'net.pt2') writes both",
            stacklevel=5,  # the caller of load_checkpoint, past two context managers
        )
    for key, tensor in tensors.items():
        if isinstance(tensor, UnsupportedTensor):
            raise ContentError(
                f"no NumPy array can hold {tensor.kind}; {tensor.advice}. Received: {shown(key)}"
            )
    return _strip(tensors)


def _find(tree: Any) -> tuple[dict[_Path, dict[str, Any]], dict[_Path, Global]]:
    """Collect the state dicts: dicts with tensors and without further state dicts below.

    Whole modules give one, too; which these are is the second thing that is returned.
    """
    found: dict[_Path, dict[str, Any]] = {}
    modules: dict[_Path, Global] = {}
    # A pickle may refer to one dict many times, and to itself: wrappers are entered once.
    entered: set[int] = set()
    known: dict[int, dict[str, Any]] = {}

    def visit(node: Any, path: _Path) -> bool:
        is_module = isinstance(node, Refused) and node.state is not None
        if not (is_module or isinstance(node, dict)) or len(path) > _DEPTH:
            return False
        if is_module:
            modules[path] = node.origin
        if id(node) in known:
            found[path] = known[id(node)]
            return not _is_bookkeeping(path)
        if id(node) in entered:
            return False
        entered.add(id(node))
        if is_module:
            found[path] = known[id(node)] = state_dict(node)
            return not _is_bookkeeping(path)
        if path and "param_groups" in node:  # an optimizer's state
            return False
        # A list, for `any` must not stop at the first. get_extra_state() may return anything.
        below = [visit(v, (*path, k)) for k, v in node.items() if not k.endswith("_extra_state")]
        if any(below):
            return True
        tensors = {k: v for k, v in node.items() if isinstance(v, LazyTensor | UnsupportedTensor)}
        if tensors:
            found[path] = known[id(node)] = tensors
        return bool(tensors) and not _is_bookkeeping(path)

    visit(tree, ())
    return {path: tensors for path, tensors in found.items() if tensors}, modules


def _is_bookkeeping(path: _Path) -> bool:
    return any(word.startswith(_BOOKKEEPING) for name in path for word in name.lower().split("_"))


def _choose(found: dict[_Path, dict[str, Any]], entry: str | None, source: str) -> _Path:
    if entry is not None:
        matches = [path for path in found if _matches(path, entry)]
        if len(matches) == 1:
            return matches[0]
        if found.keys() == {()}:
            raise ContentError(
                "holds one state dict and no named entries; leave `entry` out. "
                f"Received: entry={shown(entry)}"
            )
        problem = "several entries match" if matches else "no such entry"
        raise ContentError(
            f"{problem}; the entries are {_listing(found, found)}. Received: entry={shown(entry)}"
        )
    candidates = [path for path in found if not _is_bookkeeping(path)] or list(found)
    if len(candidates) == 1:
        return candidates[0]
    chosen = _model_path(candidates)
    if chosen is None:
        raise ContentError(
            "holds several state dicts and none has a name known to be the model's; choose one "
            f"with `entry`. Received: {_listing(candidates, found)}"
        )
    others = _listing([path for path in candidates if path != chosen], found)
    warnings.warn(
        f"{source!r} holds several state dicts: took the model's, {_listing([chosen], found)}; "
        f"`entry` takes another: {others}",
        stacklevel=6,  # the caller of load_checkpoint, past two context managers
    )
    return chosen


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
    tops = [path[:1] for path in found]
    return ", ".join(
        shown(".".join(path[:1] if tops.count(path[:1]) == 1 else path)) for path in paths
    )


def _matches(path: _Path, entry: str) -> bool:
    dotted = ".".join(path)
    return dotted == entry or dotted.startswith(f"{entry}.")


def _strip(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Drop ``_orig_mod.`` anywhere, and leading ``module.`` as often as every key carries it.

    torch.compile is applied to parts of models too, and no user names a module ``_orig_mod``. A
    ``module`` that only some keys carry, or that stands further inside, is the model's own.
    """
    parts = {key: [part for part in key.split(".") if part != _COMPILED] for key in tensors}
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
                f"two keys are the same without the prefix `_orig_mod.`; rename one. "
                f"Received: {shown(key)} and another {shown(name)}"
            )
        stripped[name] = tensors[key]
    return stripped


def _describe(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"a dict with keys {shown(list(tree)[:5])}" if tree else "an empty dict"
    return f"a {type(tree).__name__}"
