"""One thing the panel asks of the worker: requests one after the other, which all succeed or leave nothing behind."""

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
from slicer.i18n import tr as _

from ..errors import SegmentationError, UnwritableOutput
from ..mrml.all_or_nothing import all_or_nothing
from .phases import HOW_FAR, phase_title

Reply = Mapping[str, Any]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Request:
    """What to ask, without an id, what the status line calls it, and its time beside that of the job's others."""

    title: str
    content: Mapping[str, Any]
    time: float = 1.0


class Work(Protocol):
    """What a job is about."""

    nodes: Sequence[slicer.vtkMRMLNode]
    """Without these there is nothing left to do."""

    def requests(self, folder: Path) -> Sequence[Request]:
        """Write what the worker will read into a folder, and say what it is to do."""

    def finish(self, replies: Sequence[Reply]) -> Sequence[str]:
        """Bring the results into the scene; returns what is worth knowing of them, if anything is.

        Where it fails the nodes that it has added are removed; it must not have changed others before.
        """


class Job:
    """Ends with exactly one call of `on_end`, with the words for the status line.

    Nodes are remembered by id from the start: what is selected when it ends does not matter.
    """

    def __init__(
        self,
        work: Work,
        send: Callable[[Mapping[str, Any]], None],
        on_progress: Callable[[str, float], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.id = f"job-{next(_numbers)}"
        self._work = work
        self._send = send
        self._on_progress = on_progress
        self._on_end = on_end
        self._needed = {node.GetID(): node.GetName() for node in work.nodes}
        self._requests: Sequence[Request] = ()
        self._replies: list[Reply] = []
        self._cancelled = False
        self._over = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Hand over the data and send the first request."""
        with self._ending_on_error():
            self._folder = _new_folder()
            self._requests = self._work.requests(Path(self._folder.name))
            self._ask()

    def cancel(self) -> None:
        """Ask the worker to stop; it answers at its next checkpoint."""
        self._cancelled = True
        self._send({"type": "cancel", "id": self.id})

    def needs(self, node_id: str) -> bool:
        """Whether it cannot go on without this node."""
        return node_id in self._needed

    def end(self, status: str) -> None:
        """End now; what the worker may still say is not for this job any more."""
        if not self._over:
            self._over = True
            if self._folder is not None:
                self._folder.cleanup()
            self._on_end(status)

    def receive(self, reply: Reply) -> None:
        """Take a reply of the worker."""
        if not self._over and reply.get("id") in ("", self.id):  # others are the tail of an earlier job
            with self._ending_on_error():
                self._take(reply)

    def _take(self, reply: Reply) -> None:
        if reply["type"] == "progress" and self._cancelled:
            return  # said before it heard of it
        if reply["type"] == "progress":
            phase = reply["phase"]
            fraction = HOW_FAR[phase] if phase in HOW_FAR else reply["fraction"]
            title = f"{self._requests[len(self._replies)].title}: {phase_title(phase)}"
            self._on_progress(title + time_left(reply["remaining_s"]), self._done(fraction))
        elif reply["type"] == "cancelled" or self._cancelled:
            self.end(_("Cancelled."))
        elif reply["type"] == "error":
            self.end(reply["message"])
        elif reply["type"] == "result":
            self._replies.append(reply)
            if len(self._replies) < len(self._requests):
                self._ask()
            else:
                self.end(self._finish())

    def _done(self, fraction: float) -> float:
        """How much of all requests is done with a fraction of the one that is going on."""
        times = [request.time for request in self._requests]
        now = len(self._replies)
        return (sum(times[:now]) + fraction * times[now]) / sum(times)

    def _ask(self) -> None:
        self._send({**self._requests[len(self._replies)].content, "id": self.id})

    def _finish(self) -> str:
        for node_id, name in self._needed.items():
            if slicer.mrmlScene.GetNodeByID(node_id) is None:
                return _("{name} was deleted during the run; the result was discarded.").format(name=name)
        with all_or_nothing(slicer.mrmlScene):
            return " ".join([_("Done."), *self._work.finish(self._replies)])

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        """Whatever goes wrong here ends the job with its reason: nobody above could."""
        try:
            yield
        except SegmentationError as error:
            self.end(str(error))
        except Exception as error:
            traceback.print_exc()
            self.end(_("Unexpected error: {error}").format(error=error))


def _new_folder() -> tempfile.TemporaryDirectory[str]:
    """Where the worker reads and writes; it goes with the job."""
    try:
        return tempfile.TemporaryDirectory(prefix="ScaleEquivSeg-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UnwritableOutput(
            _(
                "The temporary folder cannot be used: {error}. Make room on its disk, or let the environment variable "
                "TMPDIR (TEMP on Windows) name another folder and restart Slicer."
            ).format(error=error)
        ) from error


def time_left(seconds: float | None) -> str:
    """The rest of this phase, in the words of somebody who waits."""
    if seconds is None:
        return ""
    if seconds >= 90:
        return _(", about {minutes:.0f} min left").format(minutes=seconds / 60)
    return _(", about {seconds:.0f} s left").format(seconds=seconds)
