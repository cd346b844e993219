"""A region of interest: labels in it are those of the whole run, there are none outside, and less is computed."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_grids import geometries, rotation
from ScaleEquivSegLib.answers import Models, answer
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.comparison import dice
from ScaleEquivSegLib.errors import BadRegion
from ScaleEquivSegLib.inference import Mirror, WorkingImage, score_planes, slices
from ScaleEquivSegLib.networks.sweep import Part, reach_of, whole
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.provenance import read_provenance
from ScaleEquivSegLib.request import request_from
from ScaleEquivSegLib.roi import Box, read_roi
from ScaleEquivSegLib.scale_sweep import scale_sweep
from ScaleEquivSegLib.scaling import magnified, magnified_labels
from ScaleEquivSegLib.segmentation import Model, Settings, load_model, segment
from ScaleEquivSegLib.volume import Geometry, Volume, make_geometry, read_volume
from training.fields import field
from untrained import UNETS, untrained

pytestmark = pytest.mark.usefixtures("seeded")

UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
OBLIQUE = ((0.8, 0.6, 0.0), (-0.6, 0.8, 0.0), (0.0, 0.0, -1.0))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def baseline() -> Model:
    """It keeps every piece that it finds: else the largest in a box may be another than that of the whole run."""
    model = load_model(read_bundle(bundled_models() / "phantom-unet"))
    return replace(model, bundle=replace(model.bundle, in_one_piece=()))


def box(seed: int, centre: Any = (0, 0, 0), sides: Any = (10, 20, 30)) -> Box:
    return Box.from_values({"centre": list(centre), "axes": rotation(seed).T.tolist(), "sides": list(sides)})


# Which voxels are in a box


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grid=geometries(), seed=st.integers(0, 999), sides=st.tuples(*[st.floats(0.5, 30)] * 3), data=st.data())
def test_the_voxels_in_a_box_are_those_whose_centre_is(
    grid: Geometry, seed: int, sides: tuple[float, ...], data: st.DataObject
) -> None:
    index = [data.draw(st.integers(0, int(size) - 1)) for size in grid.size]
    roi = box(seed, grid.to_ras(np.array(index)) + 0.1, sides)
    bounds, inside = roi.voxels_in(grid)
    found = np.zeros(grid.shape, bool)
    found[slices(bounds)[::-1]] = inside
    k, j, i = np.indices(grid.shape)  # an independent way: all positions, seen from the box
    in_box = (grid.to_ras(np.stack([i, j, k], -1)) - np.array(roi.centre)) @ np.array(roi.axes).T
    assert np.array_equal(found, (np.abs(in_box) <= np.array(sides) / 2).all(-1))


def test_a_voxel_whose_centre_is_on_a_face_lies_in_the_box() -> None:
    grid = make_geometry((9, 9, 9), (0.1, 0.3, 0.7), np.eye(3), (0, 0, 0))
    bounds, inside = Box((0.0, 0.0, 0.0), UPRIGHT, (0.6, 0.6, 1.4)).voxels_in(grid)
    assert [len(indices) for indices in bounds] == [7, 3, 3]
    assert inside.all()


@pytest.mark.parametrize(("centre", "sides"), [((900, 0, 0), (9, 9, 9)), ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))])
def test_a_box_that_holds_no_voxel_is_refused_with_the_place_of_the_volume(
    baseline: Model, centre: tuple[float, ...], sides: tuple[float, ...]
) -> None:
    grid = make_geometry((9, 9, 9), (1, 1, 1), np.eye(3), (0, 0, 0))
    for values in (np.arange(729.0).reshape(9, 9, 9), np.zeros((9, 9, 9))):
        with pytest.raises(BadRegion, match=r"holds no voxel of the volume, which lies between \(-4 -4 -4\)"):
            segment([Volume(values, grid)], baseline, Settings("cpu"), roi=box(0, centre, sides))


GOOD = {"centre": [1, 2.5, 3], "axes": [list(axis) for axis in UPRIGHT], "sides": [1, 1, 1]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"centre": [1, 2]}, "'centre' of a region"),
        ({"centre": "abc"}, "'centre' of a region"),
        ({"centre": [True, 1, 1]}, "'centre' of a region"),
        ({"centre": None}, "'centre' of a region"),
        ({"centre": [float("nan"), 0, 0]}, "unit vectors at right angles"),
        ({"axes": [[1, 0, 0], [0, 1, 0]]}, "three unit vectors"),
        ({"axes": 3}, "three unit vectors"),
        ({"axes": [[1, 0, 0], [0, 1, 0], [0, 1, 0]]}, "right angles"),
        ({"axes": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "right angles"),
        ({"sides": [1, 0, 1]}, "longer than zero"),
        ({"sides": [1, -1, 1]}, "longer than zero"),
        ({"sides": [1, float("inf"), 1]}, "in numbers"),
        ({"colour": "red"}, "nothing else"),
    ],
)
def test_what_is_no_box_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRegion, match=reason):
        Box.from_values({**GOOD, **change})


def test_a_box_is_the_same_after_a_way_through_json() -> None:
    roi = Box.from_values(GOOD)
    assert Box.from_values(json.loads(roi.text())) == roi


# Scores of a part


@pytest.mark.parametrize(("name", "mirror"), [*((name, None) for name in UNETS), ("se_unet", Mirror(1, (0, 2, 1)))])
def test_scores_of_a_part_are_those_of_the_whole(name: str, mirror: Mirror | None) -> None:
    network = untrained(name)
    values = field(84, 1.0, "natural", 3)[0, 0, :6, :, :76].numpy()  # far wider than the network sees
    image = WorkingImage([values], [np.asarray])
    part = (range(30, 40), range(70, 76), range(3, 5))
    with torch.inference_mode():
        planes = score_planes(network, image, CPU, mirror=mirror)
        wanted = planes.reader()(0, planes.count)[(slice(None), *slices(part))]
        for slab in (None, 3):
            found = score_planes(network, image, CPU, slab=slab, mirror=mirror, part=part)
            indices = part[found.axis]
            assert torch.allclose(found.reader()(indices.start, indices.stop), wanted, atol=1e-5)


def test_where_part_and_volume_are_cut_matters_to_no_score() -> None:
    network = untrained("se_unet", scale_axis={"first": 0.8, "ratio": 2**0.5, "count": 2}, channels=(2, 3, 4))
    image = WorkingImage([field(61, 1.0, "natural", 3)[0, 0, :7, :, :60].numpy()], [np.asarray])
    assert reach_of(network) * 0.8 < 60
    with torch.inference_mode():
        planes = score_planes(network, image, CPU)
        everything = planes.reader()(0, planes.count).clone()
        for first in (0, 1, 2, 3, 21, 55, 59):
            part: Part = (range(first, first + 1), range(first, first + 1), range(6, 7))
            found = score_planes(network, image, CPU, part=part).reader()(first, first + 1)
            assert torch.allclose(found, everything[(slice(None), *slices(part))], atol=1e-5)


def test_far_less_is_lifted_and_nothing_is_computed_before_what_a_small_part_needs() -> None:
    network = untrained("unet")
    values = field(90, 1.0, "natural", 3)[0, 0, :8].numpy()
    seen: list[Part] = []

    class Watched(WorkingImage):
        def voxels(self, part: Part) -> torch.Tensor:
            seen.append(part)
            return super().voxels(part)

    with torch.inference_mode():
        reader = score_planes(
            network, Watched([values], [np.asarray]), CPU, part=(range(80, 84), range(80, 84), range(8))
        )
        reader.reader()(80, 84)
    assert min(part[0].start for part in seen) > 80 - 2 * reach_of(network)
    assert all(part[1].start > 80 - 2 * reach_of(network) for part in seen)
    assert whole((90, 90, 8)) not in seen


def test_the_progress_of_a_part_rises_and_gets_far() -> None:
    image = WorkingImage([field(80, 1.0, "natural", 3)[0, 0, :8].numpy()], [np.asarray])
    fractions: list[float] = []
    with torch.inference_mode():
        part = (range(30, 45), range(80), range(8))
        planes = score_planes(untrained("unet"), image, CPU, fractions.append, 4, part=part)
        planes.reader()(30, 45)
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.5 < 0.7 < fractions[-1] <= 1


# Labels


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 1.2, 2.5)])
@pytest.mark.parametrize("mirror", [False, True])
def test_labels_in_a_box_are_those_of_the_run_without_and_there_are_none_outside(
    baseline: Model, spacing: tuple[float, float, float], mirror: bool
) -> None:
    turn = np.array([[0, 0, -1], [0.96, -0.28, 0], [0.28, 0.96, 0]])
    spec = PhantomSpec(seed=2, size=(40, 36, 30), spacing=spacing, direction=tuple(map(tuple, turn)))
    volume = make_phantom(spec).channels[0]
    everywhere = segment([volume], baseline, Settings("cpu", mirror=mirror))
    middle = volume.geometry.to_ras(np.argwhere(everywhere.labels.array)[:, ::-1].mean(0))
    roi = box(3, middle, (8, 12, 15))
    found = segment([volume], baseline, Settings("cpu", mirror=mirror), roi=roi)
    bounds, mask = roi.voxels_in(volume.geometry)
    inside = np.zeros(volume.geometry.shape, bool)
    inside[slices(bounds)[::-1]] = mask
    assert found.labels.array[inside].any()
    assert np.array_equal(found.labels.array, np.where(inside, everywhere.labels.array, 0))
    for label in baseline.bundle.labels:
        millilitres = (found.labels.array == label.value).sum() * volume.geometry.voxel_ml
        assert found.ml[label.name] == pytest.approx(float(millilitres))
    assert Box.from_values(json.loads(found.provenance()["roi"])) == roi
    assert "roi" not in everywhere.provenance()


def test_a_network_that_sees_all_at_once_labels_a_box_too() -> None:
    bundle = replace(read_bundle(bundled_models() / "phantom-unet"), in_one_piece=())
    network = untrained("dynamic_se_unet", attention="scale")
    assert not network.sweepable
    volume = make_phantom(PhantomSpec(seed=2, size=(14, 12, 10))).channels[0]
    model = Model(bundle, network)
    everywhere = segment([volume], model, Settings("cpu")).labels.array
    roi = Box(tuple(volume.geometry.to_ras(np.array([7.0, 6, 5]))), UPRIGHT, (6, 6, 6))  # type: ignore[arg-type]
    found = segment([volume], model, Settings("cpu"), roi=roi).labels.array
    assert everywhere[roi.voxels_in(volume.geometry)[0][2].start].any()
    bounds, inside = roi.voxels_in(volume.geometry)
    part = slices(bounds)[::-1]
    assert np.array_equal(found[part], everywhere[part] * inside)
    assert found.sum() == (everywhere[part] * inside).sum()


# Scales


def test_a_sweep_of_a_box_has_the_figures_of_the_whole_runs_where_the_same_anatomy_is(baseline: Model) -> None:
    spec = PhantomSpec(seed=2, size=(30, 28, 24), spacing=(0.8, 1.0, 1.2), direction=OBLIQUE)
    phantom = make_phantom(spec)
    volume, grid = phantom.channels[0], phantom.labels.geometry
    middle = grid.to_ras(np.argwhere(phantom.labels.array)[:, ::-1].mean(0))
    roi, scales = box(3, middle, (7, 9, 11)), (0.7, 1.0, 1.3)
    sweep = scale_sweep([volume], baseline, scales, phantom.labels, Settings("cpu"), roi=roi)
    unscaled = segment([volume], baseline, Settings("cpu")).labels
    for scale, at in zip(scales, sweep, strict=True):
        found = segment([magnified(volume, scale)], baseline, Settings("cpu")).labels
        k, j, i = np.indices(found.geometry.shape)
        whence = (found.geometry.to_ras(np.stack([i, j, k], -1)) - grid.to_ras((grid.size - 1) / 2)) / scale
        in_box = (whence + grid.to_ras((grid.size - 1) / 2) - middle) @ np.array(roi.axes).T
        inside = (np.abs(in_box) <= np.array(roi.sides) / 2).all(-1)
        assert 10 < inside.sum() < inside.size / 3
        for figures, other in ((at.with_itself, unscaled), (at.with_reference, phantom.labels)):
            expected = magnified_labels(other, scale, 2).array
            assert figures == {
                label.name: dice((found.array == label.value) & inside, (expected == label.value) & inside)
                for label in baseline.bundle.labels
            }
    assert sweep[1].with_itself == {"Head": 1, "Body": 1}
    assert all(0 < sweep[number].with_itself["Body"] < 1 for number in (0, 2))


def test_a_box_too_thin_for_a_scale_is_refused_before_anything_is_computed(baseline: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(24, 24, 24))).channels[0]
    thin, told = Box((0.5, 0.5, 0.5), UPRIGHT, (9.0, 9.0, 0.2)), []
    with pytest.raises(BadRegion, match=r"At scale 0\.7: .* holds no voxel"):
        scale_sweep([volume], baseline, (1.0, 0.7), progress=lambda phase, _: told.append(phase), roi=thin)
    assert not told


# The command line


def test_the_command_line_and_the_worker_sweep_a_box_alike(tmp_path: Path) -> None:
    assert main(["phantom", str(tmp_path), "--size", "20", "20", "20", "--seed", "2"]) == 0
    (image,) = (tmp_path / "images").iterdir()
    path = slicer_file(tmp_path / "roi.mrk.json", box(4, (1, 2, 3), (12, 14, 16)), 0)
    tables = ["--json", str(tmp_path / "f.json"), "--csv", str(tmp_path / "f.csv")]
    command = ["scale-sweep", str(image), "--bundle", "phantom-unet", "--scales", "0.8", "--device", "cpu", *tables]
    assert main([*command, "--roi", str(path)]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert Box.from_values(json.loads(figures["roi"])) == read_roi(path)
    with (tmp_path / "f.csv").open(newline="") as stream:
        assert {row["roi"] for row in csv.DictReader(stream)} == {figures["roi"]}
    content = {"bundle": str(bundled_models() / "phantom-unet"), "inputs": [str(image)], "scales": [0.8]}
    region = read_roi(path).as_values()
    request = request_from(
        json.loads(json.dumps({"type": "sweep", "id": "s", "roi": region, "device": "cpu", **content}))
    )
    (at,) = answer(request, Models(), lambda phase, fraction: None)["scales"]
    for label, found in at["with_itself"].items():
        assert figures[f"phantom-unet.dice_with_itself.{label}@0.8"] == found
    assert main([*command, "--overwrite", "--roi", str(image)]) == 14


def test_the_command_line_takes_a_file_of_slicer_and_says_so_in_the_result(tmp_path: Path) -> None:
    assert main(["phantom", str(tmp_path), "--size", "24", "24", "24", "--seed", "2"]) == 0
    (image,) = (tmp_path / "images").iterdir()
    path = slicer_file(tmp_path / "roi.mrk.json", box(4, (1, 2, 3), (12, 14, 16)), 0)
    command = ["segment", str(image), "-o", str(tmp_path / "out" / f"{image.stem}.seg.nrrd"), "--device", "cpu"]
    command += ["--bundle", "phantom-unet"]
    assert main([*command, "--roi", str(path)]) == 0
    (output,) = (tmp_path / "out").iterdir()
    roi = Box.from_values(json.loads(read_provenance(output)["roi"]))
    assert roi == read_roi(path)
    whole_run = segment([read_volume(image)], load_model(read_bundle(bundled_models() / "phantom-unet")), roi=roi)
    assert np.array_equal(read_volume(output).array, whole_run.labels.array)
    assert main([*command, "--overwrite", "--roi", str(image)]) == 14
    cases = ["segment", "--cases", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "--bundle", "phantom-unet"]
    assert main([*cases, "--roi", str(path)]) == 14
    assert main(cases) == 7  # what was labelled in a box only is no finished case


# Files


def slicer_file(path: Path, roi: Box, system: int) -> Path:
    """What Slicer itself writes of a box."""
    node = slicer.vtkMRMLMarkupsROINode()
    matrix = slicer.util.vtkMatrixFromArray(
        np.vstack([np.column_stack([np.array(roi.axes).T, roi.centre]), [0, 0, 0, 1]])
    )
    node.SetAndObserveObjectToNodeMatrix(matrix)
    node.SetSize(*roi.sides)
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    storage.SetCoordinateSystem(system)
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_a_file_that_slicer_wrote_is_read_as_the_box_that_it_was(tmp_path: Path, system: str) -> None:
    number = getattr(slicer.vtkMRMLStorageNode, f"CoordinateSystem{system}")
    roi = box(5, (1.25, -40, 7), (3, 4, 5))
    path = slicer_file(tmp_path / "roi ü.mrk.json", roi, number)
    assert json.loads(path.read_text())["markups"][0]["coordinateSystem"] == system
    found = read_roi(path)
    for name in ("centre", "axes", "sides"):
        assert np.allclose(getattr(found, name), getattr(roi, name))


MARKUP = {
    "type": "ROI",
    "coordinateSystem": "LPS",
    "coordinateUnits": "mm",
    "roiType": "Box",
    "center": [0, 0, 0],
    "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
    "size": [1, 2, 3],
    "insideOut": False,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "Fiducial"}, "'type' is 'Fiducial', must be 'ROI'"),
        ({"roiType": "BoundingBox"}, "'roiType'"),
        ({"coordinateSystem": "IJK"}, "'coordinateSystem'"),
        ({"coordinateSystem": ["LPS"]}, "'coordinateSystem'"),
        ({"coordinateUnits": "um"}, "'coordinateUnits'"),
        ({"insideOut": True}, "'insideOut'"),
        ({"center": [1, 2]}, "'center'"),
        ({"size": None}, "'sides'"),
        ({"size": [1, 2, 0]}, "longer than zero"),
        ({"orientation": [1, 0, 0]}, "nine numbers"),
        ({"orientation": ["1"] * 9}, "'orientation'"),
        ({"orientation": [1] * 9}, "right angles"),
    ],
)
def test_a_markup_that_is_no_box_is_refused_by_name(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "roi.mrk.json"
    path.write_text(json.dumps({"markups": [MARKUP]}))
    assert read_roi(path).sides == (1, 2, 3)
    path.write_text(json.dumps({"markups": [{**MARKUP, **change}]}))
    with pytest.raises(BadRegion, match=rf"{path.name}: .*{reason}"):
        read_roi(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{}", b"[]", b'{"markups": []}', b'{"markups": [1]}', b"[" * 100_000, b"NRRD0004\n"]
)
def test_a_file_of_something_else_is_refused_with_what_to_give(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "roi.mrk.json").write_bytes(content)
    for path in (tmp_path / "roi.mrk.json", tmp_path / "missing.json", tmp_path):
        with pytest.raises(BadRegion, match=r"save a Markups ROI from Slicer as \.mrk\.json"):
            read_roi(path)
