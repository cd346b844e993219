"""What is meant for Slicer runs on the stand-in, too: the module's self-test, its sample data, and the examples."""

from __future__ import annotations

import csv
import hashlib
import re
import sys
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from monai.apps import DecathlonDataset

import slicerhost
from panel_user import MODULE, labels_of
from ScaleEquivSegLib import requirements
from ScaleEquivSegLib.bundles import bundle_named, bundled_models
from ScaleEquivSegLib.errors import MissingPackage
from ScaleEquivSegLib.mrml import samples
from ScaleEquivSegLib.panel import models
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import write_volume

SMALL = {
    "phantom x1.0": PhantomSpec(seed=1, size=(24, 24, 24)),
    "phantom x1.7": PhantomSpec(seed=1, size=(28, 28, 28), scale=1.7),
}


@pytest.fixture
def host() -> Iterator[slicerhost.Host]:
    host = slicerhost.start()
    host.sample_data.clear()
    host.load_module(MODULE)
    yield host
    host.close()
    host.raise_exceptions()


@pytest.fixture
def said(host: slicerhost.Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the self-test displays."""
    messages: list[str] = []
    test = sys.modules[type(slicer.modules.ScaleEquivSegInstance).__module__].ScaleEquivSegTest
    monkeypatch.setattr(test, "delayDisplay", lambda self, message: messages.append(message))
    return messages


def test_the_self_test_of_the_module_passes(said: list[str]) -> None:
    slicer.modules.ScaleEquivSegInstance.runTest(msec=0)
    assert said[-1] == "Every test passed"


def test_without_pytorch_the_self_test_skips_aloud_what_computes_and_runs_the_rest(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = MissingPackage("PyTorch is not installed; install it.")
    monkeypatch.setattr(requirements, "package_problems", lambda: [missing])
    slicer.modules.ScaleEquivSegInstance.runTest(msec=0)
    assert said[-1] == f"3 of 6 tests were SKIPPED, the others passed. {missing}"
    run = [name for name, after in pairwise(said) if name.startswith("test") and after != f"Skipped: {missing}"]
    assert run == [
        "test a comparison has the right figures and the right map",
        "test labels are imported voxel for voxel onto the grid of an oblique volume under a transform",
        "test the panel chooses a volume that is loaded and its task",
    ]


# Sample data


def test_sample_data_has_a_phantom_the_same_magnified_and_one_of_four_channels(host: slicerhost.Host) -> None:
    assert [(source.category, source.sampleName) for source in host.sample_data] == [
        ("ScaleEquivSeg", "phantom x1.0"),
        ("ScaleEquivSeg", "phantom x1.7"),
        ("ScaleEquivSeg", "phantom 4 channels"),
        ("ScaleEquivSeg", "hippocampus (download)"),
    ]
    plain, magnified, several = samples.SAMPLES.values()
    assert (plain.seed, plain.scale, magnified.seed, magnified.scale) == (magnified.seed, 1.0, plain.seed, 1.7)
    assert (several.channels, several.scale) == (4, 1.0)


def test_a_sample_is_made_and_shown_with_its_exact_labels_hidden_and_chosen_in_the_panel(
    host: slicerhost.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SAMPLES", SMALL)
    source = host.sample_data[1]
    volume, exact = source.customDownloader(source)  # as the button does
    host.process_events()
    phantom = make_phantom(SMALL["phantom x1.7"])
    assert (volume.GetName(), exact.GetName()) == ("phantom x1.7", "phantom x1.7 exact")
    assert np.array_equal(slicer.util.arrayFromVolume(volume), phantom.channels[0].array)
    assert np.array_equal(labels_of(exact, volume), phantom.labels.array)
    assert not exact.GetDisplayNode().GetVisibility()
    shown = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID()
    assert shown == volume.GetID()
    selector = slicer.util.findChild(slicer.modules.ScaleEquivSegWidget.parent, "channelSelector0")
    assert selector.currentNode() is volume
    again, _exact = source.customDownloader(source)
    assert again.GetName() == "phantom x1.7_1"


def test_a_sample_of_four_channels_is_four_volumes_that_the_panel_takes_for_its_task(
    host: slicerhost.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = slicer.modules.ScaleEquivSegWidget
    monkeypatch.setattr(models, "bundled_models", bundled_models)
    widget.panel.desk.models.look()
    spec = PhantomSpec(seed=1, size=(24, 24, 24), channels=4)
    monkeypatch.setattr(samples, "SAMPLES", {"phantom 4 channels": spec})
    source = host.sample_data[2]
    *volumes, exact = source.customDownloader(source)
    host.process_events()
    assert [volume.GetName() for volume in volumes] == ["phantom T1", "phantom T1ce", "phantom T2", "phantom FLAIR"]
    phantom = make_phantom(spec)
    for volume, channel in zip(volumes, phantom.channels, strict=True):
        assert np.array_equal(slicer.util.arrayFromVolume(volume), channel.array)
    assert exact.GetName() == "phantom 4 channels exact"
    assert np.array_equal(labels_of(exact, volumes[0]), phantom.labels.array)
    assert widget.ui.taskSelector.currentText == "phantom-4ch"
    chosen = [slicer.util.findChild(widget.parent, f"channelSelector{n}").currentNode() for n in range(4)]
    assert chosen == volumes


def test_the_address_and_the_checksum_of_the_hippocampus_are_those_that_monai_knows() -> None:
    assert DecathlonDataset.resource[samples.TASK] == samples.ADDRESS
    assert f"MD5:{DecathlonDataset.md5[samples.TASK]}" == samples.CHECKSUM
    for bundle in ("hippocampus-se_unet", "hippocampus-unet", "hippocampus-dynamic_se_unet"):
        assert samples.CASE in bundle_named(bundle).card["training"]["data"]["held_out"]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small case in an archive like that of the Decathlon, where the sample is looked for."""
    phantom = make_phantom(SMALL["phantom x1.0"])
    packed = tmp_path / f"{samples.TASK}.tar"
    with tarfile.open(packed, "w") as tar:
        for part, volume in (("imagesTr", phantom.channels[0]), ("labelsTr", phantom.labels)):
            for name in (f"._{samples.CASE}", samples.CASE):  # the first as macOS leaves it in archives
                write_volume(volume, tmp_path / f"{part}.nii.gz")
                tar.add(tmp_path / f"{part}.nii.gz", f"./{samples.TASK}/{part}/{name}.nii.gz")
    monkeypatch.setattr(samples, "ADDRESS", packed.as_uri())
    monkeypatch.setattr(samples, "CHECKSUM", f"MD5:{hashlib.md5(packed.read_bytes()).hexdigest()}")
    slicer.mrmlScene.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path / "cache"))
    return packed


def test_a_real_hippocampus_is_fetched_once_and_shown_with_what_was_drawn(host: slicerhost.Host, archive: Path) -> None:
    source = host.sample_data[3]
    volume, drawn = source.customDownloader(source)
    phantom = make_phantom(SMALL["phantom x1.0"])
    assert (volume.GetName(), drawn.GetName()) == ("hippocampus_289", "hippocampus_289 reference")
    assert np.array_equal(slicer.util.arrayFromVolume(volume), phantom.channels[0].array)
    assert np.array_equal(labels_of(drawn, volume), phantom.labels.array)
    assert not drawn.GetDisplayNode().GetVisibility()
    archive.unlink()
    again, _drawn = source.customDownloader(source)
    assert again.GetName() == "hippocampus_289_1"


@pytest.mark.parametrize("wrong", ["checksum", "address"])
def test_a_hippocampus_that_cannot_be_fetched_leaves_nothing_and_is_told(
    host: slicerhost.Host, archive: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    if wrong == "checksum":
        monkeypatch.setattr(samples, "CHECKSUM", f"MD5:{32 * '0'}")
    else:
        archive.unlink()
    host.dialogs.clear()
    source = host.sample_data[3]
    assert source.customDownloader(source) == ()
    assert f"{samples.ADDRESS} could not be downloaded" in host.dialogs[-1].text
    assert not list(archive.with_name("cache").glob("*.tar"))
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")


# Examples


def examples(page: str) -> list[str]:
    """The blocks of Python in a page, as they are printed."""
    return re.findall(
        r"^```python\n(.*?)^```$", (MODULE.parents[1] / page).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.fixture
def scene(host: slicerhost.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> slicerhost.Host:
    """What the pages say is in the scene, only smaller; what an example writes goes into a folder of its own."""
    monkeypatch.setattr(samples, "SAMPLES", SMALL)
    monkeypatch.chdir(tmp_path)
    for name in SMALL:
        samples.load_sample(name)
    return host


def run_example(page: str, number: int) -> dict[str, Any]:
    """An example as the console runs it, and the names it leaves behind."""
    names: dict[str, Any] = {"getNode": slicer.util.getNode}
    exec(compile(examples(page)[number], page, "exec"), names)
    return names


def test_every_example_is_run_here() -> None:
    assert len(examples("ScaleEquivSeg/API.md")) == 3
    assert len(examples("README.md")) == 1


def test_the_example_of_segmenting_prints_the_volumes(
    scene: slicerhost.Host, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = run_example("ScaleEquivSeg/API.md", 0)["volume"]
    (found,) = [
        node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if "exact" not in node.GetName()
    ]
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {(labels_of(found, volume) == value).sum() * 1e-3:.2f} ml"
        for value, name in enumerate(["Head", "Body"], 1)
    ]


def test_the_example_of_comparing_prints_the_table(scene: slicerhost.Host, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("ScaleEquivSeg/API.md", 1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines[:3]] == [
        ["A/B", "Head", "Dice"],
        ["A/B", "Body", "Dice"],
        ["A/B", "mean", "Dice"],
    ]
    assert all(0 <= float(line[-1]) <= 1 for line in lines[:9])
    assert len(lines) == 9 + 3


def test_the_example_of_a_sweep_writes_a_row_for_each_volume_and_scale_and_passes_over_what_cannot_be_swept(
    scene: slicerhost.Host, capsys: pytest.CaptureFixture[str]
) -> None:
    slicer.util.addVolumeFromArray(np.ones((4, 4, 4)), name="drawn", nodeClassName="vtkMRMLLabelMapVolumeNode")
    run_example("ScaleEquivSeg/API.md", 2)
    assert capsys.readouterr().out == "drawn: This is a label map; choose the scan it belongs to.\n"
    with open("scale_sweep.csv", newline="", encoding="utf-8") as file:
        heading, *rows = csv.reader(file)
    assert heading[:3] == ["Volume", "Scale", "phantom-se_unet with itself"]
    assert [row[:2] for row in rows] == [[name, scale] for name in SMALL for scale in ("0.7", "1", "1.4")]
    assert all(len(row) == len(heading) == 8 for row in rows)


def test_the_example_of_the_front_page_makes_a_segmentation(scene: slicerhost.Host) -> None:
    assert run_example("README.md", 0)["node"].GetName() == "phantom x1.0 equivariant"
