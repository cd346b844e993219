"""The section Scale probe, clicked through: scales, the sweep, its table and its chart."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

import slicerhost
from panel_user import QUICK, QuickWorker, User, views_in_another_slicer
from quick_answers import swept
from ScaleEquivSegLib.bundles import Label, bundled_models, read_bundle
from ScaleEquivSegLib.labelmap import read_labelmap
from ScaleEquivSegLib.mrml.layouts import PLOT_LAYOUT, PLOT_VIEW
from ScaleEquivSegLib.mrml.placing import region_seen_from
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.mrml.tables import ORIGIN, keep_origin
from ScaleEquivSegLib.phantom import make_phantom
from ScaleEquivSegLib.roi import Box
from ScaleEquivSegLib.scaling import geometric_scales

RED_ALONE = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


class ProbingWorker(QuickWorker):
    """Answers a sweep at once, with figures that the scales decide, and reads the reference before it is gone."""

    def __init__(self, desk: Any) -> None:
        super().__init__(desk)
        self.references: list[np.ndarray] = []

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["type"] != "sweep":
            return super()._answer(request)
        reference = request.get("reference")
        if reference:
            self.references.append(read_labelmap(Path(reference)).volume.array)
        return {"type": "result", "id": request["id"], **swept(request["scales"], bool(reference), request["bundle"])}


class Prober(User):
    """A user with a phantom, who looks at one slice view."""

    def __init__(self, host: slicerhost.Host) -> None:
        super().__init__(host)
        slicer.app.layoutManager().setLayout(RED_ALONE)

    def quicken(self, kind: type[QuickWorker] = ProbingWorker) -> Any:
        return super().quicken(kind)

    def probe(self) -> str:
        assert self.ui.probeButton.enabled, self.said
        self.ui.probeButton.click()
        self.wait()
        return self.said

    def reference(self, volume: Any, classes: dict[int, str]) -> Any:
        labels = make_phantom(QUICK).labels
        node = import_segmentation(labels, [Label(v, n, (9, 9, 9), {}) for v, n in classes.items()], volume, "truth")
        self.ui.referenceSelector.setCurrentNode(node)
        return node

    @property
    def said(self) -> str:
        return str(self.ui.probeStatusLabel.text)

    @property
    def layout(self) -> int:
        return int(slicer.app.layoutManager().layout)

    def only(self, class_name: str) -> Any:
        (node,) = slicer.util.getNodesByClass(class_name)
        return node

    def table(self) -> dict[str, list[float]]:
        table = self.only("vtkMRMLTableNode").GetTable()
        columns = [table.GetColumn(number) for number in range(table.GetNumberOfColumns())]
        return {c.GetName(): [c.GetValue(row) for row in range(table.GetNumberOfRows())] for c in columns}

    def shown_chart(self) -> Any:
        return slicer.mrmlScene.GetSingletonNode(PLOT_VIEW, "vtkMRMLPlotViewNode").GetPlotChartNode()

    def legend(self) -> list[str]:
        chart = self.only("vtkMRMLPlotChartNode")
        return [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]


@pytest.fixture
def user() -> Iterator[Prober]:
    host = slicerhost.start()
    user = Prober(host)
    yield user
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    host.close()
    host.raise_exceptions()


@pytest.mark.parametrize(
    ("low", "high", "steps", "scales"),
    [
        (0.5, 2.0, 5, [0.5, 0.707, 1.0, 1.414, 2.0]),
        (0.5, 2.0, 2, [0.5, 1.0, 2.0]),
        (0.9, 1.6, 3, [0.9, 1.0, 1.2, 1.6]),
        (1.0, 1.0, 4, [1.0]),
    ],
)
def test_scales_grow_by_one_factor_and_1_is_always_among_them(
    low: float, high: float, steps: int, scales: list[float]
) -> None:
    assert geometric_scales(low, high, steps) == scales


def test_what_is_missing_for_a_probe_is_said(user: Prober) -> None:
    assert not user.ui.probeButton.enabled
    assert user.said == user.ui.probeButton.toolTip == "Choose a volume."
    assert not user.ui.showPlotButton.enabled
    assert not user.ui.exportTableButton.enabled
    assert user.ui.exportTableButton.toolTip == "Probe the scales of what is chosen first."
    user.choose(user.load(QUICK))
    assert user.ui.probeButton.enabled
    assert not user.said


def test_each_chosen_network_is_swept_with_the_choices_of_the_panel(user: Prober) -> None:
    worker = user.quicken()
    user.choose(user.load(QUICK), "Both")
    user.ui.mirrorCheckBox.checked = True
    user.ui.probeFromSpinBox.value = 0.8
    user.ui.probeToSpinBox.value = 1.25
    user.ui.probeStepsSpinBox.value = 3
    assert user.probe() == "Done."
    sweeps = [request for request in worker.requests if request["type"] == "sweep"]
    assert [Path(sweep["bundle"]).name for sweep in sweeps] == ["phantom-se_unet", "phantom-unet"]
    for sweep in sweeps:
        assert sweep["scales"] == [0.8, 1.0, 1.25]
        assert sweep["mirror"]
        assert sweep["device"] == "cpu"
        assert "reference" not in sweep
        assert sweep["roi"] is None


def test_the_table_and_the_chart_have_a_column_and_a_curve_for_each_network(user: Prober) -> None:
    user.quicken()
    user.choose(user.load(QUICK), "Both")
    user.probe()
    table = user.table()
    assert list(table) == [
        "Scale",
        *(
            f"{net} with itself{what}"
            for net in ("phantom-se_unet", "phantom-unet")
            for what in ("", ": Head", ": Body")
        ),
    ]
    assert table["Scale"] == [0.5, 0.707, 1.0, 1.414, 2.0]
    assert table["phantom-unet with itself: Head"] == pytest.approx([0.5, 0.707, 1.0, 1 / 1.414, 0.5], abs=1e-4)
    assert table["phantom-unet with itself"] == pytest.approx([0.75, 0.8535, 1.0, 0.8536, 0.75], abs=1e-4)
    chart = user.only("vtkMRMLPlotChartNode")
    assert user.legend() == ["phantom-se_unet with itself", "phantom-unet with itself"]
    assert chart.GetLegendVisibility()
    assert [chart.GetXAxisTitle(), chart.GetYAxisTitle()] == ["Scale", "Dice, mean of all segments"]
    first, second = (chart.GetNthPlotSeriesNode(number) for number in range(2))
    assert first.GetColor() != second.GetColor()
    for series in (first, second):
        assert series.GetTableNode() is user.only("vtkMRMLTableNode")
        assert [series.GetXColumnName(), series.GetYColumnName()] == ["Scale", series.GetName()]


def test_a_reference_adds_a_dashed_curve_and_is_counted_as_the_network_counts(user: Prober) -> None:
    worker = user.quicken()
    volume = user.load(QUICK)
    user.choose(volume, "Both")
    user.reference(volume, {1: "HEAD", 2: "body"})
    user.probe()
    names = ("phantom-se_unet", "phantom-unet")
    assert user.legend() == [f"{name} with {what}" for name in names for what in ("itself", "the reference")]
    chart = user.only("vtkMRMLPlotChartNode")
    series = [chart.GetNthPlotSeriesNode(number) for number in range(4)]
    solid, dash = slicer.vtkMRMLPlotSeriesNode.LineStyleSolid, slicer.vtkMRMLPlotSeriesNode.LineStyleDash
    assert [node.GetLineStyle() for node in series] == [solid, dash] * 2
    # A legend of Slicer shows no dashes, but colours and markers.
    assert len({node.GetMarkerStyle() for node in series}) == 4
    assert series[0].GetColor() == series[1].GetColor() != series[2].GetColor() == series[3].GetColor()
    assert user.table()["phantom-unet with the reference"] == pytest.approx([0.375] * 5)
    assert np.array_equal(worker.references[0], make_phantom(QUICK).labels.array)


def test_a_reference_whose_segments_have_other_names_is_refused_with_what_to_do(user: Prober) -> None:
    user.quicken()
    volume = user.load(QUICK)
    user.choose(volume)
    user.reference(volume, {1: "Head", 2: "Tail"})
    said = user.probe()
    assert said == "The reference truth has no segment named Body; rename its segments, or choose none."
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")


def test_a_region_is_probed_alone_and_has_a_table_of_its_own(user: Prober) -> None:
    worker = user.quicken()
    volume = user.load(QUICK)
    user.choose(volume)
    user.probe()
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    region.SetSize(10, 20, 30)
    user.ui.regionSelector.setCurrentNode(region)
    assert not user.ui.exportTableButton.enabled
    user.probe()
    assert Box.from_values(worker.requests[-1]["roi"]) == region_seen_from(volume, region)
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTableNode")] == [
        "scan: Dice by scale",
        "scan in box: Dice by scale",
    ]
    assert user.shown_chart().GetTitle() == "scan in box: scale probe"
    region.SetSize(0, 0, 0)
    user.host.process_events()
    assert not user.ui.probeButton.enabled
    assert "no size" in user.said


def test_a_reference_that_was_made_from_another_volume_is_told(user: Prober) -> None:
    user.quicken()
    user.reference(user.load(QUICK, "former"), {1: "Head", 2: "Body"})
    user.choose(user.load(QUICK))
    assert user.probe() == "Done. The reference truth was made from former, not from scan."


def test_what_was_probed_with_what_was_edited_since_is_out_of_date(user: Prober) -> None:
    user.quicken()
    volume = user.load(QUICK)
    user.choose(volume)
    truth = user.reference(volume, {1: "Head", 2: "Body"})
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    region.SetSize(10, 20, 30)
    user.ui.regionSelector.setCurrentNode(region)
    changes = (
        lambda: region.SetCenter(1, 2, 3),
        lambda: region.SetSize(10, 20, 31),
        lambda: truth.GetSegmentation().GetSegment("Segment_1").SetName("head"),
        lambda: slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume) + 1),
        lambda: volume.SetSpacing(1, 2, 3),
    )
    for change in changes:
        user.probe()
        region.GetDisplayNode().SetOpacity(0.5)
        user.host.process_events()
        assert user.ui.probeNote.isHidden()
        change()
        user.host.process_events()
        assert not user.ui.probeNote.isHidden()
    user.ui.probeButton.click()
    region.SetCenter(4, 5, 6)
    user.wait()
    assert not user.ui.probeNote.isHidden()


def test_probing_again_fills_the_same_table_and_chart(user: Prober) -> None:
    user.quicken()
    volume = user.load(QUICK)
    user.choose(volume, "Both")
    user.probe()
    made = [user.only(kind).GetID() for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode")]
    user.choose(volume, "Equivariant")
    user.probe()
    assert [user.only(kind).GetID() for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode")] == made
    assert user.legend() == ["phantom-se_unet with itself"]
    assert user.only("vtkMRMLPlotSeriesNode").GetName() == "phantom-se_unet with itself"
    user.choose(user.load(QUICK, "another"))
    assert not user.ui.exportTableButton.enabled  # the table of another volume
    user.probe()
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 2


def test_the_chart_is_shown_below_the_slices_and_the_former_layout_comes_back(user: Prober, tmp_path: Path) -> None:
    user.quicken()
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "theirs")
    slicer.modules.plots.logic().ShowChartInLayout(theirs)
    former = user.layout
    user.choose(user.load(QUICK), "Both")
    user.probe()
    assert user.layout == PLOT_LAYOUT
    assert user.ui.showPlotButton.checked
    assert user.shown_chart().GetName() == "scan: scale probe"
    user.host.render_views(tmp_path / "plot.png", (300, 240))
    user.ui.showPlotButton.click()
    assert user.layout == former
    assert {view.GetPlotChartNode() for view in slicer.util.getNodesByClass("vtkMRMLPlotViewNode")} == {
        theirs,
        user.shown_chart(),
    }
    assert not user.ui.showPlotButton.checked
    user.ui.showPlotButton.click()
    assert user.layout == PLOT_LAYOUT
    slicer.app.layoutManager().setLayout(RED_ALONE)
    assert not user.ui.showPlotButton.checked
    user.ui.showPlotButton.click()
    user.host.clear_scene()
    assert user.layout == RED_ALONE
    assert not user.ui.showPlotButton.enabled


def test_charts_of_others_are_shown_elsewhere(user: Prober) -> None:
    user.quicken()
    user.choose(user.load(QUICK), "Both")
    user.probe()
    ours = user.shown_chart()
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "theirs")
    slicer.app.applicationLogic().GetSelectionNode().SetActivePlotChartID(theirs.GetID())
    slicer.app.applicationLogic().PropagatePlotChartSelection()
    assert user.shown_chart() is ours


def test_the_chart_follows_the_chosen_volume(user: Prober) -> None:
    user.quicken()
    for name in ("one", "two"):
        user.choose(user.load(QUICK, name), "Both")
        user.probe()
    assert user.shown_chart().GetName() == "two: scale probe"
    user.channel_selector().setCurrentNode(slicer.util.getNode("one"))
    user.host.process_events()
    assert user.ui.showPlotButton.checked
    assert user.shown_chart().GetName() == "one: scale probe"
    user.ui.showPlotButton.click()
    assert user.layout == RED_ALONE


def test_plot_and_side_by_side_lead_back_to_the_layout_of_the_user(user: Prober) -> None:
    user.quicken()
    user.choose(user.load(QUICK), "Both")
    user.start()
    user.wait()
    user.probe()
    user.ui.sideBySideButton.click()
    assert not user.ui.showPlotButton.checked
    user.ui.showPlotButton.click()
    assert not user.ui.sideBySideButton.checked
    user.ui.showPlotButton.click()
    assert user.layout == RED_ALONE


def test_a_name_that_no_file_can_have_is_not_suggested_for_one(user: Prober) -> None:
    user.quicken()
    user.choose(user.load(QUICK, 'T1/axial "new"'))
    user.probe()
    user.host.answer = ""
    user.ui.exportTableButton.click()
    assert user.host.dialogs[-1].text == str(Path.home() / "T1-axial -new- Dice by scale.csv")


def test_the_table_is_exported_whole_and_replaces_nothing_unasked(user: Prober, tmp_path: Path) -> None:
    user.quicken()
    user.choose(user.load(QUICK), "Both")
    user.probe()
    path = tmp_path / "größe.csv"
    user.host.answer = str(tmp_path / "größe")
    user.ui.exportTableButton.click()
    heading, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    table = user.table()
    assert {title: [float(row[n]) for row in rows] for n, title in enumerate(heading[: len(table)])} == table
    assert dict(zip(heading[len(table) :], rows[-1][len(table) :], strict=True)) == {
        "bundle": "phantom-se_unet; phantom-unet",
        "bundle_version": "1.0.0",
        "weights_sha256": "weights of phantom-se_unet; weights of phantom-unet",
        "input_voxels_sha256": "voxels",
    }
    # With the whole name Qt asks, and without the ending, which it does not know, we do.
    for chosen, question in ((path, "größe.csv already exists"), (path.with_suffix(""), f"Replace {path}?")):
        for agreed in (False, True):
            path.write_text("kept")
            user.host.dialogs.clear()
            user.host.answer = lambda dialog, to=str(chosen), yes=agreed: to if dialog.kind == "file" else yes
            user.ui.exportTableButton.click()
            _file, asked = user.host.dialogs
            assert asked.text.startswith(question)
            assert (path.read_text() == "kept") != agreed
    user.host.answer = ""
    user.ui.exportTableButton.click()  # no file was chosen
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_a_table_comes_from_is_told_of_each_network_in_turn_unless_it_is_the_same_for_all() -> None:
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    versions = ("1.0.0", "2.0.0", "1.0.0")
    answers = [dict.fromkeys(ORIGIN, "same") | {"bundle_version": version} for version in versions]
    keep_origin(table, answers)
    assert table.GetAttribute("ScaleEquivSeg.bundle_version") == "1.0.0; 2.0.0; 1.0.0"
    assert table.GetAttribute("ScaleEquivSeg.input_voxels_sha256") == "same"


def test_a_table_that_cannot_be_written_is_reported(user: Prober, tmp_path: Path) -> None:
    user.quicken()
    user.choose(user.load(QUICK))
    user.probe()
    (tmp_path / "file").touch()
    user.host.answer = lambda dialog: str(tmp_path / "file" / "table.csv") if dialog.kind == "file" else True
    user.ui.exportTableButton.click()
    assert "cannot be written" in user.host.dialogs[-1].text


def test_the_worker_itself_finds_at_scale_1_what_it_finds_unscaled_and_can_be_cancelled(user: Prober) -> None:
    user.choose(user.load(QUICK))
    user.ui.probeToSpinBox.value = 1.0
    user.ui.probeStepsSpinBox.value = 2
    user.ui.probeButton.click()
    assert user.ui.probeButton.text == "Cancel"
    assert user.host.wait_until(lambda: "Scale 0.5" in user.said, 120)
    assert user.said == user.status
    user.ui.probeButton.click()
    user.wait()
    assert user.said == "Cancelled."
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")
    user.probe()
    assert user.table()["Scale"] == [0.5, 1.0]
    assert user.table()["phantom-unet with itself"][1] == 1.0
    assert (
        user.only("vtkMRMLTableNode").GetAttribute("ScaleEquivSeg.weights_sha256")
        == read_bundle(bundled_models() / "phantom-unet").sha256
    )


def test_a_saved_scene_shows_the_chart_and_the_choices_again(user: Prober, tmp_path: Path) -> None:
    user.quicken()
    user.choose(user.load(QUICK), "Both")
    user.ui.probeStepsSpinBox.value = 3
    user.probe()
    table, legend = user.table(), user.legend()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.clear_scene()
    slicer.app.layoutManager().setLayout(RED_ALONE)
    assert user.ui.probeStepsSpinBox.value == 5
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    assert user.ui.probeStepsSpinBox.value == 3
    assert user.layout == PLOT_LAYOUT
    assert user.ui.showPlotButton.checked
    assert user.shown_chart() is user.only("vtkMRMLPlotChartNode")
    assert user.table() == table
    assert user.legend() == legend
    user.ui.showPlotButton.click()
    assert user.layout == RED_ALONE
    shown = views_in_another_slicer(tmp_path / "scene.mrb", "after it has started")
    assert shown == ["Red", "Green", "Yellow", PLOT_VIEW]
