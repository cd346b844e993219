"""The main job without 3D Slicer: phantoms through the real panel on the stand-in host; results and pictures on disk.

`python Testing/demo.py FOLDER` replaces what an earlier demo left in FOLDER.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import slicerhost

host = slicerhost.start()  # before anything else can import Qt

import slicer  # noqa: E402

from ScaleEquivSegLib.comparison import dice  # noqa: E402
from ScaleEquivSegLib.mrml.samples import SAMPLES, load_sample  # noqa: E402

MODULE = Path(__file__).parents[1] / "ScaleEquivSeg" / "ScaleEquivSeg.py"
SECONDS_AT_MOST = 300

PROBED = "x1.0"

Row = tuple[str, ...]


def main(folder: Path) -> None:
    """Segment each phantom with both networks, compare them and probe the scales by clicking through the panel."""
    folder.mkdir(parents=True, exist_ok=True)
    _module, widget = host.load_module(MODULE)
    rows: list[Row] = [("phantom", "network", "Head", "Body")]
    for sample in SAMPLES:
        name = sample.removeprefix("phantom ")
        volume, exact = load_sample(sample)
        widget.ui.referenceSelector.setCurrentNode(None)
        for network, node in _segment(widget, volume).items():
            rows.append((name, network, *_dice_of(node, exact, volume)))
            _save(node, folder / f"{name}_{network}.seg.nrrd")
        widget.ui.referenceSelector.setCurrentNode(exact)
        _show_compared(widget, folder / f"{name}_side_by_side.png")
        if name == PROBED:
            _probe(widget, folder)
    host.grab(widget, folder / "panel.png", width=400)
    if not slicer.util.saveScene(str(folder / "scene.mrb")):
        raise SystemExit("The scene could not be saved.")
    host.close()
    _report(rows, folder / "dice.csv")
    print(f"In {folder}/: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _segment(widget: Any, volume: Any) -> dict[str, Any]:
    """Choose a volume and both networks, press Segment, and wait for the two segmentation nodes."""
    ui = widget.ui
    ui.taskSelector.currentText = "phantom"
    slicer.util.findChild(widget.parent, "channelSelector0").setCurrentNode(volume)
    ui.networkSelector.currentText = "Both"
    _press(ui.segmentButton, ui)
    return {"equivariant": ui.comparedASelector.currentNode(), "baseline": ui.comparedBSelector.currentNode()}


def _show_compared(widget: Any, path: Path) -> None:
    """Compare the two with the exact labels, look at them side by side at the largest region, and go back."""
    ui = widget.ui
    _press(ui.compareButton, ui)
    ui.sideBySideButton.click()
    ui.nextRegionButton.click()
    host.raise_exceptions()
    host.render_views(path, size=(1200, 1000))
    ui.sideBySideButton.click()


def _probe(widget: Any, folder: Path) -> None:
    """Probe a few scales, look at the plot, and export the table."""
    ui = widget.ui
    ui.probeStepsSpinBox.value = 5
    _press(ui.probeButton, ui)
    host.render_views(folder / "scale_probe.png", size=(1200, 900))
    table = folder / "scale_probe.csv"
    table.unlink(missing_ok=True)
    host.answer = str(table)
    ui.exportTableButton.click()
    ui.showPlotButton.click()
    host.raise_exceptions()


def _press(button: Any, ui: Any) -> None:
    """Press a button that starts a run, and wait for its end."""
    button.click()
    if not host.wait_until(lambda: not ui.cancelButton.enabled, SECONDS_AT_MOST):
        raise SystemExit("The run did not end.")
    host.raise_exceptions()
    if ui.statusLabel.text != "Done.":
        raise SystemExit(f"The run failed: {ui.statusLabel.text}")


def _dice_of(node: Any, exact: Any, volume: Any) -> list[str]:
    """Dice of both parts with the exact labels."""
    figures = []
    for part in ("Segment_1", "Segment_2"):
        found, right = (slicer.util.arrayFromSegmentBinaryLabelmap(each, part, volume) > 0 for each in (node, exact))
        figures.append(f"{dice(found, right):.4f}")
    return figures


def _save(node: Any, path: Path) -> None:
    path.unlink(missing_ok=True)
    if not slicer.util.saveNode(node, str(path), {}):
        raise SystemExit(f"{path} could not be written.")


def _report(rows: list[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    print("Dice with the exact labels")
    for row in rows:
        print("".join(cell.ljust(14) for cell in row).rstrip())


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())  # Slicer saves a scene by a full path only
