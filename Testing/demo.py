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
SECONDS_AT_MOST = 900

PROBED = "phantom x1.0"
WIDTH = 320
"""Of the panel in pictures: as narrow as people make it on a laptop."""
SECTIONS = ("input", "network", "segment", "result", "compare", "probe")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(folder)
    try:
        for name in SAMPLES:
            demo.run(name)
        demo.save_scene()
    finally:
        host.close()
    demo.report()
    print(f"In {folder}/: {', '.join(sorted(path.name for path in folder.iterdir()))}")


class Demo:
    """Clicks through the panel; notes what was found, and takes pictures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _module, self._widget = host.load_module(MODULE)
        self._ui = self._widget.ui
        self._rows: list[tuple[str, ...]] = [("phantom", "network", "Head", "Body")]

    def run(self, name: str) -> None:
        """Segment a phantom with both networks and compare them; of one, probe the scales, too."""
        *volumes, exact = load_sample(name)
        short = name.removeprefix("phantom ").replace(" ", "_")
        for network, node in self._segment(volumes).items():
            self._rows.append((short, network, *_dice_of(node, exact, volumes[0])))
            self._save(node, f"{short}_{network}.seg.nrrd")
        self._compare(exact, f"{short}_side_by_side.png")
        if name == PROBED:
            self._probe()
            self._grab_sections()
            self._grab("panel.png")

    def save_scene(self) -> None:
        if not slicer.util.saveScene(str(self._folder / "scene.mrb")):
            raise SystemExit("The scene could not be saved.")

    def report(self) -> None:
        """Print Dice with the exact labels, and write it to a file."""
        with (self._folder / "dice.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(self._rows)
        print("Dice with the exact labels")
        for row in self._rows:
            print("".join(cell.ljust(14) for cell in row).rstrip())

    def _segment(self, volumes: list[Any]) -> dict[str, Any]:
        """Choose the volumes and both networks, press Segment, and wait for the two segmentation nodes."""
        ui = self._ui
        ui.referenceSelector.setCurrentNode(None)
        ui.taskSelector.currentText = "phantom" if len(volumes) == 1 else f"phantom-{len(volumes)}ch"
        for number, volume in enumerate(volumes):
            slicer.util.findChild(self._widget.parent, f"channelSelector{number}").setCurrentNode(volume)
        ui.networkSelector.currentText = "Both"
        self._press(ui.segmentButton)
        return {"equivariant": ui.comparedASelector.currentNode(), "baseline": ui.comparedBSelector.currentNode()}

    def _compare(self, exact: Any, picture: str) -> None:
        """Compare the two with the exact labels, look at them side by side at the largest region, and go back."""
        ui = self._ui
        ui.referenceSelector.setCurrentNode(exact)
        self._press(ui.compareButton)
        ui.sideBySideButton.click()
        ui.nextRegionButton.click()
        host.raise_exceptions()
        host.render_views(self._folder / picture, size=(1200, 1000))
        ui.sideBySideButton.click()

    def _probe(self) -> None:
        """Probe a few scales, look at the plot, and export the table."""
        ui = self._ui
        ui.probeStepsSpinBox.value = 5
        self._press(ui.probeButton)
        host.render_views(self._folder / "scale_probe.png", size=(1200, 900))
        table = self._folder / "scale_probe.csv"
        table.unlink(missing_ok=True)
        host.answer = str(table)
        ui.exportTableButton.click()
        ui.showPlotButton.click()
        host.raise_exceptions()

    def _grab_sections(self) -> None:
        """A picture of each section alone, all that can be opened in it open."""
        buttons = {section: getattr(self._ui, f"{section}Section") for section in SECTIONS}
        boxes = (self._ui.detailsBox, self._ui.modelsBox, self._ui.advancedBox, self._ui.logBox)
        before = [(each, each.collapsed) for each in (*buttons.values(), *boxes)]
        for box in boxes:
            box.collapsed = False
        for number, section in enumerate(SECTIONS, 1):
            for each, button in buttons.items():
                button.collapsed = each != section
            self._grab(f"section_{number}_{section}.png")
        for each, collapsed in before:
            each.collapsed = collapsed

    def _grab(self, picture: str) -> None:
        host.grab(self._widget, self._folder / picture, width=WIDTH)

    def _press(self, button: Any) -> None:
        """Press a button that starts a run, and wait for its end."""
        button.click()
        if not host.wait_until(lambda: not self._ui.cancelButton.enabled, SECONDS_AT_MOST):
            raise SystemExit("The run did not end.")
        host.raise_exceptions()
        if self._ui.statusLabel.text != "Done.":
            raise SystemExit(f"The run failed: {self._ui.statusLabel.text}")

    def _save(self, node: Any, name: str) -> None:
        path = self._folder / name
        path.unlink(missing_ok=True)
        if not slicer.util.saveNode(node, str(path), {}):
            raise SystemExit(f"{path} could not be written.")


def _dice_of(node: Any, exact: Any, volume: Any) -> list[str]:
    """Dice of both parts with the exact labels."""
    figures = []
    for part in ("Segment_1", "Segment_2"):
        found, right = (slicer.util.arrayFromSegmentBinaryLabelmap(each, part, volume) > 0 for each in (node, exact))
        figures.append(f"{dice(found, right):.4f}")
    return figures


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())  # Slicer saves a scene by a full path only
