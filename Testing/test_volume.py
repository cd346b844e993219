"""Volumes keep their place in the world through files, re-orientation and resampling."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from random_grids import geometries, rotation
from ScaleEquivSegLib.errors import UnreadableVolume, UnsuitableVolume, UnwritableOutput
from ScaleEquivSegLib.volume import (
    AxisOrder,
    Geometry,
    Volume,
    make_geometry,
    read_volume,
    resample,
    to_sitk,
    working_geometry,
    write_volume,
)


def numbered(geometry: Geometry) -> Volume:
    return Volume(np.arange(np.prod(geometry.shape), dtype=np.int32).reshape(geometry.shape), geometry)


@settings(max_examples=60, deadline=None)
@given(geometry=geometries())
def test_indices_lie_where_simpleitk_puts_them(geometry: Geometry) -> None:
    image = to_sitk(numbered(geometry))
    for index in (np.zeros(3, int), geometry.size - 1):
        left, back, up = image.TransformIndexToPhysicalPoint(index.tolist())
        assert np.allclose(geometry.to_ras(index), [-left, -back, up], atol=1e-6)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "AIL"])
def test_reordered_axes_point_where_they_were_asked_to(orientation: str) -> None:
    letters = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    volume = numbered(make_geometry((2, 3, 4), (1, 2, 3), np.eye(3)[:, [2, 0, 1]] * [1, -1, 1], (0, 0, 0)))
    direction = AxisOrder.towards(volume.geometry.direction, orientation).apply(volume).geometry.direction
    for axis, letter in enumerate(orientation):
        row, sign = letters[letter]
        assert direction[row, axis] == pytest.approx(sign)


@settings(max_examples=30, deadline=None)
@given(geometry=geometries(), spacing=st.floats(0.5, 3))
def test_the_working_grid_covers_the_same_box(geometry: Geometry, spacing: float) -> None:
    target = working_geometry(geometry, np.full(3, spacing))
    middle = [g.to_ras((g.size - 1) / 2) for g in (geometry, target)]
    assert np.allclose(*middle, atol=1e-6)
    extent = geometry.size * geometry.spacing
    assert np.all(np.abs(target.size * spacing - extent) <= np.maximum(spacing / 2 + 1e-6, spacing - extent))


def test_resampling_keeps_a_smooth_image_where_it_is() -> None:
    direction = rotation(4, left_handed=True)
    source = make_geometry((30, 40, 12), (1.0, 0.7, 2.5), direction, (10, -20, 30))
    target = working_geometry(source, np.array([1.5, 1.5, 1.5]))

    def ramp(geometry: Geometry) -> np.ndarray:
        k, j, i = np.indices(geometry.shape)
        return geometry.to_ras(np.stack([i, j, k], -1)) @ [1.0, 2.0, -1.0]

    moved = resample(Volume(ramp(source), source), target)
    inside = (slice(2, -2),) * 3
    assert np.abs(moved.array - ramp(target))[inside].max() < 0.05


def test_resampling_onto_a_coarser_grid_does_not_alias() -> None:
    source = make_geometry((64, 4, 4), (1, 1, 1), np.eye(3), (0, 0, 0))
    stripes = np.broadcast_to((-1.0) ** np.arange(64), source.shape)
    coarse = resample(Volume(stripes, source), working_geometry(source, np.array([3.0, 1, 1])))
    assert np.abs(coarse.array[:, :, 2:-2]).max() < 0.05


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_resampling_copies_a_volume_no_more_than_once_and_leaves_it_as_it_is(dtype: type) -> None:
    fine = make_geometry((64, 96, 96), (1, 0.8, 0.9), np.eye(3), (0, 0, 0))
    values = np.random.default_rng(0).integers(0, 1000, fine.shape).astype(dtype)
    before = values.copy()
    tracemalloc.start()
    coarse = resample(Volume(values, fine), working_geometry(fine, np.array([2.0, 2.0, 2.0])))
    _now, most = tracemalloc.get_traced_memory()  # of numpy; ITK copies once more
    tracemalloc.stop()
    assert most < 1.2 * 4 * values.size + coarse.array.nbytes
    assert np.array_equal(values, before)


def test_the_same_grid_is_not_resampled_at_all() -> None:
    volume = numbered(make_geometry((3, 4, 5), (1.0004, 1, 1), rotation(1), (0, 0, 0)))
    assert working_geometry(volume.geometry, np.ones(3)) is volume.geometry
    assert resample(volume, volume.geometry) is volume


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVolume, match=r"nothing\.nrrd does not exist"):
        read_volume(tmp_path / "nothing.nrrd")


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.nrrd").write_text("no image")
    with pytest.raises(UnreadableVolume, match=r"text\.nrrd"):
        read_volume(tmp_path / "text.nrrd")


def test_a_colour_image_and_a_time_series_are_refused_with_what_to_pick(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image(3, 3, 3, sitk.sitkVectorUInt8), str(tmp_path / "rgb.nrrd"))
    with pytest.raises(UnsuitableVolume, match="pick a scalar volume"):
        read_volume(tmp_path / "rgb.nrrd")
    sitk.WriteImage(sitk.Image([3, 3, 3, 2], sitk.sitkInt16), str(tmp_path / "4d.nrrd"))
    with pytest.raises(UnsuitableVolume, match="pick a 3D volume"):
        read_volume(tmp_path / "4d.nrrd")


def test_an_empty_folder_is_no_dicom_series(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVolume, match="no DICOM series"):
        read_volume(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    volume = numbered(make_geometry((1, 1, 1), (1, 1, 1), np.eye(3), (0, 0, 0)))
    with pytest.raises(UnwritableOutput, match="file"):
        write_volume(volume, tmp_path / "file" / "volume.nrrd")


NOISE = Volume(
    np.random.default_rng(0).integers(0, 30_000, (30, 40, 50)).astype(np.int16),
    make_geometry((50, 40, 30), (1, 1, 1), np.eye(3), (0, 0, 0)),
)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk with so many bytes left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def without_rights() -> Iterator[None]:
    """As nobody, if the tests run as root, whom nothing is forbidden."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_full_disk_is_named_and_leaves_the_folder_as_it_was(suffix: str, compress: bool, tmp_path: Path) -> None:
    path = tmp_path / f"volume{suffix}"
    path.write_text("what was there before")
    with files_of_at_most(40_000), pytest.raises(UnwritableOutput, match=f"{path} cannot be written"):
        write_volume(NOISE, path, compress=compress)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there before"


def test_a_read_only_folder_is_named_and_stays_empty(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with without_rights(), pytest.raises(UnwritableOutput, match=r"cannot be written: .*[Pp]ermission denied"):
        write_volume(NOISE, tmp_path / "volume.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_for_the_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match="too long"):
        write_volume(NOISE, tmp_path / ("x" * 300 + ".nrrd"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    write_volume(NOISE, tmp_path / "Ergebnisse für" / "tête" / "volume.nrrd")
    assert np.array_equal(read_volume(tmp_path / "Ergebnisse für" / "tête" / "volume.nrrd").array, NOISE.array)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_header_values_stay_on_their_line_and_keep_their_letters(suffix: str, tmp_path: Path) -> None:
    header = {"Classes": "Hippocampe gauche, tête", "Lines": "one\r\nDimSize = 1 1 1\n\nsizes: 1 1 1", "Half": "\ud800"}
    write_volume(NOISE, tmp_path / f"volume{suffix}", header)
    assert np.array_equal(read_volume(tmp_path / f"volume{suffix}").array, NOISE.array)
    found = sitk.ReadImage(str(tmp_path / f"volume{suffix}"))
    assert found.GetMetaData("Classes") == "Hippocampe gauche, tête"
    assert found.GetMetaData("Lines") == "one DimSize = 1 1 1 sizes: 1 1 1"
    assert found.GetMetaData("Half") == "?"


def test_a_sheared_volume_is_not_written(tmp_path: Path) -> None:
    sheared = Geometry((2, 2, 2), np.eye(4) + 0.2 * np.eye(4, k=1))
    with pytest.raises(UnsuitableVolume, match="not perpendicular"):
        write_volume(numbered(sheared), tmp_path / "volume.nrrd")
    assert list(tmp_path.iterdir()) == []
