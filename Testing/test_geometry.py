"""Whatever the grid, a voxel stays where it is in the world: through files, axes in another order, other grids, and a
whole segmentation, whose network here only compares its input with a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from random_grids import directions, geometries, rotation
from ScaleEquivSegLib.bundles import Bundle, Channel, Label, bundled_models, read_bundle
from ScaleEquivSegLib.labelmap import read_labelmap, segment_header
from ScaleEquivSegLib.networks import SegmentationNetwork
from ScaleEquivSegLib.segmentation import Model, Settings, segment
from ScaleEquivSegLib.shades import Percentiles
from ScaleEquivSegLib.volume import (
    AxisOrder,
    Geometry,
    Volume,
    interpolation_reach,
    interpolation_weights,
    make_geometry,
    read_volume,
    resample,
    working_geometry,
    write_volume,
)

ORIENTATIONS = ["RAS", "LPS", "LIP", "PIR", "SAL", "AIL"]
properties = settings(deadline=None, derandomize=True, max_examples=40)


def indices(geometry: Geometry) -> np.ndarray:
    """All i, j, k of a grid, (k, j, i, 3)."""
    return np.stack(np.indices(geometry.shape)[::-1], -1)


def numbered(geometry: Geometry) -> Volume:
    return Volume(np.arange(np.prod(geometry.shape), dtype=np.int32).reshape(geometry.shape), geometry)


@properties
@given(geometry=geometries(), orientation=st.sampled_from(ORIENTATIONS))
def test_every_value_keeps_its_place_when_axes_change_and_comes_back(geometry: Geometry, orientation: str) -> None:
    volume = numbered(geometry)
    order = AxisOrder.towards(geometry.direction, orientation)
    turned = order.apply(volume)
    places = geometry.to_ras(indices(geometry)).reshape(-1, 3)
    found = turned.geometry.to_ras(indices(turned.geometry)).reshape(-1, 3)
    assert np.abs(found - places[turned.array.ravel()]).max() < 1e-9
    assert np.array_equal(order.undo(turned.array), volume.array)


NIFTI_BOUND_MM = 1e-4
"""NIfTI stores float32: half a unit in the last of 24 bits of 500 mm is 1.5e-5 mm, and a few of these add up."""
FORMATS = {".nrrd": 1e-9, ".mha": 1e-9, ".nii": NIFTI_BOUND_MM, ".nii.gz": NIFTI_BOUND_MM}


@pytest.mark.parametrize("suffix", FORMATS)
@properties
@given(
    geometry=geometries(),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    compress=st.booleans(),
)
@example(geometry=make_geometry((1, 1, 1), (1, 2, 3), np.eye(3), (0, 0, 0)), dtype="int16", compress=True)
@example(geometry=make_geometry((5, 4, 1), (0.3, 0.3, 6), rotation(3, True), (1, 2, 3)), dtype="uint8", compress=True)
def test_a_file_gives_back_place_and_values(
    suffix: str, geometry: Geometry, dtype: str, compress: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("file") / f"volume{suffix}"
    bits = np.random.default_rng(0).bytes(int(np.prod(geometry.shape)) * np.dtype(dtype).itemsize)
    array = np.nan_to_num(np.frombuffer(bits, dtype).reshape(geometry.shape))
    write_volume(Volume(array, geometry), path, compress=compress)
    found = read_volume(path)
    assert found.geometry.agrees_with(geometry, FORMATS[suffix])
    assert found.array.dtype == array.dtype
    assert np.array_equal(found.array, array)


@properties
@given(geometry=geometries())
def test_a_segmentation_file_gives_back_place_labels_and_names(
    geometry: Geometry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.seg.nrrd"
    array = np.random.default_rng(0).integers(0, 3, geometry.shape).astype(np.uint8)
    labels = [Label(1, "Hippocampe gauche, tête", (1, 2, 3), {}), Label(2, "Körper", (4, 5, 6), {})]
    write_volume(Volume(array, geometry), path, segment_header(labels, geometry))
    found = read_labelmap(path)
    assert found.volume.geometry.agrees_with(geometry, 1e-9)
    assert np.array_equal(found.volume.array, array)
    assert found.names == {1: "Hippocampe gauche, tête", 2: "Körper"}


# Resampling


def linear(geometry: Geometry) -> np.ndarray:
    """A linear function of the position in the world."""
    return geometry.to_ras(indices(geometry)) @ [1.0, 2.0, -1.5] + 7


def source_indices(source: Geometry, target: Geometry) -> np.ndarray:
    """Where the voxels of a grid lie on another, in its i, j, k."""
    places = target.to_ras(indices(target)) - source.ijk_to_ras[:3, 3]
    return places @ np.linalg.inv(source.ijk_to_ras[:3, :3]).T


@properties
@given(source=geometries(12, 16), direction=directions(), coarser=st.floats(0.3, 3))
def test_a_linear_function_of_the_place_is_resampled_exactly(
    source: Geometry, direction: np.ndarray, coarser: float
) -> None:
    center = source.to_ras((source.size - 1) / 2)
    target = make_geometry((7, 5, 5), source.spacing.min() * coarser * np.array([1, 1.1, 1.3]), direction, center)
    found = resample(Volume(linear(source), source), target).array
    at = source_indices(source, target)
    # A blur reaches so far, along axes that lose resolution; nearer to the ends they are repeated.
    reach = np.ceil(1.2 * 1.3 * coarser)
    inside = np.all((at >= reach) & (at <= source.size - 1 - reach), axis=-1)
    assert np.abs(found - linear(target))[inside].max() < 1e-3


@properties
@given(source=geometries(1, 8), direction=directions(), finer=st.floats(0.3, 1))
def test_resampling_interpolates_linearly_and_repeats_what_lies_at_the_border(
    source: Geometry, direction: np.ndarray, finer: float
) -> None:
    center = source.to_ras((source.size - 1) / 2)
    target = make_geometry((6, 5, 7), np.full(3, source.spacing.min() * finer), direction, center)
    values = np.random.default_rng(0).standard_normal(source.shape)
    found = resample(Volume(values, source), target).array
    at = source_indices(source, target)
    wanted = map_coordinates(values, np.moveaxis(at[..., ::-1], -1, 0), order=1, mode="nearest")
    inside = np.all((at > -0.499) & (at < source.size - 0.501), axis=-1)
    assert np.abs(found - wanted)[inside].max(initial=0) < 1e-5
    outside = np.any((at < -0.501) | (at > source.size - 0.499), axis=-1)
    assert np.isin(found[outside], values.astype(np.float32)).all()  # there it is the nearest voxel


@properties
@given(source=geometries(1, 10), spacing=st.tuples(*[st.floats(0.4, 5)] * 3))
def test_weights_along_each_axis_resample_as_a_whole(source: Geometry, spacing: tuple[float, ...]) -> None:
    target = working_geometry(source, np.array(spacing))
    values = np.random.default_rng(0).standard_normal(source.shape)
    found = resample(Volume(values, source), target).array
    i, j, k = interpolation_weights(source, target)
    assert np.abs(found - np.einsum("kji,xi,yj,zk->zyx", values, i, j, k, optimize=True)).max() < 1e-5


# A whole segmentation


class Threshold(SegmentationNetwork):
    """Finds what is brighter than half of the range in one of its channels."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, image: Tensor) -> Tensor:
        brightness = 8 * (image[:, self.channel] - 0.5)
        return torch.stack([-brightness, brightness], 1)

    def milestones(self) -> Sequence[nn.Module]:
        return ()


def bundle(orientation: str, spacing: Sequence[float], channels: int) -> Bundle:
    some = read_bundle(bundled_models() / "phantom-unet")
    x, y, z = spacing
    inputs = tuple(Channel(f"channel {n}", "MR", (), Percentiles(0, 100)) for n in range(channels))
    return replace(some, orientation=orientation, spacing=(x, y, z), inputs=inputs, labels=some.labels[:1])


def ball(geometry: Geometry, center: np.ndarray, radius: float) -> Volume:
    """Bright inside, dark outside, with an edge as wide as the radius, so that every grid shows where it ends."""
    distance = np.linalg.norm(geometry.to_ras(indices(geometry)) - center, axis=-1)
    return Volume(np.clip(1 - distance / radius / 1.5, 0, 1).astype(np.float32), geometry)


RADIUS = 2.5
"""Of a ball, in voxels of the coarsest grid."""


@st.composite
def scenes(draw: st.DrawFn, channels: int) -> tuple[list[Geometry], np.ndarray, float, list[float]]:
    """Grids around a point, the point, a radius that all of them resolve, and a working spacing."""
    coarsest = draw(st.floats(0.5, 6))
    fractions = st.floats(0.25, 1)
    point = np.array([draw(st.floats(-200, 200)) for _ in range(3)])
    grids = []
    for _ in range(channels):
        spacing = np.maximum(0.3, coarsest * np.array([draw(fractions) for _ in range(3)]))
        i, j, k = np.ceil(14 * coarsest / spacing).astype(int)
        off_centre = np.array([draw(st.floats(-2, 2)) for _ in range(3)]) * coarsest
        grids.append(make_geometry((i, j, k), spacing, draw(directions()), point + off_centre))
    return grids, point, RADIUS * coarsest, [coarsest * draw(fractions) for _ in range(3)]


def point_grid(point: np.ndarray) -> Geometry:
    """A grid of one voxel."""
    return make_geometry((1, 1, 1), (1, 1, 1), np.eye(3), point)


def found_center(labels: Volume) -> np.ndarray:
    return labels.geometry.to_ras(np.argwhere(labels.array)[:, ::-1]).mean(0)


@pytest.mark.parametrize("channels", [1, 2])
@settings(properties, max_examples=30)
@given(data=st.data(), orientation=st.sampled_from(ORIENTATIONS))
def test_a_ball_at_a_known_point_is_found_there_on_the_grid_of_the_first_channel(
    channels: int, data: st.DataObject, orientation: str
) -> None:
    grids, point, radius, working = data.draw(scenes(channels))
    volumes = [numbered(grids[0]), ball(grids[-1], point, radius)][-channels:]
    model = Model(bundle(orientation, working, channels), Threshold(channels - 1))
    labels = segment(volumes, model, Settings(device="cpu")).labels
    assert labels.geometry is grids[0]
    at_point = tuple(np.round(source_indices(grids[0], point_grid(point))).astype(int)[0, 0, 0, ::-1])
    assert labels.array[at_point] == 1
    assert labels.array[0, 0, 0] == 0
    # Half of the half voxel by which grids are easily mistaken, of the input or of the network.
    coarsest = radius / RADIUS
    assert np.linalg.norm(found_center(labels) - point) < min(0.25 * coarsest, np.linalg.norm(grids[0].spacing) / 4)


@pytest.mark.parametrize("coarser", [0.6, 1.0, 1.6, 2.5, 10])
def test_no_voxel_is_interpolated_from_further_away_than_the_reach(coarser: float) -> None:
    source = make_geometry((90, 3, 3), (1, 1, 1), np.eye(3), (0, 0, 0))
    target = make_geometry((7, 3, 3), (coarser, 1, 1), np.eye(3), (0.3, 0, 0))
    used = interpolation_weights(source, target)[0] > 0
    places = 44.5 + 0.3 + coarser * (np.arange(7) - 3)
    furthest = max(np.abs(np.flatnonzero(row) - place).max() for row, place in zip(used, places, strict=True))
    reach = interpolation_reach(source, target)
    assert reach - 1 < furthest <= reach
