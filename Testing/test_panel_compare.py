"""The section Compare, clicked through: maps of agreement, figures, regions and the views side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

import slicerhost
from panel_user import MODULE, QUICK, FullScene, QuickWorker, ThisProcess, User, node_ids, views_in_another_slicer
from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.comparison import compare
from ScaleEquivSegLib.mrml.layouts import COMPARED_VIEWS, SIDE_BY_SIDE_LAYOUT
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.mrml.volumes import volume_from_node
from ScaleEquivSegLib.volume import Volume, make_geometry

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
RED_ALONE = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
CLASSES = {1: "Head", 2: "Body"}


class ComparingWorker(ThisProcess):
    """Compares, and segments at once."""

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return super()._answer(request) if request["type"] == "compare" else QuickWorker._answer(self, request)


class Comparer(User):
    """A user with one small scan and segmentations of it."""

    def __init__(self, host: slicerhost.Host) -> None:
        super().__init__(host)
        self.worker = self.quicken(ComparingWorker)
        self.volume = self.scan("scan")

    def scan(self, name: str) -> Any:
        geometry = make_geometry((12, 10, 8), (1.0, 1.0, 2.0), np.diag([1.0, 1.0, -1.0]), (3, -40, 12))
        return slicer.util.addVolumeFromArray(np.zeros(geometry.shape, np.int16), geometry.ijk_to_ras, name=name)

    def segmentation(self, name: str, head: slice, body: slice, classes: dict[int, str] = CLASSES) -> Any:
        """Head and body over some of the planes."""
        geometry = volume_from_node(self.volume).geometry
        array = np.zeros(geometry.shape, np.uint8)
        array[head, 2:6, 2:6] = 1
        array[body, 7:9, 2:9] = 2
        labels = [Label(value, title, (200, 40 * value, 0), {}) for value, title in classes.items()]
        return import_segmentation(Volume(array, geometry), labels, self.volume, name)

    def pair(self) -> tuple[Any, Any]:
        """Two that differ, chosen."""
        nodes = self.segmentation("one", slice(1, 5), slice(2, 6)), self.segmentation("two", slice(2, 6), slice(2, 6))
        self.choose_pair(*nodes)
        return nodes

    def choose_pair(self, a: Any, b: Any, reference: Any = None) -> None:
        self.ui.comparedASelector.setCurrentNode(a)
        self.ui.comparedBSelector.setCurrentNode(b)
        self.ui.referenceSelector.setCurrentNode(reference)

    def compare(self) -> str:
        assert self.ui.compareButton.enabled, self.said
        self.ui.compareButton.click()
        self.wait()
        return self.said

    @property
    def said(self) -> str:
        return str(self.ui.compareStatusLabel.text)

    def table(self) -> list[list[str]]:
        """The cells that the panel shows, the heading first."""
        model = self.ui.figuresTable.model()
        columns = range(model.columnCount())
        heading = [model.horizontalHeaderItem(column).text() for column in columns]
        return [heading, *([model.item(row, column).text() for column in columns] for row in range(model.rowCount()))]

    def tables(self) -> list[Any]:
        return list(slicer.util.getNodesByClass("vtkMRMLTableNode"))

    def named(self, name: str) -> Any:
        (node,) = [node for node in self.results if node.GetName() == name]
        return node

    def views(self) -> list[Any]:
        return [slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in COMPARED_VIEWS]

    @property
    def layout(self) -> int:
        return int(slicer.app.layoutManager().layout)

    def arrange(self, layout: int) -> None:
        slicer.app.layoutManager().setLayout(layout)


@pytest.fixture
def user() -> Iterator[Comparer]:
    host = slicerhost.start()
    slicer.app.layoutManager().setLayout(FOUR_UP)
    user = Comparer(host)
    yield user
    slicer.app.layoutManager().setLayout(FOUR_UP)
    host.close()
    host.raise_exceptions()


def moved(node: Any) -> Any:
    """Put a node under a transform that turns and shifts."""
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate([(0, -1, 0, 100), (1, 0, 0, 20), (0, 0, 1, 5), (0, 0, 0, 1)]):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, value)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def array_of(node: Any, segment: str, volume: Any) -> np.ndarray:
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(segment)
    assert segment_id, f"{node.GetName()} has no segment {segment}"
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume) > 0


def any_class(node: Any, volume: Any) -> np.ndarray:
    return array_of(node, "Head", volume) | array_of(node, "Body", volume)


# What is compared


def test_the_latest_results_are_chosen_for_comparison(user: Comparer) -> None:
    assert user.said == "Choose two segmentations, or segment a volume with both networks."
    user.choose(user.load(QUICK, "phantom"), "Both")
    user.start()
    user.wait()
    assert user.ui.comparedASelector.currentNode().GetName() == "phantom equivariant"
    assert user.ui.comparedBSelector.currentNode().GetName() == "phantom baseline"
    assert user.ui.compareButton.enabled


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
    assert [row[:2] for row in rows] == [["A / B", "Head"], ["A / B", "Body"], ["A / B", "mean"]]
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
    assert [row[0] for row in user.table()[1::3]] == ["A / B", "A / ref.", "B / ref."]
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


# Edits after the figures were made


def edit(node: Any, segment: str = "Head") -> None:
    """One voxel more, as a stroke in Segment Editor."""
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(segment)
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(node.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap"))
    first = image.GetExtent()[::2]
    image.SetScalarComponentFromDouble(*first, 0, 1 - image.GetScalarComponentAsDouble(*first, 0))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, node, segment_id, logic.MODE_REPLACE)


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


# Side by side


def shown_in(node: Any, views: list[Any]) -> list[bool]:
    display = node.GetDisplayNode()
    return [bool(display.GetVisibility() and display.IsDisplayableInView(view.GetID())) for view in views]


def test_side_by_side_shows_one_in_each_view_and_the_former_layout_comes_back(user: Comparer) -> None:
    one, two = user.pair()
    two.GetDisplayNode().SetVisibility(False)
    slicer.app.layoutManager().setLayout(RED_ALONE)
    user.ui.sideBySideButton.click()
    assert user.layout == SIDE_BY_SIDE_LAYOUT
    assert [view.GetLayoutLabel() for view in user.views()] == ["one", "two"]
    assert [shown_in(node, user.views()) for node in (one, two)] == [[True, False], [False, True]]
    user.ui.sideBySideButton.click()
    assert user.layout == RED_ALONE
    assert not user.ui.sideBySideButton.checked
    assert [list(node.GetDisplayNode().GetViewNodeIDs()) for node in (one, two)] == [[], []]
    assert [node.GetDisplayNode().GetVisibility() for node in (one, two)] == [1, 0]


def test_the_user_may_leave_the_layout_by_other_means(user: Comparer) -> None:
    one, _two = user.pair()
    user.ui.sideBySideButton.click()
    assert one.GetDisplayNode().GetNumberOfViewNodeIDs()
    user.arrange(RED_ALONE)
    assert not user.ui.sideBySideButton.checked
    assert not one.GetDisplayNode().GetNumberOfViewNodeIDs()
    user.ui.sideBySideButton.click()
    user.ui.sideBySideButton.click()
    assert user.layout == RED_ALONE


def test_side_by_side_follows_the_selectors(user: Comparer) -> None:
    one, two = user.pair()
    third = user.segmentation("three", slice(1, 5), slice(2, 6))
    user.ui.sideBySideButton.click()
    user.choose_pair(one, third)
    assert [view.GetLayoutLabel() for view in user.views()] == ["one", "three"]
    assert shown_in(two, user.views()) == [False, False]
    assert shown_in(third, user.views()) == [False, True]


@pytest.mark.parametrize("replaced", [False, True], ids=["new", "replaced"])
def test_results_that_come_while_two_are_side_by_side_have_their_surfaces_there(user: Comparer, replaced: bool) -> None:
    user.choose(user.load(QUICK, "phantom"), "Both")
    user.start()
    user.wait()
    user.ui.sideBySideButton.click()
    if replaced:
        user.ui.equivariantOutputSelector.setCurrentNode(user.results[0])
        user.ui.baselineOutputSelector.setCurrentNode(user.results[1])
    user.start()
    user.wait()
    pair = user.results[-2:]
    assert len(user.results) == (2 if replaced else 4)
    assert [shown_in(node, user.views()) for node in pair] == [[True, False], [False, True]]
    for node in pair:
        assert node.GetSegmentation().ContainsRepresentation("Closed surface")
        assert node.GetDisplayNode().GetVisibility3D()
    user.ui.sideBySideButton.click()
    assert not any(node.GetDisplayNode().GetVisibility3D() for node in user.results)


def test_what_is_shown_or_hidden_while_two_are_side_by_side_stays_so_afterwards(user: Comparer) -> None:
    user.choose(user.load(QUICK, "phantom"), "Both")
    user.start()
    user.wait()
    a, b = user.results
    other, another = (user.segmentation(name, slice(1, 5), slice(2, 6)) for name in ("other", "another"))
    another.GetDisplayNode().SetVisibility(False)
    user.ui.sideBySideButton.click()
    user.ui.show3DButton.click()
    user.host.process_events()
    assert [shown_in(node, user.views()) for node in (a, b)] == [[True, False], [False, True]]
    b.GetDisplayNode().SetVisibility(False)
    other.GetDisplayNode().SetVisibility(False)
    another.GetDisplayNode().SetVisibility(True)
    user.ui.sideBySideButton.click()
    assert user.ui.show3DButton.checked
    assert [bool(node.GetDisplayNode().GetVisibility3D()) for node in (a, b)] == [True, True]
    shown = [bool(node.GetDisplayNode().GetVisibility()) for node in (a, b, other, another)]
    assert shown == [True, False, False, True]


def test_side_by_side_shows_the_errors_of_each_in_its_own_view(user: Comparer) -> None:
    one, two = user.pair()
    user.choose_pair(one, two, user.segmentation("truth", slice(1, 5), slice(3, 6)))
    user.ui.sideBySideButton.click()
    user.compare()
    errors = [user.named(f"{name}: errors against truth") for name in ("one", "two")]
    assert [shown_in(node, user.views()) for node in errors] == [[True, False], [False, True]]


@pytest.mark.parametrize("loss", ["a node", "the scene"])
def test_side_by_side_can_be_turned_off_when_what_it_showed_is_gone(user: Comparer, loss: str) -> None:
    one, two = user.pair()
    user.ui.sideBySideButton.click()
    if loss == "a node":
        slicer.mrmlScene.RemoveNode(two)
        user.host.process_events()
    else:
        user.host.clear_scene()
    assert user.ui.sideBySideButton.enabled
    user.ui.sideBySideButton.click()
    user.host.raise_exceptions()
    assert user.layout == FOUR_UP
    assert not user.ui.sideBySideButton.checked
    assert not user.ui.sideBySideButton.enabled
    if loss == "a node":
        assert not one.GetDisplayNode().GetNumberOfViewNodeIDs()


def test_the_module_reloaded_does_not_listen_twice(user: Comparer) -> None:
    user.pair()
    _module, widget = user.host.load_module(MODULE)
    widget.ui.sideBySideButton.click()
    assert widget.ui.sideBySideButton.checked
    user.arrange(FOUR_UP)
    user.host.raise_exceptions()
    assert not widget.ui.sideBySideButton.checked


def test_a_saved_scene_shows_the_comparison_again(user: Comparer, tmp_path: Path) -> None:
    user.pair()
    user.compare()
    user.ui.sideBySideButton.click()
    before = user.table()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.clear_scene()
    user.arrange(FOUR_UP)
    assert user.table() == [[]]
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    assert [user.ui.comparedASelector.currentNode().GetName(), user.ui.comparedBSelector.currentNode().GetName()] == [
        "one",
        "two",
    ]
    assert user.table() == before
    user.ui.nextRegionButton.click()
    assert user.ui.disagreementLabel.text.startswith("Region 1 of")
    assert user.ui.sideBySideButton.checked
    user.ui.sideBySideButton.click()
    assert user.layout == FOUR_UP
    assert not user.named("one").GetDisplayNode().GetNumberOfViewNodeIDs()


@pytest.mark.parametrize("opened", ["after it has started", "while it starts"])
def test_a_scene_saved_side_by_side_has_its_views_before_the_panel_is_opened(
    user: Comparer, tmp_path: Path, opened: str
) -> None:
    user.pair()
    user.ui.sideBySideButton.click()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    assert views_in_another_slicer(tmp_path / "scene.mrb", opened) == [*COMPARED_VIEWS, *COMPARED_VIEWS]
