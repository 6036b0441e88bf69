"""What does not fit between a state dict and a target, told in one line with its likely cause.

Imports the standard library.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.pytorch.matching import common_prefix, did_you_mean
from converters.pytorch.modules import module_of, under
from converters.pytorch.targets import Leaf, Target

Shape = tuple[int, ...]

_AUTOMATIC_NAME = re.compile(
    r"((separable_|depthwise_)?conv[123]d(_transpose)?|dense|embedding|p_re_lu|ulsam|sub_space|"
    r"(batch|layer|group)_normalization)(_\d+)?"
)


@dataclass(frozen=True)
class Missing:
    """A key that a weight asks for and the state dict does not have.

    Attributes:
        key: The key.
        leaf: The layer.
        weight: The weight, as the port report calls it.
        shape: The weight's shape.
    """

    key: str
    leaf: Leaf
    weight: str
    shape: Shape


@dataclass(frozen=True)
class Wrong:
    """A weight whose keys are there and do not fit.

    Attributes:
        text: What there is and what there should be.
        leaf: Label of the layer.
        weight: Name of the weight in the layer; empty if the whole layer is another.
        found: Shape in Keras's layout, of the weight's rank; None where there is none.
        expected: The weight's shape.
    """

    text: str
    leaf: str
    weight: str = ""
    found: Shape | None = None
    expected: Shape = ()


@dataclass
class Mismatch:
    """Everything that does not fit, gathered while the port is planned.

    Attributes:
        missing: Keys that are not there.
        left_over: Keys that no layer takes, with their shapes.
        wrong: Weights of another shape or dtype.
        unreachable: Weights that no table reaches, with the reason.
        not_finite: Keys with NaN or infinite values.
        negative: Keys of variances with values below 0.
        overflows: Keys whose values are too large for the dtype of the weight, which is given too.
        explained: Keys that are not left over, but of something in `wrong`, with the reason.
    """

    missing: list[Missing] = field(default_factory=list)
    left_over: list[tuple[str, Shape]] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)
    unreachable: list[tuple[str, str]] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    negative: list[str] = field(default_factory=list)
    overflows: list[tuple[str, str]] = field(default_factory=list)
    explained: dict[str, str] = field(default_factory=dict)

    def refuse_values(self) -> None:
        """Raise if a value cannot be ported.

        Raises:
            ValueError: Naming the keys.
        """
        if self.not_finite:
            raise ValueError(
                f"The checkpoint has NaN or infinite values in {_count(self.not_finite, 'key')}; "
                "its training diverged or the file is damaged. No weight was changed. "
                f"Received: {few(map(repr, self.not_finite))}"
            )
        if self.negative:
            raise ValueError(
                f"The checkpoint has negative values in {_count(self.negative, 'running variance')}"
                ", of which the square root is taken; the file is damaged or was edited. No weight "
                f"was changed. Received: {few(map(repr, self.negative))}"
            )
        if self.overflows:
            raise ValueError(
                f"The checkpoint has values too large for the model's dtype in "
                f"{_count(self.overflows, 'key')}; port into a float32 model. No weight was "
                f"changed. Received: {few(f'{key!r} into {kind}' for key, kind in self.overflows)}"
            )

    def refuse(
        self,
        goal: Target,
        unmatched: Sequence[Leaf],
        paths: Sequence[str],
        keys: Sequence[str],
        prefix: str,
    ) -> None:
        """Raise if anything does not fit.

        Args:
            goal: What was to be filled.
            unmatched: Its layers that found no module.
            paths: Paths of the modules that a prefix could lead to.
            keys: All keys of the state dict.
            prefix: The prefix, without a trailing dot.

        Raises:
            ValueError: With the keys, the shapes and the likely cause.
        """
        clauses = []
        if self.missing:
            shown = few(f"{m.key!r} for {m.weight!r} {m.shape}" for m in self.missing)
            clauses.append(f"{_count(self.missing, 'missing key')}: {shown}")
        if self.left_over:
            shown = few(f"{key!r} {shape}" for key, shape in self.left_over)
            clauses.append(f"{_count(self.left_over, 'left-over key')}: {shown}")
        if self.wrong:
            clauses.append(f"{len(self.wrong)} of another shape: {few(w.text for w in self.wrong)}")
        if self.unreachable:
            shown = few(f"{label!r}: {why}" for label, why in self.unreachable)
            clauses.append(f"{_count(self.unreachable, 'weight')} that cannot be filled: {shown}")
        if not clauses:
            return
        causes = self._causes(goal, unmatched, paths, prefix)
        raise ValueError(
            f"The checkpoint does not fit {goal.name}. {'; '.join(clauses)}. "
            + (f"Likely cause: {'; '.join(causes)}. " if causes else "")
            + f"No weight was changed. Received: {_count(keys, 'key')} for "
            f"{_count(goal.weights, 'weight')}, prefix={prefix!r}"
        )

    def _causes(
        self, goal: Target, unmatched: Sequence[Leaf], paths: Sequence[str], prefix: str
    ) -> list[str]:
        causes = _causes_of_shapes(self.wrong, goal.leaves)
        causes += _causes_of_names(goal, unmatched, paths, prefix)
        absent = [m for m in self.missing if m.leaf not in unmatched]
        names = {m.weight.rpartition("/")[2] for m in absent if not m.leaf.table.per_group}
        for among, cause in (
            ({"bias"}, "modules without a bias: build those layers with use_bias=False"),
            ({"gamma", "beta"}, "norms that are not affine: build with scale=False, center=False"),
            ({"moving_mean", "moving_variance"}, "norms that keep no running statistics"),
        ):
            causes += [cause] if among & names else []
        if any(m.leaf.table.per_group for m in absent):
            causes.append("a ULSAM module of which keys were taken out, or which is another module")
        if self.left_over and not self.missing:
            if all(key.endswith("bias") for key, _ in self.left_over):
                causes.append("layers built with use_bias=False or center=False")
            elif heads := list(dict.fromkeys(module_of(key) or key for key, _ in self.left_over)):
                causes.append(
                    f"the model has no layer for {few(map(repr, heads))}; leave out what it is "
                    "not to have with `ignore_keys`"
                )
        return causes


def wrong_prefix(prefix: str, keys: Iterable[str], sites: Iterable[str]) -> str:
    """Say that there is nothing under a prefix, and which one may be meant."""
    sites = [site for site in sites if site]
    modules: dict[str, None] = {}
    for key in keys:
        parts = key.split(".")
        modules |= dict.fromkeys(".".join(parts[:i]) for i in range(1, len(parts)))
    # Wrappers come and go in front of a path, so its tail may be what is right.
    tails = [path for path in modules if under(prefix, path) or prefix.endswith(f".{path}")]
    hint = did_you_mean(prefix, modules) or did_you_mean(max(tails, key=len, default=""), tails)
    if not hint and sites:
        hint = f"; its ULSAM modules are {few(map(repr, sites))}"
    return f"The checkpoint has no keys under the prefix{hint}. Received: prefix={prefix!r}"


def _causes_of_names(
    goal: Target, unmatched: Sequence[Leaf], paths: Sequence[str], prefix: str
) -> list[str]:
    if not unmatched:
        return []
    if goal.lone:
        near = [path for path in paths if under(path, prefix)] or paths
        return [f"another prefix: perhaps {few(map(repr, near))}"] if near else []
    head, count = common_prefix(unmatched, paths)
    if head != prefix and 2 * count >= len(unmatched):
        return [f"another prefix: perhaps {head!r}"]
    automatic = [leaf for leaf in unmatched if _AUTOMATIC_NAME.fullmatch(leaf.layer.name)]
    if automatic:
        names = few(repr(leaf.label) for leaf in automatic)
        return [
            f"layers with Keras's automatic names ({names}): name them as the PyTorch modules or "
            "say with `name_map` which they are"
        ]
    names = few(repr(leaf.label) for leaf in unmatched)
    return [f"no module for {names}: another network, or other names (`name_map` tells them)"]


def _causes_of_shapes(wrong: Sequence[Wrong], leaves: Sequence[Leaf]) -> list[str]:
    causes = []
    kernels = [w for w in wrong if w.weight in ("kernel", "embeddings") and w.found]
    last = next((lf.label for lf in reversed(leaves) if hasattr(lf.layer, "kernel")), None)
    if any(not w.weight for w in wrong):
        causes.append(
            "a ULSAM of another num_splits or width; build the layer as the checkpoint has it"
        )
    if kernels and {w.leaf for w in wrong} == {last} and kernels[0].found:
        found, expected = kernels[0].found, kernels[0].expected
        if found[:-1] == expected[:-1]:
            return [
                f"a classifier of {found[-1]} classes where the model has {expected[-1]}; build "
                f"it with {found[-1]}"
            ]
    for kernel in kernels:
        found, expected = kernel.found or (), kernel.expected
        if found[:-2] != expected[:-2]:
            causes.append("another kernel size")
        elif found[-2:] == expected[-2:][::-1]:
            causes.append("input and output channels the other way round")
        elif len(found) == 2 and found[0] != expected[0] and found[1] == expected[1]:
            causes.append("another width before the classifier, or another input size")
        elif kernel is kernels[0] and found[-1] == expected[-1]:
            causes.append(f"another number of input channels ({found[-2]}, not {expected[-2]})")
        else:
            causes.append("another width (alpha) or number of channels")
    return list(dict.fromkeys(causes))


def few(texts: Iterable[str], shown: int = 3) -> str:
    """Give the first few, and how many there are beyond them."""
    items = list(texts)
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
