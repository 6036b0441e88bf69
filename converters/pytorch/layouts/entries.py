"""What each numbered module of a network is: a block or a ULSAM, and its channels.

Imports the standard library.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from converters.pytorch.layouts.layout import Form, Layout
from converters.pytorch.layouts.network_keys import NetworkKeys, Shape
from converters.pytorch.mismatch import few
from converters.pytorch.modules import join

Refuse = Callable[[str, str], NoReturn]


@dataclass(frozen=True)
class Part:
    """A stem, block or head.

    Attributes:
        path: Path of the module.
        layers: Paths of the modules inside, by role.
        channels_in: Input channels.
        channels_out: Output channels.
        hidden: Channels after the expansion; None if there is none.
    """

    path: str
    layers: Mapping[str, str]
    channels_in: int
    channels_out: int
    hidden: int | None = None


@dataclass(frozen=True)
class Attention:
    """A ULSAM.

    Attributes:
        path: Path of the module.
        channels_out: Channels, which it keeps.
        num_splits: Number of subspaces.
    """

    path: str
    channels_out: int
    num_splits: int


@dataclass(frozen=True)
class Entries:
    """The numbered modules of a network.

    Attributes:
        stem: The stem.
        body: Blocks and ULSAM modules, in order.
        head: The head; None if the family has none.
    """

    stem: Part
    body: tuple[Part | Attention, ...]
    head: Part | None

    @property
    def features(self) -> int:
        """Channels that the classifier gets."""
        return (self.head or self.body[-1]).channels_out


def read_entries(keys: NetworkKeys, layout: Layout, refuse: Refuse) -> Entries:
    """Read what every numbered module is.

    Args:
        keys: Where the network is.
        layout: The layout that its blocks are of.
        refuse: Raises a ValueError for what is odd and what was received.

    Raises:
        ValueError: If a module is missing, is of no known form, or does not fit the one before.
    """
    last = max(keys.modules)
    # A number may be any; where some are missing, one of them is below the number of modules.
    some = range(min(last, 2 * len(keys.modules)))
    missing = [index for index in some if index not in keys.modules]
    if missing:
        shown = few((keys.shown(keys.path(index)) for index in missing), 6)
        kind = "the stem" if missing == [0] else "a block"
        refuse(f"has no keys of {shown}: {kind} is missing", f"modules up to {last}")
    stem = _part(keys, 0, "stem", (layout.stem,), refuse)
    head = None
    if layout.head is not None:
        where = keys.shown(keys.path(last))
        if keys.path(last) in keys.sites:
            refuse("has a ULSAM where its head should be, after all blocks", where)
        if any(keys.modules[last] == set(form.values()) for form in layout.blocks):
            refuse("has no head convolution after its last block", f"last module {where}")
        head = _part(keys, last, "head", (layout.head,), refuse)
        last -= 1
    body = [
        _attention(keys, index, refuse)
        if keys.path(index) in keys.sites
        else _part(keys, index, "block", layout.blocks, refuse)
        for index in range(1, last + 1)
    ]
    entries = Entries(stem, tuple(body), head)
    _check_chain(keys, entries, refuse)
    return entries


def _part(
    keys: NetworkKeys, index: int, kind: str, forms: tuple[Form, ...], refuse: Refuse
) -> Part:
    paths, path = keys.modules[index], keys.path(index)
    # Of the forms that come as near, the one with less that is not there.
    form = min(forms, key=lambda it: (len(paths ^ set(it.values())), len(it)))
    missing = [inner for inner in form.values() if inner not in paths]
    besides = sorted(paths - set(form.values()))
    if missing or besides:
        odd = f"lacks {few(keys.shown(join(path, p)) for p in missing)}" if missing else ""
        odd += " and " if missing and besides else ""
        odd += f"has {few(keys.shown(join(path, p)) for p in besides)} besides" if besides else ""
        ulsam = [site for site in keys.sites if site.startswith(f"{path}.")]
        odd += ", a ULSAM that is no module of the body of its own" if ulsam else ""
        refuse(
            f"has at {keys.shown(path)} no {kind} of that layout: it {odd}", f"{len(paths)} modules"
        )
    convolutions = list(_convolutions(keys, path, form, kind, refuse))
    for (_, (_, out)), (role, (channels, _)) in zip(
        convolutions[:-1], convolutions[1:], strict=True
    ):
        if out != channels:
            refuse(
                f"has at {keys.shown(path)} convolutions that do not fit: {role!r} takes "
                f"{channels} channels and gets {out}",
                keys.shown(join(path, form[role], "weight")),
            )
    return Part(
        path=path,
        layers={role: join(path, inner) for role, inner in form.items()},
        channels_in=convolutions[0][1][0],
        channels_out=convolutions[-1][1][1],
        hidden=convolutions[0][1][1] if "expand" in form else None,
    )


# Height and width of each role's kernel; of the others 1.
_KERNEL_SIZES = {"stem_conv": 3, "depthwise": 3}


def _convolutions(
    keys: NetworkKeys, path: str, form: Form, kind: str, refuse: Refuse
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the role and the input and output channels of each convolution."""
    for role, inner in form.items():
        if role.endswith("_bn"):
            continue
        key = join(path, inner, "weight")
        shape: Shape = keys.shapes.get(key, ())
        size = _KERNEL_SIZES.get(role, 1)
        depthwise = role == "depthwise"
        fits = len(shape) == 4 and shape[2:] == (size, size) and (not depthwise or shape[1] == 1)
        if not fits:
            expected = f"(C, 1, {size}, {size})" if depthwise else f"(O, I, {size}, {size})"
            received = f"{keys.shown(key)} {shape}" if key in keys.shapes else "no such key"
            refuse(
                f"has a {kind} whose {role!r}, {keys.shown(key)}, is no kernel of {expected}",
                received,
            )
        yield role, (shape[0] if depthwise else shape[1], shape[0])


def _attention(keys: NetworkKeys, index: int, refuse: Refuse) -> Attention:
    path = keys.path(index)
    site = keys.sites[path]
    widths: list[int] = []
    for base in site.bases:
        kernel = keys.shapes.get(join(base, "conv_dws", "weight"), ())
        if not kernel:
            refuse(
                f"has a ULSAM at {keys.shown(path)} with a subspace missing",
                f"no key {keys.shown(join(base, 'conv_dws.weight'))}",
            )
        widths.append(kernel[0])
    if len(set(widths)) > 1:
        refuse(
            f"has a ULSAM at {keys.shown(path)} whose subspaces have unequal channels: the number "
            f"of subspaces, {len(widths)}, must divide the channels, {sum(widths)}",
            f"subspaces of {few(map(str, widths), 8)} channels",
        )
    return Attention(path, site.channels, site.num_splits)


def _check_chain(keys: NetworkKeys, entries: Entries, refuse: Refuse) -> None:
    """Check that every module takes as many channels as the one before gives."""
    path, channels = entries.stem.path, entries.stem.channels_out
    parts: Iterable[Part | Attention] = (*entries.body, *((entries.head,) if entries.head else ()))
    for part in parts:
        where = f"{keys.shown(path)} gives {channels}"
        if isinstance(part, Part):
            if part.channels_in != channels:
                refuse(
                    f"has at {keys.shown(part.path)} a module that takes {part.channels_in} "
                    f"channels where {where}: a block is missing between them, or they are of "
                    "different checkpoints",
                    f"{part.channels_in} and {channels} channels",
                )
            channels = part.channels_out
        elif part.channels_out != channels:
            each, g = part.channels_out // part.num_splits, part.num_splits
            cause = (
                f"{g} subspaces do not divide {channels} channels"
                if channels % g
                else "the module is of another site or checkpoint"
            )
            refuse(
                f"has a ULSAM at {keys.shown(part.path)} of {g} subspaces of {each} channels, "
                f"{part.channels_out} in all, where {where}: {cause}",
                f"{part.channels_out} and {channels} channels",
            )
        path = part.path
