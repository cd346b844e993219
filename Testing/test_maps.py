"""The scale axis and its grids: each scale's voxels lie where the whole volume's would, whatever the crop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ScaleEquivSegLib.layers.maps import Grid, ScaleAxis, ScaleMaps

pytestmark = pytest.mark.usefixtures("seeded")


def test_an_axis_spaces_its_grids_geometrically_and_a_window_is_part_of_it() -> None:
    axis = ScaleAxis(0.5, 2.0, 4)
    assert axis.spacings == (0.5, 1.0, 2.0, 4.0)
    assert axis.window(1, 2).spacings == (1.0, 2.0)
    assert axis.window(-1, 3).spacings == (0.25, 0.5, 1.0)


@pytest.mark.parametrize("bad", [{"first": 0.0}, {"first": -1.0}, {"ratio": 0.0}, {"count": 0}], ids=str)
def test_values_that_make_no_axis_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no scale axis"):
        ScaleAxis(**bad)


@pytest.mark.parametrize("spacing", [0.7, 1.0, 2**0.5])
@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_grid_covers_a_volume_from_its_first_voxel_and_reaches_the_last_just_so(size: int, spacing: float) -> None:
    positions = Grid.covering(size, spacing).positions(0)
    assert positions[0] == 0
    assert torch.allclose(positions.diff(), torch.tensor(spacing, dtype=torch.float64))
    assert size - 1 <= positions[-1] < size - 1 + spacing


def test_a_slab_is_sampled_where_the_whole_volume_would_be() -> None:
    whole, slab = Grid(1.5, 0, 20), Grid(1.5, 7, 4)
    assert torch.equal(slab.positions(9) + 9, whole.positions(0)[7:11])
    assert torch.equal(whole.index_of(slab), torch.arange(7.0, 11.0, dtype=torch.float64))
    assert whole.without_ends(3) == Grid(1.5, 3, 14)


def test_an_index_on_one_grid_says_where_another_grid_lies() -> None:
    fine, coarse = Grid(1.0, 2, 7), Grid(2.0, 1, 3)
    assert fine.index_of(coarse).tolist() == [0.0, 2.0, 4.0]
    assert coarse.index_of(fine).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


@pytest.mark.parametrize("count", [1, 6, 7])
def test_every_second_position_of_a_grid_is_a_grid_of_twice_the_spacing(count: int) -> None:
    grid = Grid(1.5, 4, count)
    assert torch.equal(grid.every(2).positions(0), grid.positions(0)[::2])
    with pytest.raises(ValueError, match="index 3"):
        Grid(1.5, 3, count).every(2)


def test_an_image_is_at_every_scale_of_maps_on_one_grid_without_a_copy() -> None:
    image = torch.randn(1, 2, 4, 3, 2)
    maps = ScaleMaps.on_one_grid(image, 3)
    assert len(maps.tensors) == len(maps.grids) == 3
    assert all(x is image for x in maps.tensors)
    assert maps.grids[2] == (Grid(1.0, 0, 4), Grid(1.0, 0, 3), Grid(1.0, 0, 2))


def test_other_values_stay_at_the_same_places() -> None:
    maps = ScaleMaps.on_one_grid(torch.ones(1, 1, 2, 2, 2), 2)
    doubled = maps.each(lambda x: 2 * x)
    assert all(torch.equal(x, torch.full_like(x, 2.0)) for x in doubled.tensors)
    assert doubled.grids == maps.with_tensors(doubled.tensors).grids == maps.grids


def test_a_filter_takes_from_an_open_axis_what_it_needs_and_from_others_nothing() -> None:
    x = torch.arange(9.0).reshape(1, 1, 9, 1, 1).expand(1, 1, 9, 4, 5)
    grids = [(Grid(1.0, 2, 9), Grid(1.0, 0, 4), Grid(1.0, 0, 5))]
    slab, whole = ScaleMaps([x], grids, open_axis=0), ScaleMaps([x], grids)
    inner = slab.without_ends(2)
    assert torch.equal(inner.tensors[0], x[:, :, 2:-2])
    assert inner.grids[0] == (Grid(1.0, 4, 5), Grid(1.0, 0, 4), Grid(1.0, 0, 5))
    assert inner.open_axis == 0
    assert whole.without_ends(2) is whole
    assert whole.filtered([x], 2, stride=2).grids[0] == (Grid(2.0, 1, 5), Grid(2.0, 0, 2), Grid(2.0, 0, 3))
    assert slab.filtered([x], 2, stride=2).grids[0][0] == Grid(2.0, 2, 3)
