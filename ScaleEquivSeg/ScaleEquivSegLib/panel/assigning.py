"""Which task the name of a volume means, and which volume is meant by a channel of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from ..bundles import Channel

WILDCARD = re.compile(r"\*|\?|\[[^]]*\]")


def task_meant(tasks: Mapping[str, Sequence[Channel]], names: Sequence[str]) -> str | None:
    """The one task that names mean, by the channels of each; None where none is meant, or several are."""
    meant = {task for name in names if (task := _task_of(tasks, name)) is not None}
    return meant.pop() if len(meant) == 1 else None


def _task_of(tasks: Mapping[str, Sequence[Channel]], name: str) -> str | None:
    """The task with the most specific pattern that a name fits."""
    strengths = {task: max(_strength(channel, name) for channel in channels) for task, channels in tasks.items()}
    best = max(strengths.values(), default=-1)
    fitting = [task for task, strength in strengths.items() if strength == best]
    return fitting[0] if best >= 0 and len(fitting) == 1 else None


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
