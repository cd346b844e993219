"""The planes of a swept map: every reader gets the right ones, each is made once, and only what is needed is kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ScaleEquivSegLib.networks.sweep import Planes


class Source:
    """A map of which every plane is asked for once."""

    def __init__(self, count: int, axis: int) -> None:
        shape = [2, 3, 2, 3, 2]
        shape[axis + 2] = count
        self.whole = torch.randn(shape)
        self.axis = axis
        self.made = 0

    def make(self, start: int, stop: int) -> Tensor:
        assert start == self.made
        self.made = stop
        return self.whole.narrow(self.axis + 2, start, stop - start)

    def between(self, start: int, stop: int) -> Tensor:
        count = self.whole.shape[self.axis + 2]
        return self.whole.index_select(self.axis + 2, torch.arange(start, stop).clamp(0, count - 1))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    axis=st.sampled_from([0, 1, 2]),
    step=st.integers(1, 7),
    reach=st.integers(0, 4),
    strides=st.lists(st.integers(1, 5), min_size=4, max_size=8),
    lag=st.integers(0, 9),
)
def test_readers_one_behind_the_other_get_the_planes_they_ask_for(
    axis: int, step: int, reach: int, strides: list[int], lag: int
) -> None:
    count = sum(strides)
    source = Source(count, axis)
    planes = Planes(axis, count, step, source.make)
    ahead, behind = planes.reader(), planes.reader()
    start = 0
    for stride in strides:
        wanted = source.between(start - reach, start + stride + reach)
        assert torch.equal(ahead(start - reach, start + stride + reach), wanted)
        late = max(0, start - lag)
        assert torch.equal(behind(late, late + stride), source.between(late, late + stride))
        start += stride
    assert source.made == count


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_kept_does_not_grow_with_the_number_of_planes(axis: int) -> None:
    source = Source(1000, axis)
    planes = Planes(axis, 1000, 4, source.make)
    read = planes.reader()
    kept = []
    for start in range(0, 990, 5):
        read(start - 3, start + 8)
        kept.append(planes.kept_bytes)
    assert len(set(kept[5:])) == 1
    assert kept[-1] < 20 * source.whole.narrow(axis + 2, 0, 1).nbytes
