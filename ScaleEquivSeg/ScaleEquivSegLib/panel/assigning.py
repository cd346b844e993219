"""Which volume is meant by a channel of a network, by the names of both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..bundles import Channel

WILDCARD = re.compile(r"\*|\?|\[[^]]*\]")


def suggested(channels: Sequence[Channel], names: Sequence[str]) -> list[int | None]:
    """For each channel the only one of the names that means it, as its number; None where none does, or several do."""
    meant = [_channel_meant(channels, name) for name in names]
    return [meant.index(number) if meant.count(number) == 1 else None for number in range(len(channels))]


def _channel_meant(channels: Sequence[Channel], name: str) -> int | None:
    """The channel of the most specific pattern that a name fits: `t1ce` fits `*t1*` too, and means T1ce."""
    strengths = [_strength(channel, name) for channel in channels]
    best = max(strengths, default=-1)
    return strengths.index(best) if best >= 0 and strengths.count(best) == 1 else None


def _strength(channel: Channel, name: str) -> int:
    """How many characters of a name the best pattern spells out, -1 if none fits."""
    fitting = (pattern for pattern in channel.patterns if fnmatchcase(name.lower(), pattern.lower()))
    return max((len(WILDCARD.sub("", pattern)) for pattern in fitting), default=-1)
