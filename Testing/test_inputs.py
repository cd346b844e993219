"""Volumes that a bundle cannot take are refused with what to pick instead; what can be mended is mended with a note."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from ScaleEquivSegLib.bundles import Bundle, bundled_models, read_bundle
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.inputs import suitable
from ScaleEquivSegLib.provenance import voxels_sha256
from ScaleEquivSegLib.volume import Geometry, Volume, make_geometry


@pytest.fixture(scope="module")
def one_channel() -> Bundle:
    return read_bundle(bundled_models() / "phantom-unet")


@pytest.fixture(scope="module")
def two_channels(one_channel: Bundle) -> Bundle:
    channel = one_channel.inputs[0]
    return replace(one_channel, inputs=(channel, replace(channel, name="T2")))


def grid(size: tuple[int, int, int] = (20, 18, 16), spacing: float = 1.0, center: float = 0.0) -> Geometry:
    return make_geometry(size, (spacing,) * 3, np.eye(3), (center, 0, 0))


def noise(geometry: Geometry, seed: int = 0, dtype: str = "float32") -> Volume:
    return Volume(np.random.default_rng(seed).normal(100, 30, geometry.shape).astype(dtype), geometry)


def check(volumes: list[Volume], bundle: Bundle, replace_nonfinite: bool = False) -> tuple[list[Volume], list[str]]:
    return suitable(volumes, [voxels_sha256(volume) for volume in volumes], bundle, replace_nonfinite)


def test_ordinary_volumes_are_taken_as_they_are(two_channels: Bundle) -> None:
    volumes = [noise(grid(), 0), noise(grid(), 1, "int16")]
    taken, notes = check(volumes, two_channels)
    assert all(a is b for a, b in zip(taken, volumes, strict=True))
    assert notes == []


def test_a_wrong_number_of_volumes_is_refused_with_the_names_wanted(two_channels: Bundle) -> None:
    with pytest.raises(UnsuitableVolume, match=r"takes 2 volume\(s\) \(T1, T2\), got 1"):
        check([noise(grid())], two_channels)


def test_the_same_image_for_two_channels_is_refused(two_channels: Bundle) -> None:
    with pytest.raises(UnsuitableVolume, match="T1 and T2 are the same image"):
        check([noise(grid()), noise(grid())], two_channels)


def test_two_channels_may_be_blank(two_channels: Bundle) -> None:
    blank = Volume(np.zeros(noise(grid()).array.shape, np.float32), grid())
    assert check([blank, blank], two_channels)[1] == []


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_a_label_map_is_refused(one_channel: Bundle, dtype: str) -> None:
    labels = (noise(grid()).array > 120).astype(dtype)
    with pytest.raises(UnsuitableVolume, match="Pick the image it was drawn on"):
        check([Volume(labels, grid())], one_channel)


def test_a_sheared_grid_is_refused(one_channel: Bundle) -> None:
    geometry = grid()
    matrix = geometry.ijk_to_ras.copy()
    matrix[0, 2] = 0.2
    with pytest.raises(UnsuitableVolume, match="sheared"):
        check([Volume(noise(geometry).array, Geometry(geometry.shape, matrix))], one_channel)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_grid_without_a_place_is_refused(one_channel: Bundle, value: float) -> None:
    matrix = grid().ijk_to_ras.copy()
    matrix[0, 0] = value
    with pytest.raises(UnsuitableVolume, match="no usable place"):
        check([Volume(noise(grid()).array, Geometry(grid().shape, matrix))], one_channel)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e35])
def test_numbers_that_are_none_are_counted_and_replaced_only_on_request(one_channel: Bundle, value: float) -> None:
    volume = noise(grid())
    lowest = volume.array.min()
    volume.array[0, 0, :3] = value
    with pytest.raises(UnsuitableVolume, match="3 of 5760 voxels"):
        check([volume], one_channel)
    (mended,), notes = check([volume], one_channel, replace_nonfinite=True)
    assert (mended.array[0, 0, :3] == lowest).all()
    assert np.array_equal(mended.array[1:], volume.array[1:])
    assert not (volume.array[0, 0, :3] == lowest).any()  # the caller's own array is as it was
    assert "3 voxels of T1" in notes[0]


def test_a_volume_of_no_numbers_at_all_is_refused_even_so(one_channel: Bundle) -> None:
    volume = Volume(np.full(grid().shape, np.nan), grid())
    with pytest.raises(UnsuitableVolume, match="All 5760 voxels of T1"):
        check([volume], one_channel, replace_nonfinite=True)


def test_a_channel_on_another_grid_is_noted(two_channels: Bundle) -> None:
    _, notes = check([noise(grid()), noise(grid((10, 9, 8), 2.0), 1)], two_channels)
    assert notes == ["T2 lies on another grid than T1 and was resampled onto that one."]


def test_a_channel_that_covers_only_a_part_is_noted_with_its_share(two_channels: Bundle) -> None:
    _, notes = check([noise(grid()), noise(grid(center=10.0), 1)], two_channels)
    assert "of which it covers 50%" in notes[0]


def test_channels_with_no_place_in_common_are_refused(two_channels: Bundle) -> None:
    with pytest.raises(UnsuitableVolume, match="T2 and T1 have no place in common"):
        check([noise(grid()), noise(grid(center=500.0), 1)], two_channels)


def test_an_input_is_known_by_its_voxels_in_whatever_order_they_lie_in_memory() -> None:
    volume = noise(grid(), dtype="int16")
    assert voxels_sha256(volume) == hashlib.sha256(volume.array.tobytes()).hexdigest()
    assert voxels_sha256(Volume(np.asfortranarray(volume.array), grid())) == voxels_sha256(volume)
    assert voxels_sha256(noise(grid(), 1, "int16")) != voxels_sha256(volume)
