"""Checks of `num_splits` that are shared by everything that puts ULSAM layers into a network.

Imports nothing.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Site = TypeVar("Site", bound=Hashable)


def splits_by_site(
    num_splits: int | Mapping[Site, int], sites: Sequence[Site], what: str
) -> dict[Site, int]:
    """The number of splits of each site.

    Args:
        num_splits: One number for all sites, or a mapping with one for each of them.
        sites: The sites, in any order.
        what: What a site is called in an error.

    Raises:
        ValueError: If it is a list, or a mapping that lacks a site or has one that gets no ULSAM.
    """
    if isinstance(num_splits, (list, tuple, set)):
        raise ValueError(
            f"`num_splits` must be one number for all ULSAM layers, or a mapping from {what} to "
            f"number, {dict.fromkeys(sites, 4)} for example. Received: num_splits={num_splits!r}"
        )
    if not isinstance(num_splits, Mapping):
        return dict.fromkeys(sites, num_splits)
    missing = [site for site in sites if site not in num_splits]
    extra = [site for site in num_splits if site not in sites]
    if missing or extra:
        wrong = [f"lacks {missing}"] * bool(missing) + [f"names {extra} in vain"] * bool(extra)
        raise ValueError(
            f"A `num_splits` that is a mapping needs one entry for each {what} that gets a ULSAM, "
            f"{list(sites)}; it {' and '.join(wrong)}. Received: num_splits={dict(num_splits)}"
        )
    return dict(num_splits)


def check_splits(site: str, channels: int, num_splits: int) -> None:
    """Raises a ValueError that names the site unless `num_splits` divides its channels."""
    whole = hasattr(num_splits, "__index__") and not isinstance(num_splits, bool)
    if whole and num_splits > 0 and channels % num_splits == 0:
        return
    raise ValueError(
        f"The ULSAM at {site} has {channels} channels, so its num_splits must be one of "
        f"{', '.join(map(str, divisors(channels)))}. Received: num_splits={num_splits!r}"
    )


def divisors(channels: int) -> tuple[int, ...]:
    """The numbers of groups that so many channels can be split into."""
    return tuple(number for number in range(1, channels + 1) if channels % number == 0)
