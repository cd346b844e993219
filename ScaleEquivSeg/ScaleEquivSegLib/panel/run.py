"""One press of Segment: from the chosen nodes through the worker to new segmentation nodes, or to a reason why not."""

from __future__ import annotations

import itertools
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import slicer

from ..bundles import Bundle
from ..errors import SegmentationError
from ..mrml import import_segmentation, volume_from_node
from ..volume import Volume, read_volume, write_volume

_numbers = itertools.count(1)


class Sender(Protocol):
    """What a run needs of the worker."""

    def send(self, request: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Finished:
    """One network's result in the scene."""

    bundle: Bundle
    node: slicer.vtkMRMLSegmentationNode
    ml: Mapping[str, float]
    warnings: tuple[str, ...]


class Run:
    """Segments one volume with several bundles, one after the other.

    The volume is remembered by its id from the start: what is selected when it ends doesn't matter. Ends with one call
    of `on_finished` or `on_failed`; every result of a run arrives or none does.
    """

    def __init__(
        self,
        worker: Sender,
        volume: slicer.vtkMRMLScalarVolumeNode,
        bundles: Sequence[Bundle],
        device: str,
        on_progress: Callable[[str, float], None],
        on_finished: Callable[[list[Finished]], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self.id = f"run-{next(_numbers)}"
        self._worker = worker
        self._scene = volume.GetScene()
        self._volume_id = volume.GetID()
        self._volume_name = volume.GetName()
        self._bundles = list(bundles)
        self._device = device
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._on_failed = on_failed
        self._replies: list[Mapping[str, Any]] = []
        self._cancelled = False
        self._folder = tempfile.TemporaryDirectory(prefix="ScaleEquivSeg-", ignore_cleanup_errors=True)
        self._input = Path(self._folder.name) / "input.nrrd"

    def start(self) -> None:
        """Hand the volume to the worker and ask for the first segmentation."""
        with self._aborting_on_error():
            volume = self._scene.GetNodeByID(self._volume_id)
            write_volume(volume_from_node(volume), self._input, compress=False)
            self._ask()

    def cancel(self) -> None:
        """Ask the worker to stop; it answers with `cancelled` at its next checkpoint."""
        self._cancelled = True
        self._worker.send({"type": "cancel", "id": self.id})

    def abort(self, reason: str) -> None:
        """End now, without results."""
        self._folder.cleanup()
        self._on_failed(reason)

    def receive(self, message: Mapping[str, Any]) -> None:
        """Take a reply of the worker."""
        with self._aborting_on_error():
            self._take(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message.get("id") not in ("", self.id):
            return  # the tail of an earlier run
        if message["type"] == "progress":
            done = (len(self._replies) + message["fraction"] * (message["phase"] == "Segmenting")) / len(self._bundles)
            self._on_progress(f"{self._current.name}: {message['phase']}{time_left(message['remaining_s'])}", done)
        elif message["type"] == "cancelled" or self._cancelled:
            self.abort("Cancelled.")
        elif message["type"] == "result":
            self._replies.append(message)
            if len(self._replies) < len(self._bundles):
                self._ask()
            else:
                self._finish()
        elif message["type"] == "error":
            self.abort(message["message"])

    @property
    def _current(self) -> Bundle:
        return self._bundles[len(self._replies)]

    def _ask(self) -> None:
        self._worker.send(
            {
                "type": "segment",
                "id": self.id,
                "bundle": str(self._current.folder),
                "inputs": [str(self._input)],
                "output": str(Path(self._folder.name) / f"{len(self._replies)}.seg.nrrd"),
                "device": self._device,
            }
        )

    def _finish(self) -> None:
        volume = self._scene.GetNodeByID(self._volume_id)
        if volume is None:
            self.abort(f"{self._volume_name} was deleted during the run; the result was discarded.")
            return
        # All are read before any enters the scene: a result that cannot be read leaves nothing behind.
        labels = [read_volume(Path(reply["output"])) for reply in self._replies]
        parts = zip(self._bundles, self._replies, labels, strict=True)
        finished = [_import_result(bundle, reply, found, volume) for bundle, reply, found in parts]
        self._folder.cleanup()
        self._on_finished(finished)

    @contextmanager
    def _aborting_on_error(self) -> Iterator[None]:
        """Whatever goes wrong here ends the run with its reason: nobody above could."""
        try:
            yield
        except SegmentationError as error:
            self.abort(str(error))
        except Exception as error:
            traceback.print_exc()
            self.abort(f"Unexpected error: {error}")


def time_left(seconds: float | None) -> str:
    """The rest of this phase, in the words of somebody who waits."""
    if seconds is None:
        return ""
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def _import_result(bundle: Bundle, reply: Mapping[str, Any], labels: Volume, volume: Any) -> Finished:
    kind = "baseline" if bundle.is_baseline else "equivariant"
    node = import_segmentation(labels, bundle.labels, volume, f"{volume.GetName()} {kind}")
    for key, value in reply["provenance"].items():
        node.SetAttribute(f"ScaleEquivSeg.{key}", value)
    return Finished(bundle, node, reply["ml"], tuple(reply["warnings"]))
