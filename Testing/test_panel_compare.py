"""The section Compare, clicked through: what can be compared, maps of agreement, figures and regions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import slicer

from comparing_user import CLASSES, Comparer, any_class, array_of, comparer, edit, moved, shown_in
from panel_user import QUICK, FullScene, node_ids
from ScaleEquivSegLib.comparison import compare
from ScaleEquivSegLib.mrml.volumes import volume_from_node
from ScaleEquivSegLib.panel.comparing import INPUTS
from ScaleEquivSegLib.volume import Volume

user = pytest.fixture(comparer)


# What is compared


def test_the_latest_results_are_chosen_for_comparison(user: Comparer) -> None:
    assert user.said == "Choose two segmentations, or segment a volume with both networks."
    user.choose(user.load(QUICK, "phantom"), "Both")
    user.start()
    user.wait()
    assert user.ui.comparedASelector.currentNode().GetName() == "phantom equivariant"
    assert user.ui.comparedBSelector.currentNode().GetName() == "phantom baseline"
    assert user.ui.compareButton.enabled


def test_adding_a_scene_changes_no_choice(user: Comparer, tmp_path: Path) -> None:
    # Without choices of this module's panel: those would count.
    (tmp_path / "added.mrml").write_text('<MRML><Text id="vtkMRMLTextNode1" name="added"></Text></MRML>')
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    user.choose(user.volume)
    one, two = user.pair()
    user.ui.regionSelector.setCurrentNode(region)
    selectors = (user.channel_selector(), *(getattr(user.ui, name) for name in ("regionSelector", "comparedASelector")))
    assert [selector.currentNode() for selector in selectors] == [user.volume, region, one]
    slicer.mrmlScene.SetURL(str(tmp_path / "added.mrml"))
    assert slicer.mrmlScene.Import()
    user.host.process_events()
    assert slicer.util.getFirstNodeByName("added") is not None
    assert [selector.currentNode() for selector in selectors] == [user.volume, region, one]
    assert user.ui.comparedBSelector.currentNode() is two
    user.ui.comparedBSelector.setCurrentNode(None)  # and what is chosen afterwards is heard
    user.host.process_events()
    assert not user.ui.compareButton.enabled


def test_what_cannot_be_compared_is_said(user: Comparer) -> None:
    one, two = user.pair()
    assert not user.said
    user.choose_pair(one, one)
    assert user.said == "Choose segmentations that differ from each other."
    user.choose_pair(one, two, two)
    assert not user.ui.compareButton.enabled
    user.choose_pair(one, two)
    two.SetReferenceImageGeometryParameterFromVolumeNode(user.scan("other"))
    user.choose_pair(one, None)
    user.choose_pair(one, two)
    assert user.said == user.ui.compareButton.toolTip == "These segmentations belong to different volumes."
    slicer.mrmlScene.RemoveNode(two)
    user.host.process_events()
    assert user.said.startswith("Choose two segmentations")


def test_segmentations_of_a_volume_without_voxels_cannot_be_compared(user: Comparer) -> None:
    user.pair()
    assert user.ui.compareButton.enabled
    user.volume.SetAndObserveImageData(None)
    user.host.process_events()
    assert user.said == "scan has no voxels; load it again."
    assert not user.ui.compareButton.enabled


def test_what_was_made_of_other_voxels_or_another_volume_is_told(user: Comparer) -> None:
    one, two = user.pair()
    truth = user.segmentation("truth", slice(1, 5), slice(3, 6))
    truth.SetReferenceImageGeometryParameterFromVolumeNode(user.scan("former"))
    user.choose_pair(one, two, truth)
    assert user.compare() == "Done. The reference truth was made from former, not from scan."
    user.choose_pair(one, two)
    one.SetAttribute(INPUTS, "a b")
    assert user.compare() == "Done."  # nobody knows what two was made of
    two.SetAttribute(INPUTS, "a")
    assert user.compare() == "Done."
    two.SetAttribute(INPUTS, "b")
    assert user.compare() == "Done. one and two were made of different voxels of scan, such as two frames."


def test_a_segmentation_without_a_volume_is_laid_on_the_grid_of_the_other(user: Comparer) -> None:
    one, two = user.pair()
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for node in (one, two):
        node.SetNodeReferenceID(role, None)
        user.choose_pair(one, None)
        user.choose_pair(one, two)
        if node is one:
            assert user.compare() == "Done."
    assert user.said == (
        "Done. These segmentations name no volume of the scene; choose theirs in Input (in a script: give volumeNode)."
    )
    assert user.ui.compareButton.toolTip == user.said.removeprefix("Done. ")


def test_segmentations_loaded_from_files_are_compared_on_the_grid_of_the_volume_in_input(
    user: Comparer, tmp_path: Path
) -> None:
    one, two = user.pair()
    user.compare()
    before = user.table()
    for node in (one, two):
        assert slicer.util.saveNode(node, str(tmp_path / f"{node.GetName()}.seg.nrrd"))
    loaded = [slicer.util.loadSegmentation(str(tmp_path / f"{name}.seg.nrrd")) for name in ("one", "two")]
    user.choose_pair(*loaded)
    assert not user.ui.compareButton.enabled
    user.channel_selector().setCurrentNode(user.volume)
    assert user.compare() == "Done."
    assert user.table() == before
    user.ui.nextRegionButton.click()
    user.ui.sideBySideButton.click()
    assert [shown_in(node, user.views()) for node in loaded] == [[True, False], [False, True]]
    slicer.mrmlScene.RemoveNode(user.volume)
    user.host.process_events()
    assert not user.ui.compareButton.enabled


# Maps and figures


def test_compare_marks_where_each_alone_has_found_something(user: Comparer) -> None:
    one, two = user.pair()
    assert user.compare() == "Done."
    agreement = user.named("one / two: agreement")
    assert not agreement.GetDisplayNode().GetVisibility3D()
    a, b = (any_class(node, user.volume) for node in (one, two))
    for segment, mask in {"Only one": a & ~b, "Only two": b & ~a, "Both": a & b}.items():
        assert mask.any()
        assert np.array_equal(array_of(agreement, segment, user.volume), mask)
    assert not array_of(agreement, "Different classes", user.volume).any()
    assert not agreement.GetDisplayNode().GetSegmentVisibility("Segment_3")  # both: it would cover the rest
    assert agreement.GetDisplayNode().GetSegmentVisibility("Segment_1")


def test_the_table_has_the_figures_of_the_engine_for_each_class_and_their_mean(user: Comparer) -> None:
    one, two = user.pair()
    user.compare()
    geometry = volume_from_node(user.volume).geometry
    volumes = []
    for node in (one, two):
        labels = array_of(node, "Head", user.volume) + 2 * array_of(node, "Body", user.volume)
        volumes.append(Volume(labels.astype(np.uint8), geometry))
    expected = compare(*volumes, CLASSES).classes
    heading, *rows = user.table()
    assert heading[:4] == ["Pair", "Class", "Dice", "HD95 (mm)"]
    assert [row[:2] for row in rows] == [["A/B", "Head"], ["A/B", "Body"], ["A/B", "mean"]]
    for (_, name, *values), ml in zip(rows, (0.128, 0.112, 0.12), strict=True):
        if name in expected:
            wanted = expected[name]
            assert [float(value) for value in values[:2]] == pytest.approx([wanted.dice, wanted.hd95], abs=5e-3)
        assert [float(value) for value in values[2:]] == pytest.approx([ml, ml, 0.0])
    assert float(rows[2][2]) == pytest.approx((expected["Head"].dice + 1) / 2, abs=1e-4)
    assert not user.ui.figuresTable.model().item(0, 2).isEditable()


def test_a_reference_adds_the_errors_of_each_and_figures_against_it(user: Comparer) -> None:
    one, two = user.pair()
    truth = user.segmentation("truth", slice(1, 5), slice(3, 6))
    user.choose_pair(one, two, truth)
    assert user.compare() == "Done."
    assert [row[0] for row in user.table()[1::3]] == ["A/B", "A/ref.", "B/ref."]
    right = any_class(truth, user.volume)
    for node in (one, two):
        errors, found = user.named(f"{node.GetName()}: errors against truth"), any_class(node, user.volume)
        masks = {"False positive": found & ~right, "False negative": right & ~found, "True positive": right & found}
        for segment, mask in masks.items():
            assert np.array_equal(array_of(errors, segment, user.volume), mask)
        assert errors.GetDisplayNode().GetVisibility()
    assert not user.named("one / two: agreement").GetDisplayNode().GetVisibility()


@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_maps_that_are_shown_are_those_of_the_latest_comparison(user: Comparer, side_by_side: bool) -> None:
    one, two = user.pair()
    truths = [user.segmentation(name, slice(1, 5), slice(3, 6)) for name in ("truth", "belief")]
    if side_by_side:
        user.ui.sideBySideButton.click()
    for reference in (truths[0], None, truths[1], None):
        user.choose_pair(one, two, reference)
        assert user.compare() == "Done."
        maps = [node for node in user.results if ": " in node.GetName()]
        shown = {node.GetName() for node in maps if node.GetDisplayNode().GetVisibility()}
        if reference is None:
            assert shown == {"one / two: agreement"}
        else:
            assert shown == {f"{name}: errors against {reference.GetName()}" for name in ("one", "two")}
    if side_by_side:
        user.ui.sideBySideButton.click()
        shown = {node.GetName() for node in maps if node.GetDisplayNode().GetVisibility()}
        assert shown == {"one / two: agreement"}


def test_a_class_that_one_has_missed_has_no_distance_but_a_row(user: Comparer) -> None:
    one, _two = user.pair()
    empty = user.segmentation("none", slice(0), slice(2, 6))
    user.choose_pair(one, empty)
    user.compare()
    row = user.table()[1]
    assert row[1:4] == ["Head", "0", "inf"]


def test_comparing_again_replaces_what_was_made_of_the_same_pair_and_nothing_else(user: Comparer) -> None:
    one, two = user.pair()
    user.compare()
    agreement, (table,) = user.named("one / two: agreement"), user.tables()
    agreement.SetName("mine to name")
    third = user.segmentation("three", slice(1, 3), slice(2, 6))
    user.choose_pair(one, third)
    assert user.table() == [[]]  # the figures of another pair are not shown with this one
    user.compare()
    other = user.table()
    user.choose_pair(one, two)
    two.GetSegmentation().RemoveSegment("Segment_2")
    two.GetSegmentation().AddEmptySegment("Segment_2", "Body")
    user.compare()
    assert user.named("mine to name").GetID() == agreement.GetID()
    assert array_of(agreement, "Only one", user.volume)[2:6, 7:9, 2:9].all()
    assert len(user.tables()) == 2
    assert table.GetCellText(1, 2) == "0"
    assert len(user.results) == 5
    user.choose_pair(one, third)
    assert user.table() == other


def test_a_map_that_the_user_copied_is_theirs(user: Comparer) -> None:
    user.pair()
    user.compare()
    agreement = user.named("one / two: agreement")
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "one / two: agreement")
    theirs.GetSegmentation().DeepCopy(agreement.GetSegmentation())
    slicer.mrmlScene.RemoveNode(agreement)
    theirs.GetSegmentation().RemoveAllSegments()
    user.compare()
    assert not theirs.GetSegmentation().GetNumberOfSegments()
    assert len(user.results) == 4


def legend(user: Comparer) -> list[tuple[str, str]]:
    """Colour and name in each line, as they are read."""
    assert not user.ui.legendLabel.isHidden()
    return re.findall(r'color:#(\w{6})">\N{BLACK SQUARE}</span> ([^<]+)', user.ui.legendLabel.text)


def test_a_legend_names_the_colours_of_the_map_that_is_shown(user: Comparer) -> None:
    one, two = user.pair()
    assert user.ui.legendLabel.isHidden()
    user.compare()
    assert legend(user) == [
        ("e69f00", "Only one"),
        ("0072b2", "Only two"),
        ("009e73", "Both (hidden)"),
        ("cc79a7", "Different classes"),
    ]
    agreement = user.named("one / two: agreement")
    agreement.GetSegmentation().GetSegment("Segment_1").SetColor(1, 0, 0)
    agreement.GetSegmentation().GetSegment("Segment_1").SetName("A < B")
    agreement.GetDisplayNode().SetSegmentVisibility("Segment_3", True)
    user.host.process_events()
    assert [legend(user)[0], legend(user)[2]] == [("ff0000", "A &lt; B"), ("009e73", "Both")]
    truth = user.segmentation("truth", slice(1, 5), slice(3, 6))
    user.choose_pair(one, two, truth)
    assert user.ui.legendLabel.isHidden()
    user.compare()
    assert [name for _color, name in legend(user)] == [
        "False positive",
        "False negative",
        "True positive (hidden)",
        "Wrong class",
    ]


# Segments of any origin


def test_classes_are_matched_by_name_whatever_the_case_and_what_has_no_match_is_said(user: Comparer) -> None:
    one = user.segmentation("one", slice(1, 5), slice(2, 6))
    two = user.segmentation("two", slice(1, 5), slice(2, 6), {1: "Tail", 2: " bODY "})
    user.choose_pair(one, two)
    said = user.compare()
    assert "Not compared, as not all have it: Head of one." in said
    assert "Not compared, as not all have it: Tail of two." in said
    assert [row[1:3] for row in user.table()[1:]] == [["Body", "1"], ["mean", "1"]]
    assert not array_of(user.named("one / two: agreement"), "Only one", user.volume).any()


def test_segmentations_without_a_common_name_are_refused_with_both_lists(user: Comparer) -> None:
    one = user.segmentation("one", slice(1, 5), slice(2, 6))
    user.choose_pair(one, user.segmentation("two", slice(1, 5), slice(2, 6), {1: "x", 2: "y"}))
    said = user.compare()
    assert "no segment name in common" in said
    assert "one: Head, Body; two: x, y" in said
    assert user.table() == [[]]


def test_segments_that_overlap_are_reported(user: Comparer) -> None:
    one, two = user.pair()
    overlapping = user.segmentation("both", slice(1, 5), slice(2, 6))
    head = slicer.vtkOrientedImageData()
    head.DeepCopy(one.GetSegmentation().GetSegment("Segment_1").GetRepresentation("Binary labelmap"))
    overlapping.GetSegmentation().AddEmptySegment("extra", "Extra")
    overlapping.GetSegmentation().GetSegment("extra").AddRepresentation("Binary labelmap", head)
    overlapping.GetSegmentation().GetSegment("extra").SetLabelValue(1)
    user.choose_pair(overlapping, two)
    said = user.compare()
    assert "In both segments overlap in 64 voxels; there the last segment counts." in said


def test_a_segmentation_that_was_hardened_where_its_volume_goes_is_compared_in_place(user: Comparer) -> None:
    moved(user.volume)
    _one, two = user.pair()
    user.compare()
    before = user.table()
    two.HardenTransform()
    user.compare()
    assert user.table() == before
    assert user.named("one / two: agreement").GetTransformNodeID() == user.volume.GetTransformNodeID()


# The run


def test_the_worker_itself_compares_while_slicer_stays_usable(user: Comparer) -> None:
    from ScaleEquivSegLib.panel.worker_process import WorkerProcess

    desk = user.widget.panel.desk
    desk.worker = WorkerProcess(desk._on_message, desk._on_worker_log, desk._on_worker_end, parent=user.ui.logText)
    user.pair()
    user.ui.compareButton.click()
    assert user.ui.compareButton.text == "Cancel"
    assert not user.ui.segmentButton.enabled
    for other in (user.ui.segmentButton, user.ui.probeButton):
        assert not other.enabled
        assert other.toolTip == "Something runs already; wait for its end, or cancel it."
    user.wait()
    assert user.said == "Done."
    assert user.ui.compareButton.text == "Compare"
    assert len(user.table()) == 4


def test_a_comparison_that_is_cancelled_or_loses_a_node_leaves_nothing(user: Comparer) -> None:
    user.worker.answers = False
    _one, two = user.pair()
    user.ui.compareButton.click()
    assert user.ui.compareButton.toolTip == "Stop. Nothing is kept of it."
    user.worker.answers = True
    user.ui.compareButton.click()
    user.wait()
    assert user.said == "Cancelled."
    assert len(user.results) == 2
    user.worker.answers = False
    user.ui.compareButton.click()
    slicer.mrmlScene.RemoveNode(two)
    user.host.process_events()
    assert user.said.startswith("two was deleted during the run; the result was discarded.")
    assert user.ui.compareButton.text == "Compare"
    assert not user.tables()


def test_a_comparison_whose_volume_is_moved_meanwhile_changes_nothing(user: Comparer) -> None:
    user.pair()
    user.ui.compareButton.click()
    user.volume.SetOrigin(0, 0, 0)
    user.wait()
    assert user.said == "scan was moved while it was compared on; compare again."
    assert len(user.results) == 2
    assert not user.tables()


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_comparison_whose_maps_cannot_all_be_imported_changes_nothing(
    user: Comparer, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    one, two = user.pair()
    user.choose_pair(one, two, user.segmentation("truth", slice(1, 5), slice(3, 6)))
    user.compare()
    before, table, agreement = node_ids(), user.table(), user.named("one / two: agreement")
    edit(two)
    marked = array_of(agreement, "Only two", user.volume)
    with monkeypatch.context() as patch:
        patch.setattr(slicer.modules.segmentations, "_logic", FullScene(taken))
        assert "Slicer could not import the labels" in user.compare()
    assert node_ids() == before
    assert user.table() == table
    assert not user.ui.figuresNote.isHidden()
    assert np.array_equal(array_of(agreement, "Only two", user.volume), marked)
    assert user.compare() == "Done."
    assert not np.array_equal(array_of(agreement, "Only two", user.volume), marked)


# Regions


def centre_of_views() -> list[tuple[float, ...]]:
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return [tuple(view.GetSliceToRAS().GetElement(row, 3) for row in range(3)) for view in views]


@pytest.mark.parametrize("under_transform", [False, True], ids=["plain", "under a transform"])
def test_next_takes_every_slice_view_to_the_regions_largest_first(user: Comparer, under_transform: bool) -> None:
    if under_transform:
        moved(user.volume)
    one, two = user.segmentation("one", slice(1, 5), slice(2, 6)), user.segmentation("two", slice(1, 3), slice(2, 5))
    user.choose_pair(one, two)
    assert not user.ui.nextRegionButton.enabled
    assert not user.ui.disagreementLabel.text
    user.compare()
    assert user.ui.disagreementLabel.text == "Regions of disagreement: 2"
    assert not user.ui.previousRegionButton.enabled
    user.ui.nextRegionButton.click()
    assert user.ui.disagreementLabel.text == "Region 1 of 2: 0.06 ml"
    geometry = volume_from_node(user.volume).geometry
    expected, world = geometry.to_ras(np.array([3.5, 3.5, 3.5])), [0.0, 0.0, 0.0]
    user.volume.TransformPointToWorld(expected.tolist(), world)
    assert len(centre_of_views()) >= 3
    for centre in centre_of_views():
        assert centre == pytest.approx(world)
    user.ui.nextRegionButton.click()
    assert user.ui.disagreementLabel.text == "Region 2 of 2: 0.03 ml"
    assert not user.ui.nextRegionButton.enabled
    user.ui.previousRegionButton.click()
    assert user.ui.disagreementLabel.text == "Region 1 of 2: 0.06 ml"
    assert centre_of_views()[0] == pytest.approx(world)
    slicer.mrmlScene.RemoveNode(user.volume)
    user.host.process_events()
    user.choose(user.scan("next"))  # where what is compared is laid now
    user.ui.nextRegionButton.click()
    user.host.raise_exceptions()
    assert user.ui.disagreementLabel.text == "Region 1 of 2: 0.06 ml"
    assert centre_of_views()[0] == pytest.approx(world)


def test_a_region_that_a_new_comparison_does_not_find_is_left(user: Comparer) -> None:
    one, two = user.pair()
    user.compare()
    user.ui.nextRegionButton.click()
    two.GetSegmentation().DeepCopy(one.GetSegmentation())
    user.compare()
    assert user.ui.disagreementLabel.text == "Regions of disagreement: 0"
    assert not user.ui.previousRegionButton.enabled


def test_segmentations_that_agree_have_no_region_to_go_to(user: Comparer) -> None:
    one, two = (user.segmentation(name, slice(1, 5), slice(2, 6)) for name in ("one", "two"))
    user.choose_pair(one, two)
    user.compare()
    assert user.ui.disagreementLabel.text == "Regions of disagreement: 0"
    assert not user.ui.nextRegionButton.enabled
