"""Two segmentations side by side: which views show which, and how they are left."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import slicer
import vtk

from comparing_user import FOUR_UP, RED_ALONE, Comparer, comparer, shown_in
from panel_user import MODULE, QUICK, views_in_another_slicer
from ScaleEquivSegLib.mrml.layouts import COMPARED_VIEWS, SIDE_BY_SIDE_LAYOUT

user = pytest.fixture(comparer)


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


@pytest.mark.parametrize("former", [None, "98765"])
def test_from_a_layout_that_is_not_known_here_it_leads_to_four_views(user: Comparer, former: str | None) -> None:
    user.pair()
    user.ui.sideBySideButton.click()
    node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    node.SetAttribute("ScaleEquivSeg.FormerLayout", former)  # as in a scene from elsewhere
    user.ui.sideBySideButton.click()
    assert user.layout == FOUR_UP


def test_the_users_own_views_stay_where_they_are_while_those_side_by_side_are_scrolled(user: Comparer) -> None:
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    red.GetSliceCompositeNode().SetBackgroundVolumeID(user.volume.GetID())
    red.GetSliceCompositeNode().SetLinkedControl(True)
    red.FitSliceToAll()
    red.SetSliceOffset(3.0)
    user.pair()
    user.ui.sideBySideButton.click()
    left, right = (slicer.app.layoutManager().sliceWidget(name).sliceLogic() for name in COMPARED_VIEWS)
    left.StartSliceOffsetInteraction()
    left.SetSliceOffset(7.0)
    left.EndSliceOffsetInteraction()
    assert right.GetSliceOffset() == pytest.approx(7.0)
    assert red.GetSliceOffset() == pytest.approx(3.0)
    groups = [
        {slicer.mrmlScene.GetSingletonNode(name, kind).GetViewGroup() for name in names}
        for kind, names in (
            *((kind, COMPARED_VIEWS) for kind in ("vtkMRMLSliceNode", "vtkMRMLViewNode")),
            ("vtkMRMLSliceNode", ("Red", "Green", "Yellow")),
        )
    ]
    assert groups[0] == groups[1]
    assert groups[0].isdisjoint(groups[2])
    assert len(groups[0]) == 1


def test_both_surfaces_are_seen_whole_and_at_one_scale(user: Comparer) -> None:
    one = user.segmentation("one", slice(1, 2), slice(0))
    two = user.segmentation("two", slice(1, 3), slice(0))
    user.choose_pair(one, two)
    user.ui.sideBySideButton.click()
    views = [slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLViewNode") for name in COMPARED_VIEWS]
    left, right = (slicer.modules.cameras.logic().GetViewActiveCameraNode(view).GetCamera() for view in views)
    for ask in ("GetPosition", "GetFocalPoint", "GetViewUp", "GetParallelScale"):
        assert getattr(left, ask)() == pytest.approx(getattr(right, ask)())
    to_world = vtk.vtkMatrix4x4()
    user.volume.GetIJKToRASMatrix(to_world)
    to_view = left.GetCompositeProjectionTransformMatrix(1.0, 0.1, 1000.0)
    reach = 0.0  # from the middle of the view; its edges are at 1
    for corner in itertools.product((2, 5), (2, 5), (1, 2)):  # of all that is drawn
        x, y, _depth, w = to_view.MultiplyPoint(to_world.MultiplyPoint((*corner, 1.0)))
        reach = max(reach, abs(x / w), abs(y / w))
    assert 0.5 < reach < 1
    heights = [slicer.app.layoutManager().sliceWidget(name).sliceLogic().GetSliceOffset() for name in COMPARED_VIEWS]
    drawn = [to_world.MultiplyPoint((0, 0, plane, 1.0))[2] for plane in (0.5, 2.5)]
    assert min(drawn) < heights[0] == heights[1] < max(drawn)


def test_the_views_are_aimed_anew_when_side_by_side_begins_and_stay_where_they_are_while_it_lasts(
    user: Comparer,
) -> None:
    user.pair()
    user.ui.sideBySideButton.click()
    left = slicer.app.layoutManager().sliceWidget(COMPARED_VIEWS[0]).sliceLogic()
    aimed = left.GetSliceOffset()
    left.SetSliceOffset(aimed + 2)
    user.choose_pair(*(user.segmentation(name, slice(1, 4), slice(2, 5)) for name in ("three", "four")))
    assert left.GetSliceOffset() == pytest.approx(aimed + 2)
    user.ui.sideBySideButton.click()
    slicer.util.setSliceViewerLayers(background=user.volume)  # as where a volume is loaded
    left.SetSliceOffset(aimed + 40)
    user.ui.sideBySideButton.click()
    assert abs(left.GetSliceOffset() - aimed) < 10


def test_a_segmentation_that_a_script_made_without_a_display_is_shown_too(user: Comparer) -> None:
    one, _two = user.pair()
    bare = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
    bare.SetReferenceImageGeometryParameterFromVolumeNode(user.volume)
    bare.GetSegmentation().AddEmptySegment("Segment_1", "Head")
    user.choose_pair(one, bare)
    user.ui.sideBySideButton.click()
    user.host.raise_exceptions()
    assert shown_in(bare, user.views()) == [False, True]
    assert user.compare() == "Done. Not compared, as not all have it: Body of one."


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
    left = slicer.app.layoutManager().sliceWidget(COMPARED_VIEWS[0]).sliceLogic()
    left.SetSliceOffset(scrolled := left.GetSliceOffset() + 1)
    if replaced:
        user.ui.equivariantOutputSelector.setCurrentNode(user.results[0])
        user.ui.baselineOutputSelector.setCurrentNode(user.results[1])
    user.start()
    user.wait()
    assert left.GetSliceOffset() == pytest.approx(scrolled)
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


def test_side_by_side_can_be_turned_off_when_what_it_showed_is_gone(user: Comparer) -> None:
    one, two = user.pair()
    user.ui.sideBySideButton.click()
    slicer.mrmlScene.RemoveNode(two)
    user.host.process_events()
    assert user.ui.sideBySideButton.enabled
    user.ui.sideBySideButton.click()
    user.host.raise_exceptions()
    assert user.layout == FOUR_UP
    assert not user.ui.sideBySideButton.checked
    assert not user.ui.sideBySideButton.enabled
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


def test_a_scene_that_is_closed_leaves_the_layout_that_the_user_had(user: Comparer) -> None:
    user.pair()
    user.arrange(RED_ALONE)
    user.ui.sideBySideButton.click()
    user.host.clear_scene()
    user.host.raise_exceptions()
    assert user.layout == RED_ALONE
    assert not user.ui.sideBySideButton.checked
    assert not user.ui.sideBySideButton.enabled


def test_slicer_does_not_start_with_empty_views_where_it_was_quit_side_by_side(user: Comparer) -> None:
    slicer.mrmlScene.Clear()
    slicer.app.layoutManager().setLayout(SIDE_BY_SIDE_LAYOUT)  # as Slicer's main window restores it
    user.module.registerLayouts()
    assert user.layout == FOUR_UP


@pytest.mark.parametrize("opened", ["after it has started", "while it starts"])
def test_a_scene_saved_side_by_side_has_its_views_before_the_panel_is_opened(
    user: Comparer, tmp_path: Path, opened: str
) -> None:
    user.pair()
    user.ui.sideBySideButton.click()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    assert views_in_another_slicer(tmp_path / "scene.mrb", opened) == [*COMPARED_VIEWS, *COMPARED_VIEWS]
