"""Changing how a case is cut, placed and stored leaves image and labels where they belong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ScaleEquivSegLib.bundles import Bundle, bundled_models, read_bundle
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.shades import Hounsfield
from ScaleEquivSegLib.volume import Geometry, Volume, make_geometry
from test_evaluate import bundle as write_bundle
from test_evaluate import write_case
from training import evaluate as evaluating
from training import robustness
from training.__main__ import main
from training.config import CaseData
from training.evaluate import evaluate
from training.robustness import CHANGES, Scan, changes_for

SHAPE = (12, 14, 10)
"""Voxels along i, j, k."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundled_models() / "phantom-unet")


def world(geometry: Geometry) -> np.ndarray:
    k, j, i = np.indices(geometry.shape, dtype=np.float64)
    return geometry.to_ras(np.stack([i, j, k], -1))


def a_scan() -> Scan:
    """A channel whose value is a position in the world, and a block of two labels off its middle."""
    grid = make_geometry(SHAPE, (1.0, 1.5, 2.0), np.eye(3), (5, -7, 9))
    labels = np.zeros(grid.shape, np.uint8)
    labels[3:7, 5:9, 2:7], labels[3:7, 9:12, 2:7] = 1, 2
    return Scan((Volume(world(grid) @ (1.0, 0.5, 0.25), grid),), Volume(labels, grid))


@pytest.mark.parametrize("name", [n for n in CHANGES if n not in ("mirrored", "both_sides", "other_numbers")])
def test_a_change_of_view_or_voxels_moves_nothing_in_the_world(name: str, bundle: Bundle) -> None:
    scan = a_scan()
    changed = CHANGES[name](scan, bundle)
    assert changed.channels[0].geometry.agrees_with(changed.geometry)
    inside, places = changed.labels.array > 0, world(changed.geometry)
    expected = (places @ (1.0, 0.5, 0.25))[inside]
    assert np.allclose(changed.channels[0].array[inside], expected, atol=0.3 if "x" in name else 1e-9)
    # Each label fills the same box.
    for value in (1, 2):
        before, after = world(scan.geometry)[scan.labels.array == value], places[changed.labels.array == value]
        assert np.abs(before.min(0) - after.min(0)).max() < 1.5
        assert np.abs(before.max(0) - after.max(0)).max() < 1.5


def test_a_wider_view_has_the_case_whole_and_off_its_middle(bundle: Bundle) -> None:
    scan = a_scan()
    wider = CHANGES["wider_view"](scan, bundle)
    assert wider.labels.array.shape == tuple(2 * n for n in scan.labels.array.shape)
    assert (wider.labels.array > 0).sum() == (scan.labels.array > 0).sum()
    assert (wider.channels[0].array == scan.channels[0].array.min()).mean() > 0.8


def test_off_centre_the_object_touches_the_border_along_every_axis(bundle: Bundle) -> None:
    found = np.argwhere(CHANGES["off_centre"](a_scan(), bundle).labels.array > 0)
    assert found.min(0).tolist() == [0, 0, 0]


def test_the_mirror_image_lies_beside_the_image_and_its_labels_with_it(bundle: Bundle) -> None:
    scan = a_scan()
    both = CHANGES["both_sides"](scan, bundle)
    i = scan.labels.array.shape[2]
    for joined, single in ((both.labels, scan.labels), (both.channels[0], scan.channels[0])):
        assert np.array_equal(joined.array[:, :, :i], single.array)
        assert np.array_equal(joined.array[:, :, i:], single.array[:, :, ::-1])


def test_the_numbers_of_ct_have_a_meaning_and_are_left_as_they_are(bundle: Bundle) -> None:
    ct = replace(bundle, inputs=(replace(bundle.inputs[0], normalisation=Hounsfield(-160, 240)),))
    assert set(changes_for(bundle)) == set(CHANGES)
    assert set(changes_for(ct)) == set(CHANGES) - {"other_numbers"}


def blind_to_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network finds the head where the image has it, and no body."""

    def segment(channels: Sequence[Volume], *how: object) -> SimpleNamespace:
        found = (np.rint(channels[0].array / 100) == 1).astype(np.uint8)
        return SimpleNamespace(labels=Volume(found, channels[0].geometry))

    monkeypatch.setattr(robustness, "segment", segment)
    monkeypatch.setattr(evaluating, "segment", segment)


@pytest.mark.parametrize("absent_is_unlabelled", [False, True])
def test_mean_dice_is_that_of_evaluate_where_cases_lack_a_label(
    absent_is_unlabelled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, values in (("a", [0, 1, 2]), ("b", [0, 1, 2]), ("c", [0, 1, 1]), ("d", [0, 0, 0])):
        write_case(tmp_path / "data", name, values)
    small = write_bundle(tmp_path / "bundle", data=CaseData(absent_is_unlabelled=absent_is_unlabelled))
    blind_to_bodies(monkeypatch)
    figures, wanted = robustness.robustness(small, tmp_path / "data"), evaluate(small, tmp_path / "data")
    assert figures["dice.as_it_is"] == wanted["dice.mean@1"] == pytest.approx(0.5 if absent_is_unlabelled else 0.75)
    assert figures["dice.as_it_is.worst_case"] == wanted["dice.worst_case@1"]
    assert figures["dice.mirrored"] == wanted["dice.mean@1"]


def test_where_no_case_has_a_label_there_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path / "data", "a", [0])
    small = write_bundle(tmp_path / "bundle", data=CaseData(absent_is_unlabelled=True))
    blind_to_bodies(monkeypatch)
    assert robustness.robustness(small, tmp_path / "data") == {"cases": 1}


def test_a_class_that_was_not_looked_for_is_the_other_side_s_in_a_mirror_and_of_neither_side_beside_it(
    bundle: Bundle,
) -> None:
    one, other = bundle.labels
    sided = replace(bundle, labels=(replace(one, opposite=other.name), replace(other, opposite=one.name)))
    scan = a_scan().without([1])
    assert CHANGES["mirrored"](scan, sided).left_out == {2}
    assert CHANGES["both_sides"](scan, sided).left_out == {1, 2}
    assert CHANGES["wider_view"](scan, sided).left_out == {1}


def test_a_class_of_which_larger_voxels_leave_nothing_is_left_out(bundle: Bundle) -> None:
    scan = a_scan()
    speck = scan.labels.array == 1
    speck[3, 5, 2] = False
    scan = replace(scan, labels=Volume(np.where(speck, 0, scan.labels.array), scan.geometry))
    assert CHANGES["as_it_is"](scan, bundle).left_out == set()
    assert CHANGES["voxels_x1.5"](scan, bundle).left_out == {1}


def test_a_bundle_is_measured_after_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["phantom", str(tmp_path / "data"), "--seed", "200000", "--size", "40", "40", "40"]) == 0
    arguments = ["--bundle", bundled_models() / "phantom-unet", "--data", tmp_path / "data"]
    monkeypatch.setattr(
        sys, "argv", ["training", "robustness", *map(str, arguments), "--json", str(tmp_path / "f.json")]
    )
    main()
    figures = json.loads((tmp_path / "f.json").read_text())
    assert set(figures) == {"cases", *(f"dice.{n}{end}" for n in CHANGES for end in ("", ".worst_case"))}
    assert figures["dice.other_numbers"] == pytest.approx(figures["dice.as_it_is"], abs=0.01)
    assert figures["dice.as_it_is"] > 0.5
