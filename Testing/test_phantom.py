"""The phantom is the same object on every grid, with labels that are exact."""

from __future__ import annotations

import numpy as np
import pytest

from ScaleEquivSegLib.phantom import BODY, CHANNELS, HEAD, PhantomSpec, make_phantom

SMALL = {"size": (40, 40, 40), "spacing": (1.6, 1.6, 1.6)}


def test_a_seed_always_gives_the_same_phantom() -> None:
    first, again = (make_phantom(PhantomSpec(seed=7, **SMALL)) for _ in range(2))
    other = make_phantom(PhantomSpec(seed=8, **SMALL))
    assert np.array_equal(first.channels[0].array, again.channels[0].array)
    assert np.array_equal(first.labels.array, again.labels.array)
    assert not np.array_equal(first.labels.array, other.labels.array)


def test_both_parts_are_there_and_the_head_is_one_piece_with_the_body() -> None:
    labels = make_phantom(PhantomSpec(seed=1, **SMALL)).labels.array
    assert set(np.unique(labels)) == {0, HEAD, BODY}
    touching = np.zeros_like(labels, bool)
    for axis in range(3):
        touching |= (labels == HEAD) & (np.roll(labels, 1, axis) == BODY)
    assert touching.any()


def test_the_object_has_the_same_size_and_place_on_another_grid() -> None:
    turn = ((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, -1.0))  # oblique and left-handed
    coarse = make_phantom(PhantomSpec(seed=3, size=(64, 64, 64), spacing=(1, 1, 1))).labels
    fine = make_phantom(PhantomSpec(seed=3, size=(100, 100, 40), spacing=(0.9, 0.9, 2), direction=turn)).labels
    for value in (HEAD, BODY):
        volumes, centres = [], []
        for labels in (coarse, fine):
            index = np.argwhere(labels.array == value)[:, ::-1]
            volumes.append(len(index) * labels.geometry.voxel_ml)
            centres.append(labels.geometry.to_ras(index).mean(0))
        assert volumes[0] == pytest.approx(volumes[1], rel=0.05)
        assert np.allclose(*centres, atol=0.3)


def test_scale_magnifies_the_anatomy() -> None:
    one, larger = (make_phantom(PhantomSpec(seed=2, scale=s, **SMALL)).labels.array > 0 for s in (0.7, 0.91))
    assert larger.sum() / one.sum() == pytest.approx(1.3**3, rel=0.1)


def test_four_channels_show_the_same_object_in_different_contrasts() -> None:
    phantom = make_phantom(PhantomSpec(seed=4, channels=4, noise=0, **SMALL))
    assert len(phantom.channels) == len(CHANNELS) == 4
    head = phantom.labels.array == HEAD
    means = [volume.array[head].mean() for volume in phantom.channels]
    assert means[0] > 700 > 300 > means[2]
    assert phantom.channels[0].geometry is phantom.labels.geometry


def test_a_voxel_cut_by_the_surface_is_partly_bright() -> None:
    phantom = make_phantom(PhantomSpec(seed=5, noise=0, size=(64, 64, 64)))
    image, labels = phantom.channels[0].array, phantom.labels.array
    inside = image[labels == HEAD]
    assert np.median(inside) > 850
    assert (inside < 0.8 * np.median(inside)).any()
    assert (inside < 0.8 * np.median(inside)).mean() < 0.2
