"""What a user does with the panel on the stand-in host, and what they see of it; the tests of its sections share it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer

import slicerhost
from quick_answers import segmented
from ScaleEquivSegLib.answers import Models, answer
from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.request import request_from

MODULE = Path(__file__).parents[1] / "ScaleEquivSeg" / "ScaleEquivSeg.py"
SECONDS_AT_MOST = 120
QUICK = PhantomSpec(seed=1, size=(32, 32, 32), spacing=(1.25, 1.25, 1.25))
SLOW = PhantomSpec(seed=1, size=(112, 112, 112), spacing=(1, 1, 1))
OBLIQUE = ((0.8, -0.48, -0.36), (0.6, 0.64, 0.48), (0.0, 0.6, -0.8))  # and left-handed


class QuickWorker:
    """In the worker's place: answers at once, with labels that the values of the first channel decide."""

    pid = 0

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        self.running = False
        self.requests: list[dict[str, Any]] = []
        self.devices: list[dict[str, str]] = []
        self.answers = True
        self.stops = 0

    @property
    def segmented(self) -> list[dict[str, Any]]:
        """What it was asked to segment."""
        return [request for request in self.requests if request["type"] == "segment"]

    def send(self, request: dict[str, Any]) -> None:
        self.requests.append(json.loads(json.dumps(request)))
        if self.answers:
            stops = self.stops
            qt.QTimer.singleShot(0, lambda: self._reply(request) if self.stops == stops else None)

    def stop(self) -> None:
        self.stops += 1

    def _reply(self, request: dict[str, Any]) -> None:
        self._desk._on_message(self._answer(request))

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        about = {"id": request["id"]}
        if request["type"] == "cancel":
            return {"type": "cancelled", **about}
        if request["type"] == "devices":
            return {"type": "result", "devices": self.devices, **about}
        found = segmented(request["inputs"][0], request["output"], request["bundle"])
        return {"type": "result", **about, **found}


class ThisProcess(QuickWorker):
    """In the worker's place: does in this process what the worker would do."""

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            found = answer(request_from(request), Models(), lambda phase, fraction: None)
        except SegmentationError as error:
            return {"type": "error", "id": request["id"], "message": str(error)}
        return {"type": "result", "id": request["id"], **found}


class User:
    """What a user does with the panel, and what they see of it."""

    def __init__(self, host: slicerhost.Host) -> None:
        self.host = host
        self.module, self.widget = host.load_module(MODULE)
        self.ui = self.widget.ui

    def load(self, spec: PhantomSpec, name: str = "scan") -> Any:
        volume = make_phantom(spec).channels[0]
        return slicer.util.addVolumeFromArray(volume.array, volume.geometry.ijk_to_ras, name=name)

    def choose(self, volume: Any, network: str = "Baseline") -> None:
        self.channel_selector().setCurrentNode(volume)
        self.ui.networkSelector.currentText = network
        self.ui.deviceSelector.currentText = "CPU"

    def channel_selector(self, number: int = 0) -> Any:
        return slicer.util.findChild(self.ui.channelsWidget, f"channelSelector{number}")

    def quicken(self, kind: type[QuickWorker] = QuickWorker) -> QuickWorker:
        """Let nothing be computed, where what the worker does with a request does not matter; or in this process."""
        desk = self.widget.panel.desk
        desk.worker.stop()
        desk.worker = kind(desk)
        return desk.worker

    @property
    def parameters(self) -> Any:
        return self.widget.logic.getParameterNode()

    def entries(self, selector: Any) -> list[str]:
        return [selector.itemText(number) for number in range(selector.count)]

    def start(self) -> None:
        assert self.ui.segmentButton.enabled, self.ui.statusLabel.text
        self.ui.segmentButton.click()

    def wait(self) -> None:
        assert self.host.wait_until(lambda: not self.running, SECONDS_AT_MOST)
        self.host.raise_exceptions()

    def wait_until_computing(self) -> None:
        assert self.host.wait_until(lambda: "Segmenting" in self.status, SECONDS_AT_MOST)

    @property
    def running(self) -> bool:
        return bool(self.ui.cancelButton.enabled)

    @property
    def status(self) -> str:
        return str(self.ui.statusLabel.text)

    @property
    def results(self) -> list[Any]:
        return list(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))

    @property
    def worker_pid(self) -> int:
        return int(self.widget.panel.desk.worker.pid)


class FullScene:
    """In the place of Slicer's logic of segmentations: takes some label maps in, and then no more."""

    def __init__(self, taken: int) -> None:
        self._logic = slicer.modules.segmentations.logic()
        self._left = taken

    def ImportLabelmapToSegmentationNode(self, *arguments: Any) -> bool:
        self._left -= 1
        return self._left >= 0 and self._logic.ImportLabelmapToSegmentationNode(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logic, name)


def node_ids() -> list[str]:
    """All that the scene holds, but for what it always has."""
    nodes = slicer.util.getNodesByClass("vtkMRMLNode")
    return sorted(node.GetID() for node in nodes if not node.GetSingletonTag())


OPEN_A_SCENE = """
import sys
import slicerhost
host = slicerhost.start()
import slicer
steps = [lambda: host.start_module(sys.argv[1]), lambda: slicer.util.loadScene(sys.argv[2])]
for step in steps if sys.argv[3] == "after it has started" else reversed(steps):
    step()
    host.process_events()
print(*(node.GetSingletonTag() for node in slicer.app.layoutManager().shown_nodes()))
"""


def views_in_another_slicer(scene: Path, opened: str) -> list[str]:
    """The views that are shown when a scene is opened "after it has started" or "while it starts", and no panel is."""
    command = [sys.executable, "-c", OPEN_A_SCENE, str(MODULE), str(scene), opened]
    process = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return process.stdout.splitlines()[-1].split()


def labels_of(node: Any, volume: Any) -> np.ndarray:
    labels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    for value in (1, 2):
        labels[slicer.util.arrayFromSegmentBinaryLabelmap(node, f"Segment_{value}", volume) > 0] = value
    return labels


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
