"""`ablate`: what each ULSAM of a model is worth, and what it costs.

Imports Keras (public names only), NumPy, `ulsam_keras.attention`, `ulsam_keras.batches`,
`ulsam_keras.cost` and `ulsam_keras.layer`.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from ulsam_keras import cost
from ulsam_keras.attention import built, check_model, named_outputs, named_ulsams
from ulsam_keras.batches import batches
from ulsam_keras.layer import ULSAM, recorded_scores, switched_attention

# Below it, the values that an output has on different samples differ by float32's own rounding.
_CONSTANT = 1e-6
_SWITCHES: WeakKeyDictionary[ULSAM, keras.Variable] = WeakKeyDictionary()
# Sums of a softmax's float16 values are off 1 by as much.
_SUM_OF_SHARES = 5e-3


@dataclass(frozen=True)
class Ablation:
    """What a model's outputs are without the attention of one ULSAM, and what that costs.

    Attributes:
        site: The layer, named as in `attention_maps`.
        snr: The smallest of `output_snr`; `None` if there is none.
        output_snr: Of every output, the energy of what it is, its mean over the samples taken off,
            over the energy of what leaving the attention out changes, in dB. Infinite where nothing
            changes, minus infinity where something is no longer finite, `None` where the output is
            the same for every sample, or there is one sample only.
        changed_classes: Share of the samples whose top-1 class changes, the largest of any output
            that is of classes; `None` if none is.
        accuracy: Share of the samples whose top-1 class is the label, with the attention; `None`
            without labels.
        accuracy_without: The same without it.
        multiply_adds: What the layer does for one sample, at all the places where it is called;
            `None` where the sizes of the maps are not known.
        parameters: The layer's learned numbers.
    """

    site: str
    snr: float | None
    output_snr: Mapping[str, float | None]
    changed_classes: float | None
    accuracy: float | None
    accuracy_without: float | None
    multiply_adds: int | None
    parameters: int

    @property
    def accuracy_change(self) -> float | None:
        """Accuracy without the attention less that with it: below 0 where the attention helps."""
        if self.accuracy is None or self.accuracy_without is None:
            return None
        return self.accuracy_without - self.accuracy

    def __str__(self) -> str:
        told = ["SNR unknown" if self.snr is None else f"SNR {self.snr:.1f} dB"]
        if self.changed_classes is not None:
            told.append(f"{self.changed_classes:.2%} of the classes changed")
        if self.accuracy_change is not None:
            told.append(f"accuracy {100 * self.accuracy_change:+.2f} points")
        work = "?" if self.multiply_adds is None else f"{self.multiply_adds:,}"
        return (
            f"without {self.site}: {', '.join(told)}; "
            f"saves {work} multiply-adds, {self.parameters:,} parameters"
        )


def ablate(
    model: keras.Model,
    data: Any,
    *,
    labels: Any = None,
    classifier: bool | None = None,
    batch_size: int = 32,
    steps: int | None = None,
) -> list[Ablation]:
    """Leaves out the attention of one ULSAM at a time, and says what that changes.

    Where it is left out the layer gives y = x, as if it were not there; the others stay. A layer
    that is called at several places is left out at all of them, as one that is dropped would be.
    The model computes as in `predict` and is left as it is; the data is gone through once, so that
    it may be shuffled or augmented.

    Args:
        model: A Keras 3 model of any kind, a subclassed one too.
        data: What the model's `predict` takes: arrays, or batches of them, of a `tf.data.Dataset`,
            a `PyDataset`, a PyTorch `DataLoader`, a generator or another iterable. Of `(x, y)` the
            y is not looked at.
        labels: The true class of every sample, `(N,)` integers, in the order of the data. They are
            of the output that agrees with them most; one value for each sample is taken for two
            classes. Defaults to `None`.
        classifier: Whether the outputs `(N, k)`, k above 1, are of classes. `None` takes that for
            one which the labels are of, and those that are shares, not negative and of the sum 1,
            as after a softmax; of logits without labels, say `True`. Defaults to `None`.
        batch_size: Samples computed at a time where the data is arrays. Defaults to 32.
        steps: Batches taken of data that comes in batches; `None` for all. Defaults to `None`.

    Returns:
        An `Ablation` for each ULSAM in the order of the calls. A ULSAM that was not called, or only
        within a function that was compiled before, is left out, with a warning.

    Raises:
        ValueError: If it is not a Keras 3 model, has no ULSAM, or there is no data, or the labels
            are not as many integers as there are samples.

    Example:

    >>> for site in ablate(model, images, labels=labels):
    ...     print(site)
    """
    check_model(model)
    probe: _Switched | None = None
    expected: list[dict[str, np.ndarray]] = []
    changes: list[_Change] = []
    for batch in batches(data, batch_size, steps):
        if probe is None:
            probe = _Switched(built(model, batch))
            changes = [_Change() for _ in probe.switches]
        expected.append(probe.answer(batch))
        for switch, change in zip(probe.switches, changes, strict=True):
            switch.assign(False)
            try:
                change.add(expected[-1], probe.answer(batch))
            finally:
                switch.assign(True)
    if probe is None:
        raise ValueError("There must be samples to compute on. Received: data without any")
    outputs = {name: np.concatenate([each[name] for each in expected]) for name in expected[0]}
    truth = None if labels is None else _checked(labels, len(next(iter(outputs.values()))))
    labelled = _labelled(outputs, truth)
    classifiers = _classifiers(outputs, labelled, classifier)
    rows: dict[str, Ablation] = {}
    for (layer, site), change in zip(named_ulsams(model).items(), changes, strict=True):
        if site not in probe.maps:
            continue
        snr = {name: _decibels(value, change.noise[name]) for name, value in outputs.items()}
        answers = {
            name: [
                _classes(outputs[name], decisions)
                for decisions in (_decisions(outputs[name]), np.concatenate(change.decisions[name]))
            ]
            for name in classifiers
        }
        moved = [float((before != after).mean()) for before, after in answers.values()]
        right = [float((answer == truth).mean()) for answer in answers.get(labelled or "", ())]
        accuracy, accuracy_without = right or (None, None)
        channels = int(layer.depthwise_norm.gamma.shape[0])
        sizes = probe.maps[site]
        known = all(None not in size for size in sizes)
        rows[site] = Ablation(
            site,
            min((value for value in snr.values() if value is not None), default=None),
            snr,
            max(moved, default=None),
            accuracy,
            accuracy_without,
            sum(cost.multiply_adds(channels, *size) for size in sizes) if known else None,
            cost.parameters(channels, layer.num_splits),
        )
    if silent := [repr(name) for name in named_ulsams(model).values() if name not in rows]:
        warnings.warn(
            "ULSAM that are not called, or only within a function that was compiled before, cannot "
            f"be left out: {', '.join(silent)}",
            stacklevel=2,
        )
    return [rows[site] for site in probe.maps]


class _Switched(keras.Model):
    """A model whose ULSAM can be switched off, one variable each, without tracing anew.

    Tracing it once for each would take long, and a function within the model that its author has
    compiled would keep what it was traced with first.

    Attributes:
        maps: Height and width of the maps of every call of each ULSAM, in the order of the calls.
    """

    def __init__(self, model: keras.Model) -> None:
        # The model takes its inputs as they are.
        super().__init__(autocast=False, name="ablated")
        self.model = model
        self.maps: dict[str, list[tuple[Any, ...]]] = {}
        self.switches = [_switch(layer) for layer in named_ulsams(model)]
        self.built = True  # else JAX computes everything once, an operation at a time

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        names = named_ulsams(self.model)
        switches = dict(zip(names, self.switches, strict=True))
        with recorded_scores() as recorded, switched_attention(switches):
            outputs = self.model(inputs, training=training)
        maps: dict[str, list[tuple[Any, ...]]] = {}
        for layer, attention in recorded:
            if layer in names:
                maps.setdefault(names[layer], []).append(tuple(attention.shape[1:3]))
        self.maps = maps
        return outputs

    def answer(self, batch: Any) -> dict[str, np.ndarray]:
        """The model's outputs on a batch, by name."""
        return named_outputs(self.model, self.predict_on_batch(batch))


def _switch(layer: ULSAM) -> keras.Variable:
    """The switch of a layer, one for its life: a function compiled meanwhile refers to it."""
    if layer not in _SWITCHES:
        _SWITCHES[layer] = keras.Variable(True, dtype="bool", trainable=False)
    return _SWITCHES[layer]


@dataclass
class _Change:
    """What leaving out one site changes, summed over batches.

    Attributes:
        noise: The energy of the change of each output.
        decisions: What a class is told from, of each output that can be of classes.
    """

    noise: dict[str, float] = field(default_factory=dict)
    decisions: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, expected: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        """Adds a batch."""
        for name, wanted in expected.items():
            value, finite = outputs[name].astype("float64"), np.isfinite(wanted)
            # Where there is nothing to compare with, nothing has changed.
            error = np.where(finite, value, 0) - np.where(finite, wanted, 0)
            self.noise[name] = self.noise.get(name, 0.0) + float(np.square(error).sum())
            if wanted.ndim == 2:
                self.decisions.setdefault(name, []).append(_decisions(outputs[name]))


def _decibels(expected: np.ndarray, noise: float) -> float | None:
    """Energy of an output, its mean over the samples taken off, over that of noise, in dB."""
    wanted = np.where(np.isfinite(expected), expected, 0).astype("float64")
    centred = wanted - wanted.mean(axis=0)
    # Element by element: a mask of -1e9 is constant, and what stands beside it is not.
    varies = np.abs(centred).max(axis=0) > _CONSTANT * np.abs(wanted).max(axis=0)
    if len(wanted) < 2 or not varies.any():
        return None
    if noise == 0:
        return float("inf")
    ratio = float(np.square(centred).sum()) / noise
    return float(10 * np.log10(ratio)) if ratio > 0 else float("-inf")


def _decisions(output: np.ndarray) -> np.ndarray:
    """What the class of every sample is told from: `(N, k)` to the place of the largest value."""
    return output[:, 0] if output.shape[1] == 1 else output.argmax(axis=1)


def _classes(output: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """The classes that decisions are, told apart as those of the output are.

    One value is class 1 above 0.5 if all of the output are shares, as after a sigmoid, else above
    0.
    """
    if output.shape[1] > 1:
        return decisions
    return (decisions > (0.5 if _shares(output) else 0)).astype(int)


def _shares(output: np.ndarray) -> bool:
    return bool(((output >= 0) & (output <= 1)).all())


def _checked(labels: Any, count: int) -> np.ndarray:
    """The true classes, once there are as many as samples."""
    truth = keras.ops.convert_to_numpy(labels)
    if truth.shape not in ((count,), (count, 1)) or truth.dtype.kind not in "iub":
        raise ValueError(
            "`labels` must be integers, one class for each sample, in the order of the data. "
            f"Received: labels of shape {truth.shape} and dtype {truth.dtype}, {count} samples"
        )
    return truth.reshape(count)


def _labelled(outputs: Mapping[str, np.ndarray], truth: np.ndarray | None) -> str | None:
    """The output that labels are of: of those with enough classes the one that is right most."""
    if truth is None:
        return None
    right = {
        name: float((_classes(value, _decisions(value)) == truth).mean())
        for name, value in outputs.items()
        if value.ndim == 2 and max(value.shape[1], 2) > truth.max(initial=0)
    }
    if not right:
        raise ValueError(
            "`labels` are classes of an output (N, k), k above the largest of them. Received: "
            f"labels up to {truth.max()}, outputs { ({n: v.shape for n, v in outputs.items()}) }"
        )
    return max(right, key=lambda name: right[name])


def _classifiers(
    outputs: Mapping[str, np.ndarray], labelled: str | None, asked: bool | None
) -> list[str]:
    """The outputs that are of classes."""
    vectors = {n: v for n, v in outputs.items() if v.ndim == 2 and v.shape[1] > 1}
    found = list(vectors) if asked else []
    if asked is None:
        sums = {name: np.abs(value.sum(axis=1) - 1).max() for name, value in vectors.items()}
        found = [n for n, v in vectors.items() if _shares(v) and sums[n] < _SUM_OF_SHARES]
    return found if labelled is None or labelled in found else [*found, labelled]
