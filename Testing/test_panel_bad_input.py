"""What must not hurt, clicked through: odd volumes, odd channels, too little memory, a full disk, odd paths, two
Slicers. What is no scan, constant or not finite, and what happens to the worker, is in the tests of the sections."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from safetensors.numpy import load_file, save_file

from panel_user import OBLIQUE, QUICK, ThisProcess, User, labels_of
from ScaleEquivSegLib import segmentation
from ScaleEquivSegLib.bundles import WEIGHTS
from ScaleEquivSegLib.inference import score_planes
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from test_bundles import change_card, vouch_for_weights
from test_panel_network import add_models, renamed
from worker_client import Client, request

LONG = "ein sehr langer Ordner für größere Modelle, 患者データ " * 4


def add_volume(array: np.ndarray, name: str = "scan") -> Any:
    return slicer.util.addVolumeFromArray(array, QUICK.geometry().ijk_to_ras, name=name)


def segmented(user: User, volume: Any) -> np.ndarray:
    """What the panel finds in a volume."""
    user.choose(volume)
    user.start()
    user.wait()
    assert user.status.startswith("Done."), user.status
    return labels_of(user.results[-1], volume)


@pytest.fixture
def computing(user: User) -> User:
    """A panel whose worker computes in this process."""
    user.quicken(ThisProcess)
    return user


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_numbers_of_any_type_are_segmented_alike(computing: User, dtype: str) -> None:
    array = make_phantom(QUICK).channels[0].array
    low, high = float(array.min()), float(array.max())
    small = np.round((array - low) / (high - low) * 100)  # what every type can hold
    wanted = segmented(computing, add_volume(small.astype(np.float32), "as float32"))
    assert len(np.unique(wanted)) == 3
    assert np.array_equal(segmented(computing, add_volume(small.astype(dtype))), wanted)


def test_values_that_are_no_numbers_are_counted_and_replaced_on_request(computing: User) -> None:
    array = make_phantom(QUICK).channels[0].array.astype(np.float32)
    array[0, 0, :3], array[0, 1, 0] = np.nan, np.inf
    volume = add_volume(array)
    computing.choose(volume)
    computing.start()
    computing.wait()
    assert "4 of 32768 voxels" in computing.status
    assert not computing.results
    computing.ui.advancedBox.collapsed = False
    computing.ui.replaceNonfiniteCheckBox.click()
    assert len(np.unique(segmented(computing, volume))) == 3
    assert "4 voxels of T1 that were NaN or infinite were taken as" in computing.status


def test_the_result_of_voxels_twenty_times_as_long_as_wide_lies_on_their_grid(computing: User) -> None:
    volume = computing.load(PhantomSpec(seed=1, size=(140, 120, 7), spacing=(0.3, 0.3, 6.0), direction=OBLIQUE))
    assert segmented(computing, volume).any()
    found = computing.results[-1].GetSegmentation().GetSegment("Segment_1").GetRepresentation("Binary labelmap")
    of_labels, of_volume = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    found.GetImageToWorldMatrix(of_labels)
    volume.GetIJKToRASMatrix(of_volume)
    np.testing.assert_allclose(*map(slicer.util.arrayFromVTKMatrix, (of_labels, of_volume)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 20), (24, 1, 30), (3, 2, 1)])
def test_a_volume_of_a_slice_or_a_voxel_has_labels_of_its_shape(computing: User, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    assert segmented(computing, add_volume(array)).shape == shape


def test_too_little_memory_takes_fewer_planes_finds_the_same_and_is_told(
    computing: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = computing.load(QUICK)
    wanted = segmented(computing, volume)
    asked = []

    def only_thin(*arguments: Any) -> Any:
        asked.append(arguments[4])
        if arguments[4] is None:
            raise MemoryError
        return score_planes(*arguments)

    monkeypatch.setattr(segmentation, "score_planes", only_thin)
    assert np.array_equal(segmented(computing, volume), wanted)
    assert asked[0] is None
    assert asked[1] > 0
    assert computing.status == f"Done. cpu ran out of memory; tried again with {asked[1]} plane(s) at a time."


def test_channels_on_different_grids_are_brought_onto_the_first_and_that_is_told(
    computing: User, tmp_path: Path
) -> None:
    add_models(computing, two_channels(tmp_path).parent)
    computing.ui.taskSelector.currentText = "pair"
    first = computing.load(QUICK, "first")
    array = np.random.default_rng(0).integers(0, 1000, (20, 30, 26)).astype(np.int16)
    second = slicer.util.addVolumeFromArray(array, np.diag([1.7, 1.5, 2.0, 1.0]), name="second")
    computing.channel_selector(1).setCurrentNode(second)
    labels = segmented(computing, first)
    assert labels.shape == slicer.util.arrayFromVolume(first).shape
    assert "T2 lies on another grid than T1 and was resampled onto that one" in computing.status
    computing.ui.removeModelsButton.click()


def two_channels(folder: Path) -> Path:
    """The baseline of the phantom with a second channel, to which it pays no heed."""
    bundle = renamed(folder, "pair-unet")
    weights = load_file(bundle / WEIGHTS)
    first = next(name for name, values in weights.items() if values.ndim == 5 and values.shape[1] == 1)
    weights[first] = np.concatenate([weights[first], np.zeros_like(weights[first])], 1)
    save_file(weights, bundle / WEIGHTS)

    def pair(card: dict[str, Any]) -> None:
        card.update(task="pair", inputs=[card["inputs"][0], {**card["inputs"][0], "name": "T2", "patterns": ["t2"]}])
        card["network"]["arguments"]["in_channels"] = 2

    change_card(bundle, pair)
    vouch_for_weights(bundle)
    return bundle


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """No file can grow beyond a size: writing fails in its midst, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_leaves_nothing_behind_and_the_next_run_works(user: User) -> None:
    user.quicken()
    volume = user.load(QUICK)
    user.choose(volume)
    with full_disk(4096):
        user.start()
        user.wait()
    assert "cannot be written" in user.status
    assert user.results == []
    assert segmented(user, volume).any()


def test_models_and_files_may_lie_in_folders_of_any_name(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, temporary = tmp_path / LONG[:200].strip(), tmp_path / f"Temp {LONG[:150].strip()}"
    for folder in (models, temporary):
        folder.mkdir()
    renamed(models, "größer")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    add_models(user, models)
    user.ui.networkSelector.currentText = "Baseline"
    user.ui.baselineModelSelector.currentText = "größer"
    assert segmented(user, user.load(QUICK)).any()
    assert not list(temporary.iterdir())
    user.ui.removeModelsButton.click()


def test_two_slicers_work_with_one_folder_of_models_at_once(user: User, tmp_path: Path) -> None:
    other = Client(tmp_path / "log")
    image = tmp_path / "image.nrrd"
    volume = user.load(QUICK)
    slicer.util.saveNode(volume, str(image))
    user.choose(volume)
    user.start()
    other.send(request(image))
    user.wait()
    assert user.status == "Done."
    assert other.answer()["type"] == "result"
    other.close()
