"""The main job without 3D Slicer: a phantom through the real panel on the stand-in host; results and pictures on disk.

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
from ScaleEquivSegLib.phantom import Phantom, PhantomSpec, make_phantom  # noqa: E402

MODULE = Path(__file__).parents[1] / "ScaleEquivSeg" / "ScaleEquivSeg.py"
# Training used the seeds from 0 and validation those from 100000.
SEED = 200_001
SECONDS_AT_MOST = 300


def main(folder: Path) -> None:
    """Segment a phantom with both networks by clicking through the panel."""
    folder.mkdir(parents=True, exist_ok=True)
    _module, widget = host.load_module(MODULE)
    phantom = make_phantom(PhantomSpec(seed=SEED))
    image = phantom.channels[0]
    volume = slicer.util.addVolumeFromArray(image.array, image.geometry.ijk_to_ras, name="phantom")

    ui = widget.ui
    ui.inputSelector.setCurrentNode(volume)
    ui.networkSelector.currentText = "Both"
    ui.segmentButton.click()
    if not host.wait_until(lambda: not ui.cancelButton.enabled, SECONDS_AT_MOST):
        raise SystemExit("The run did not end.")
    parameters = widget.logic.getParameterNode()
    results = {"equivariant": parameters.equivariantSegmentation, "baseline": parameters.baselineSegmentation}
    if None in results.values():
        raise SystemExit(f"The run failed: {ui.statusLabel.text}")
    ui.sideBySideButton.click()
    host.raise_exceptions()

    _write_table(folder / "dice.csv", _table(results, volume, phantom))
    for name, node in results.items():
        path = folder / f"{name}.seg.nrrd"
        path.unlink(missing_ok=True)
        if not slicer.util.saveNode(node, str(path), {}):
            raise SystemExit(f"{path} could not be written.")
    host.render_views(folder / "side_by_side.png", size=(1200, 640))
    host.grab(widget, folder / "panel.png", width=400)
    host.close()
    print(f"In {folder}/: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _table(results: dict[str, Any], volume: Any, phantom: Phantom) -> list[tuple[str, ...]]:
    """Dice of every segment against the exact labels, one row per network."""
    rows: list[tuple[str, ...]] = []
    for name, node in results.items():
        segmentation = node.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        if not rows:
            rows.append(("network", *(segmentation.GetSegment(i).GetName() for i in ids)))
        found = [slicer.util.arrayFromSegmentBinaryLabelmap(node, i, volume) > 0 for i in ids]
        exact = [phantom.labels.array == value for value in range(1, len(ids) + 1)]
        rows.append((name, *(f"{dice(f, e):.4f}" for f, e in zip(found, exact, strict=True))))
    return rows


def _write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    print("Dice against the exact labels")
    for row in rows:
        print("".join(cell.ljust(14) for cell in row))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
