"""Volumes keep their place in the world through files, re-orientation and resampling."""

from __future__ import annotations

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


@settings(max_examples=40, deadline=None)
@given(geometry=geometries())
def test_a_volume_comes_back_from_an_nrrd_file_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, geometry: Geometry
) -> None:
    path = tmp_path_factory.mktemp("nrrd") / "volume.nrrd"
    write_volume(numbered(geometry), path, {"ScaleEquivSeg_test": "ä value"})
    back = read_volume(path)
    assert back.geometry.agrees_with(geometry, tolerance_mm=1e-9)
    assert np.array_equal(back.array, numbered(geometry).array)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@settings(max_examples=60, deadline=None)
@given(geometry=geometries())
def test_indices_lie_where_simpleitk_puts_them(geometry: Geometry) -> None:
    image = to_sitk(numbered(geometry))
    for index in (np.zeros(3, int), geometry.size - 1):
        left, back, up = image.TransformIndexToPhysicalPoint(index.tolist())
        assert np.allclose(geometry.to_ras(index), [-left, -back, up], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(geometry=geometries(), orientation=st.sampled_from(["RAS", "LPS", "PIR", "SAL"]))
def test_reordering_axes_moves_no_voxel_in_the_world(geometry: Geometry, orientation: str) -> None:
    volume = numbered(geometry)
    order = AxisOrder.towards(geometry.direction, orientation)
    turned = order.apply(volume)
    for index in np.ndindex(*turned.array.shape):
        where = turned.geometry.to_ras(np.array(index[::-1]))
        old = np.linalg.solve(geometry.ijk_to_ras[:3, :3], where - geometry.ijk_to_ras[:3, 3])
        k, j, i = np.round(old).astype(int)[::-1]
        assert volume.array[k, j, i] == turned.array[index]
    assert np.array_equal(order.undo(turned.array), volume.array)


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


def without_rights(command: str, folder: Path) -> str:
    """What a process prints that may write files of 50 kB at most, and nothing into folders that forbid it."""
    limits = "import os, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    give_up_rights = "if os.geteuid() == 0: os.seteuid(65534)\n"
    lines = f"""
import sys, numpy as np
from pathlib import Path
from ScaleEquivSegLib.errors import UnwritableOutput
from ScaleEquivSegLib.volume import Volume, make_geometry, write_volume
noise = np.random.default_rng(0).integers(0, 30_000, (40, 50, 60)).astype(np.int16)
volume = Volume(noise, make_geometry((60, 50, 40), (1, 1, 1), np.eye(3), (0, 0, 0)))
{limits}{give_up_rights if "read-only" in str(folder) else ""}
try:
    {command}
    print("written")
except UnwritableOutput as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", lines], env=environment, check=True, capture_output=True, text=True)
    return run.stdout


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_full_disk_is_named_and_leaves_the_folder_as_it_was(suffix: str, compress: bool, tmp_path: Path) -> None:
    path = tmp_path / f"volume{suffix}"
    path.write_text("what was there before")
    found = without_rights(f"write_volume(volume, Path({str(path)!r}), compress={compress})", tmp_path)
    assert f"{path} cannot be written" in found
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there before"
