"""Of structures that a card says are in one piece the largest piece alone is kept, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ScaleEquivSegLib.errors import Cancelled
from ScaleEquivSegLib.pieces import keep_largest
from ScaleEquivSegLib.roi import Box
from ScaleEquivSegLib.segmentation import Model, Settings, segment
from ScaleEquivSegLib.volume import Volume, make_geometry
from test_geometry import Threshold, bundle

GRID = make_geometry((20, 18, 16), (2.0, 1.0, 1.5), np.diag([-1.0, 1.0, -1.0]), (5, -20, 30))
LARGE, SMALL = (slice(3, 8), slice(4, 9), slice(5, 9)), (slice(11, 14), slice(12, 15), slice(13, 16))


def bright_in(*boxes: tuple[slice, ...]) -> Volume:
    array = np.zeros(GRID.shape, np.float32)
    for box in boxes:
        array[box] = 100.5  # whole numbers would be labels
    return Volume(array, GRID)


def found_in(volume: Volume, in_one_piece: tuple[int, ...], roi: Box | None = None) -> np.ndarray:
    """Where anything was found."""
    model = Model(replace(bundle("RAS", GRID.spacing, 1), in_one_piece=in_one_piece), Threshold(0))
    return segment([volume], model, Settings("cpu"), roi=roi).labels.array > 0


@pytest.mark.parametrize("seed", range(5))
def test_of_some_values_the_largest_piece_is_left_and_of_others_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.choice(4, (12, 14, 16), p=[0.8, 0.1, 0.05, 0.05]).astype(np.uint8)
    labels[labels == 3] = 0
    kept = labels.copy()
    keep_largest(kept, [1, 3])
    pieces, count = ndimage.label(labels == 1, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(labels == 1, pieces, range(1, count + 1))
    assert count > 1
    assert (kept == 1).sum() == sizes.max()
    assert len(np.unique(pieces[kept == 1])) == 1
    assert np.array_equal(kept == 2, labels == 2)
    assert not kept[(labels == 1) & (kept != 1)].any()


def test_a_speck_far_off_is_not_told_unless_the_card_says_nothing_of_pieces() -> None:
    volume = bright_in(LARGE, SMALL)
    assert np.array_equal(found_in(volume, ()), volume.array > 0)
    assert np.array_equal(found_in(volume, (1,)), bright_in(LARGE).array > 0)
    empty = found_in(Volume(np.zeros(GRID.shape, np.float32), GRID), (1,))
    assert not empty.any()


def test_in_a_region_the_largest_piece_is_that_of_the_region() -> None:
    volume = bright_in(LARGE, SMALL)
    corners = GRID.to_ras(np.array([[part.start - 2, part.stop + 1] for part in SMALL[::-1]]).T)
    sides = np.abs(corners[1] - corners[0])
    around = Box.from_values({"centre": corners.mean(0).tolist(), "axes": np.eye(3).tolist(), "sides": sides.tolist()})
    assert np.array_equal(found_in(volume, (1,), around), bright_in(SMALL).array > 0)


def test_it_can_be_cancelled_before_each_value() -> None:
    def cancel() -> None:
        raise Cancelled

    labels = np.ones((2, 2, 2), np.uint8)
    keep_largest(labels, [], cancel)
    with pytest.raises(Cancelled):
        keep_largest(labels, [1], cancel)
