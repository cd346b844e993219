"""What a random user does: loads, chooses, presses, deletes, closes, kills, quits; and how often each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import slicer

from panel_user import MODULE, SECONDS_AT_MOST, alive
from random_user import RandomUser, segment_contents
from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.mrml.volumes import has_voxels, volume_from_node
from ScaleEquivSegLib.volume import Volume
from test_panel_input import bending_node, matrix_node, turned

SHAPE = (8, 10, 12)
LAYOUTS = (
    slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView,
    slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView,
)
Action = Callable[[RandomUser], bool | None]
"""False if there was nothing to do."""


# Loading


def load_a_volume(user: RandomUser) -> None:
    volume = new_volume(user, user.random.choice(["phantom", "my t1", "t1ce", "scan", "größe"]))
    kind = user.random.choice(["plain", "plain", "plain", "constant", "NaN", "moved", "bent"])
    array = slicer.util.arrayFromVolume(volume)
    if kind == "constant":
        array[:] = 7
    elif kind == "NaN":
        array[0, 0, 0] = np.nan
    elif kind == "moved":
        volume.SetAndObserveTransformNodeID(matrix_node(turned()).GetID())
    elif kind == "bent":
        volume.SetAndObserveTransformNodeID(bending_node().GetID())
    user.keep(volume)


def load_what_is_no_scan(user: RandomUser) -> None:
    kind = user.random.choice(["empty", "RGB", "label map"])
    if kind == "empty":
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    elif kind == "RGB":
        colours = np.zeros((*SHAPE, 3), np.uint8)
        slicer.util.addVolumeFromArray(colours, name="colours", nodeClassName="vtkMRMLVectorVolumeNode")
    else:
        user.keep(slicer.util.addVolumeFromArray(np.ones(SHAPE, np.uint8), nodeClassName="vtkMRMLLabelMapVolumeNode"))


def load_a_sequence(user: RandomUser) -> None:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for number in range(3):
        frame = new_volume(user, "frame")
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "heart")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())


def draw_a_segmentation(user: RandomUser) -> bool:
    volumes = [each for each in user.data() if each.GetClassName() == "vtkMRMLScalarVolumeNode" and has_voxels(each)]
    if not volumes:
        return False
    volume = user.random.choice(volumes)
    geometry = volume_from_node(volume).geometry
    array = np.zeros(geometry.shape, np.uint8)
    corner = user.random.randrange(4)
    array[corner : corner + 3, 2:6, 2:6] = 1
    array[corner : corner + 3, 7:9, 2:9] = 2
    names = user.random.choice([*[("Head", "Body")] * 6, ("body", "Tail"), ("x", "y")])
    classes = [Label(value, name, (200, 9, 9), {}) for value, name in enumerate(names, 1)]
    user.keep(import_segmentation(Volume(array, geometry), classes, volume, "drawn"))
    return True


def draw_what_to_compare(user: RandomUser) -> bool:
    drawn = draw_a_segmentation(user) and draw_a_segmentation(user)
    if drawn:
        user.ui.comparedASelector.setCurrentNode(user.results[-1])
        user.ui.comparedBSelector.setCurrentNode(user.results[-2])
    return drawn


def new_volume(user: RandomUser, name: str) -> Any:
    noise = np.random.default_rng(user.random.randrange(9)).normal(100, 20, SHAPE).astype(np.float32)
    return slicer.util.addVolumeFromArray(noise, turned() if user.perhaps(0.3) else np.eye(4), name=name)


# Choosing


def choose_a_node(user: RandomUser, selectors: Sequence[Any], node: Any) -> bool:
    """Choose a node, or None, in one of the selectors that offer it and show another."""
    possible = [each for each in selectors if each.enabled and each.currentNode() is not node]
    possible = [each for each in possible if node is None or node in each.nodes()]
    if possible:
        user.random.choice(possible).setCurrentNode(node)
    return bool(possible)


def choose_any_node(user: RandomUser, selectors: Sequence[Any]) -> bool:
    selector = user.random.choice(selectors)
    return choose_a_node(user, [selector], user.random.choice([None, *selector.nodes()]))


def choose_an_entry(user: RandomUser, selector: Any) -> bool:
    model, shown = selector.model(), selector.currentIndex
    possible = [number for number in range(selector.count) if model.item(number).isEnabled() and number != shown]
    if selector.enabled and possible:
        selector.currentIndex = user.random.choice(possible)
    return bool(selector.enabled and possible)


def choose_a_volume(user: RandomUser) -> bool:
    scans = [node for node in user.data() if node.IsA("vtkMRMLScalarVolumeNode") and has_voxels(node)]
    return bool(scans) and choose_a_node(user, user.channels(), user.random.choice(scans))


def choose_any_input(user: RandomUser) -> bool:
    return choose_any_node(user, [*user.channels(), user.ui.regionSelector])


def choose_a_task(user: RandomUser) -> bool:
    return choose_an_entry(user, user.ui.taskSelector)


def choose_a_network(user: RandomUser) -> bool:
    ui = user.ui
    selectors = [ui.networkSelector, ui.equivariantModelSelector, ui.baselineModelSelector]
    return choose_an_entry(user, user.random.choice(selectors))


def choose_both_networks(user: RandomUser) -> bool:
    selector = user.ui.networkSelector
    selector.currentText = "Both" if selector.enabled else selector.currentText
    return bool(selector.enabled)


def choose_how_to_compute(user: RandomUser) -> bool:
    return choose_an_entry(user, user.random.choice([user.ui.deviceSelector, user.ui.precisionSelector]))


def choose_planes(user: RandomUser) -> None:
    user.ui.planesSpinBox.value = user.random.randrange(3)


def choose_an_output(user: RandomUser) -> bool:
    return choose_any_node(user, [user.ui.equivariantOutputSelector, user.ui.baselineOutputSelector])


def choose_what_to_compare(user: RandomUser) -> bool:
    ui = user.ui
    return choose_any_node(user, [ui.comparedASelector, ui.comparedBSelector, ui.referenceSelector])


def choose_scales(user: RandomUser) -> None:
    user.ui.probeFromSpinBox.value = user.random.uniform(0.2, 1.2)
    user.ui.probeStepsSpinBox.value = user.random.randrange(2, 4)


def choose_a_frame(user: RandomUser) -> bool:
    frames = slicer.util.findChild(user.ui.channelsWidget, "frameSpinBox0")
    if frames.isHidden() or not frames.enabled:
        return False
    frames.value = user.random.randint(1, 3)
    user.keep(user.channel_selector().currentNode())  # which shows another frame now
    return True


def make_a_region(user: RandomUser) -> bool:
    if user.ui.regionSelector.enabled:
        region = user.ui.regionSelector.addNode()
        user.keep(region)
        if not any(region.GetSize()):
            user.unfitted.add(region.GetID())
    return bool(user.ui.regionSelector.enabled)


def change_a_region(user: RandomUser) -> bool:
    regions = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    for region in regions:
        region.SetSize(user.random.choice([(0, 0, 0), (5, 5, 5), (40, 40, 40)]))
        region.SetInsideOut(user.perhaps(0.2))
        user.keep(region)
    return bool(regions)


# Pressing


def press(name: str) -> Action:
    def pressed(user: RandomUser) -> bool:
        button = getattr(user.ui, name)
        enabled = bool(button.enabled)
        button.click()  # which does nothing where the button is disabled
        return enabled

    pressed.__name__ = f"press {name}"
    return pressed


def fold(user: RandomUser) -> None:
    boxes = ("inputSection", "compareSection", "detailsBox", "modelsBox", "advancedBox", "logBox")
    box = getattr(user.ui, user.random.choice(boxes))
    box.collapsed = not box.collapsed


# What happens in the scene


def delete_a_node(user: RandomUser) -> bool:
    data = user.data()
    if data:
        node = user.random.choice(data)
        print("   ", node.GetClassName(), node.GetName())
        user.kept.pop(node.GetID(), None)
        slicer.mrmlScene.RemoveNode(node)
    return bool(data)


def delete_what_a_run_needs(user: RandomUser) -> bool:
    ui = user.ui
    selectors = [*user.channels(), ui.equivariantOutputSelector, ui.baselineOutputSelector, ui.regionSelector]
    selectors += [ui.comparedASelector, ui.comparedBSelector, ui.referenceSelector]
    node = user.random.choice(selectors).currentNode()
    if node is None or not user.running:
        return False
    user.kept.pop(node.GetID(), None)
    slicer.mrmlScene.RemoveNode(node)
    return True


def rename_a_node(user: RandomUser) -> bool:
    data = user.data()
    if data:
        node = user.random.choice(data)
        node.SetName(user.random.choice(["phantom", "Größe <b>100 %</b>", "x" * 300, "{name}"]))
        user.keep(node)
    return bool(data)


def change_voxels(user: RandomUser) -> bool:
    scans = [node for node in user.data() if node.IsA("vtkMRMLScalarVolumeNode") and has_voxels(node)]
    for volume in scans[:1]:
        slicer.util.arrayFromVolume(volume)[...] += 1
        slicer.util.arrayFromVolumeModified(volume)
        user.keep(volume)
    return bool(scans)


def edit_a_segmentation(user: RandomUser) -> bool:
    if not user.results:
        return False
    node = user.random.choice(user.results)
    user.history_of(node).SaveState()  # as Segment Editor does
    ids = node.GetSegmentation().GetSegmentIDs()
    if ids and user.perhaps(0.3):
        node.GetSegmentation().RemoveSegment(user.random.choice(ids))
    else:
        node.GetSegmentation().AddEmptySegment("", "Mine")
    user.keep(node)
    return True


def undo_an_edit(user: RandomUser) -> bool:
    return restore(user, "Previous")


def redo_an_edit(user: RandomUser) -> bool:
    return restore(user, "Next")


def restore(user: RandomUser, which: str) -> bool:
    """Bring a segmentation back to what it was before, or after, an edit."""
    for node in user.results:
        history = user.history_of(node)
        if getattr(history, f"IsRestore{which}StateAvailable")():
            assert getattr(history, f"Restore{which}State")()
            user.keep(node)
            return True
    return False


def move_a_node(user: RandomUser) -> bool:
    movable = [each for each in user.data() if each.IsA("vtkMRMLTransformableNode")]
    movable = [each for each in movable if not each.IsA("vtkMRMLTransformNode")]
    if movable:
        transform = user.random.choice([None, *slicer.util.getNodesByClass("vtkMRMLTransformNode")])
        user.random.choice(movable).SetAndObserveTransformNodeID(transform and transform.GetID())
    return bool(movable)


def move_a_volume_itself(user: RandomUser) -> bool:
    """As hardening a transform does, and centring a volume."""
    scans = [node for node in user.data() if node.IsA("vtkMRMLScalarVolumeNode") and has_voxels(node)]
    for volume in scans[:1]:
        if user.perhaps() and volume.GetParentTransformNode() is not None:
            volume.HardenTransform()
        else:
            volume.SetOrigin(*(user.random.randrange(-50, 50) for _axis in range(3)))
        user.keep(volume)
    return bool(scans)


def close_the_scene(user: RandomUser) -> None:
    user.kept.clear()
    slicer.mrmlScene.Clear(0)


def save_and_reopen(user: RandomUser) -> bool:
    if slicer.util.getNodesByClass("vtkMRMLSequenceNode"):
        return False  # without Slicer's readers of files a sequence cannot be read again
    before = in_files(user)
    path = user.folder / "scene.mrb"
    path.unlink(missing_ok=True)
    assert slicer.util.saveScene(str(path))
    user.kept.clear()
    slicer.util.loadScene(str(path))
    changed = set(before) ^ set(in_files(user))
    assert not changed, changed
    for node in user.data():
        user.keep(node)
    return True


def in_files(user: RandomUser) -> list[str]:
    """What a saved scene holds of volumes and segmentations, which come back on grids that are laid out otherwise."""
    scans = [node for node in user.data() if node.IsA("vtkMRMLScalarVolumeNode") and has_voxels(node)]
    found = [f"{node.GetName()}: {np.sort(slicer.util.arrayFromVolume(node), axis=None).tolist()}" for node in scans]
    for node in user.results:
        segments = map(node.GetSegmentation().GetSegment, node.GetSegmentation().GetSegmentIDs())
        counts = [(segment.GetName(), len(segment_contents(segment)[1])) for segment in segments]
        found.append(f"{node.GetName()}: {counts}")
    return found


def arrange_the_views(user: RandomUser) -> None:
    slicer.app.layoutManager().setLayout(user.random.choice(LAYOUTS))


# What happens to Slicer


def change_the_module(user: RandomUser) -> None:
    elsewhere = user.host.selected_module != MODULE.stem
    user.host.select_module(MODULE.stem if elsewhere else "segmentations")


def reload_the_module(user: RandomUser) -> None:
    user.enter_anew()


def quit_and_start_again(user: RandomUser) -> None:
    user.kept.clear()
    user.host.close()
    user.enter_anew()


def kill_the_worker(user: RandomUser) -> bool:
    living = [pid for pid in user.workers if alive(pid)]
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    return bool(living)


def wait_a_little(user: RandomUser) -> bool:
    user.host.wait_until(lambda: False, user.random.uniform(0, 0.1))
    return user.running


def wait_for_the_end(user: RandomUser) -> bool:
    was_running = user.running
    assert user.host.wait_until(lambda: not user.running, SECONDS_AT_MOST)
    return was_running


def wait_until_it_computes(user: RandomUser) -> bool:
    was_running = user.running
    assert user.host.wait_until(lambda: not user.running or "Segmenting" in user.status, SECONDS_AT_MOST)
    return was_running


ON_THE_PANEL: Mapping[Action, float] = {
    choose_a_volume: 8,
    choose_any_input: 1,
    choose_a_task: 1,
    choose_a_network: 3,
    choose_both_networks: 3,
    choose_how_to_compute: 1,
    choose_planes: 1,
    choose_an_output: 3,
    choose_what_to_compare: 3,
    draw_what_to_compare: 5,
    choose_scales: 1,
    choose_a_frame: 8,
    make_a_region: 0.5,
    press("segmentButton"): 16,
    press("cancelButton"): 5,
    press("compareButton"): 12,
    press("probeButton"): 5,
    press("nextRegionButton"): 20,
    press("previousRegionButton"): 15,
    press("sideBySideButton"): 6,
    press("showPlotButton"): 8,
    press("show3DButton"): 3,
    press("exportTableButton"): 6,
    press("addModelsButton"): 1,
    press("removeModelsButton"): 2,
    fold: 2,
}
"""How likely each is, where it can be done."""
ANYWHERE: Mapping[Action, float] = {
    load_a_volume: 2,
    load_what_is_no_scan: 0.5,
    load_a_sequence: 0.5,
    draw_a_segmentation: 1,
    change_a_region: 2,
    delete_a_node: 2,
    delete_what_a_run_needs: 4,
    rename_a_node: 1,
    change_voxels: 1,
    edit_a_segmentation: 2,
    undo_an_edit: 20,
    redo_an_edit: 10,
    move_a_node: 1,
    move_a_volume_itself: 1,
    close_the_scene: 0.5,
    save_and_reopen: 0.7,
    arrange_the_views: 1,
    change_the_module: 1,
    reload_the_module: 0.5,
    quit_and_start_again: 0.5,
    kill_the_worker: 1,
    wait_a_little: 6,
    wait_for_the_end: 40,
    wait_until_it_computes: 6,
}


def act(user: RandomUser) -> None:
    """Do one thing of those that can be done."""
    possible = {**ANYWHERE, **(ON_THE_PANEL if user.widget.parent.isEntered else {})}
    while True:
        (action,) = user.random.choices(list(possible), list(possible.values()))
        if action(user) is not False:
            print(action.__name__)  # pytest shows what was done before a failure
            return
