"""Figures and regions of what was edited after they were made are marked as out of date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import slicer

from comparing_user import Comparer, comparer, edit, moved
from panel_user import OBLIQUE, QUICK

user = pytest.fixture(comparer)


def rename(node: Any) -> None:
    node.GetSegmentation().GetSegment("Segment_1").SetName("Tail")


def remove_segment(node: Any) -> None:
    node.GetSegmentation().RemoveSegment("Segment_1")


EDITS = {"painted": edit, "renamed": rename, "removed": remove_segment, "moved": moved}


@pytest.mark.parametrize("how", EDITS.values(), ids=EDITS)
def test_figures_and_regions_of_what_was_edited_are_out_of_date_until_compared_again(
    user: Comparer, how: Callable[[Any], Any]
) -> None:
    one, _two = user.pair()
    user.compare()
    assert user.ui.figuresNote.isHidden()
    assert user.ui.disagreementLabel.text == "Regions of disagreement: 2"
    how(one)
    user.host.process_events()
    assert not user.ui.figuresNote.isHidden()
    assert user.ui.disagreementLabel.text == "Out of date: Regions of disagreement: 2"
    user.ui.nextRegionButton.click()
    assert user.ui.disagreementLabel.text.startswith("Out of date: Region 1 of 2")
    user.compare()
    assert user.ui.figuresNote.isHidden()
    assert user.ui.disagreementLabel.text.startswith("Region")


def test_how_a_segmentation_is_shown_is_no_edit(user: Comparer) -> None:
    one, _two = user.pair()
    user.compare()
    one.CreateClosedSurfaceRepresentation()
    one.GetSegmentation().GetSegment("Segment_1").SetColor(0, 1, 0)
    one.GetDisplayNode().SetSegmentVisibility("Segment_1", False)
    one.SetName("renamed")
    user.ui.sideBySideButton.click()
    user.host.process_events()
    assert user.ui.figuresNote.isHidden()


def test_an_edited_reference_leaves_the_regions_of_the_pair_up_to_date(user: Comparer) -> None:
    one, two = user.pair()
    truth = user.segmentation("truth", slice(1, 5), slice(3, 6))
    user.choose_pair(one, two, truth)
    user.compare()
    edit(truth)
    user.host.process_events()
    assert not user.ui.figuresNote.isHidden()
    assert user.ui.disagreementLabel.text == "Regions of disagreement: 2"


def test_an_edit_of_what_is_not_chosen_or_during_the_comparison_is_seen_too(user: Comparer) -> None:
    one, two = user.pair()
    user.compare()
    third = user.segmentation("three", slice(1, 3), slice(2, 6))
    user.choose_pair(two, third)
    assert user.ui.figuresNote.isHidden()
    edit(one)
    user.choose_pair(one, two)
    assert not user.ui.figuresNote.isHidden()
    user.ui.compareButton.click()
    edit(two)
    user.wait()
    assert not user.ui.figuresNote.isHidden()
    assert user.compare() == "Done."
    assert user.ui.figuresNote.isHidden()


def test_a_saved_scene_knows_what_is_out_of_date_and_saving_is_no_edit(user: Comparer, tmp_path: Path) -> None:
    one, two = user.pair()
    third = user.segmentation("three", slice(1, 3), slice(2, 6))
    user.compare()
    user.choose_pair(two, third)
    user.compare()
    edit(one)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    assert user.ui.figuresNote.isHidden()
    user.host.clear_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    one, two, third = map(user.named, ("one", "two", "three"))
    assert user.ui.figuresNote.isHidden()
    user.choose_pair(one, two)
    assert not user.ui.figuresNote.isHidden()
    user.choose_pair(two, third)
    edit(third)
    user.host.process_events()
    assert not user.ui.figuresNote.isHidden()


@pytest.mark.parametrize(
    "how", [None, edit, rename, remove_segment], ids=["as it was", "painted", "renamed", "removed"]
)
def test_what_was_edited_before_anybody_watched_is_noticed_when_the_panel_is_opened(
    user: Comparer, tmp_path: Path, how: Callable[[Any], Any] | None
) -> None:
    """As when yesterday's scene is opened and corrected in Segment Editor, and the panel afterwards."""
    user.choose(user.load(replace(QUICK, spacing=(2.1, 2, 1.9), direction=OBLIQUE), "phantom"), "Both")
    user.start()
    user.wait()
    user.compare()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.clear_scene()
    user.host.select_module("segmentations")
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    if how is not None:
        how(user.named("phantom equivariant"))
    user.host.select_module("ScaleEquivSeg")
    user.host.process_events()
    assert user.ui.volumesNote.isHidden() == user.ui.figuresNote.isHidden() == (how is None)
    outdated = user.ui.disagreementLabel.text.startswith("Out of date")
    assert outdated == (how is not None)
