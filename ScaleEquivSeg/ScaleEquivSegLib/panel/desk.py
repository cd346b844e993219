"""What the sections of the panel share: the widgets, the choices, the models, and the one job that runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .job import Job, Work
from .models import Models
from .worker_process import Message, WorkerProcess

CANCEL_PATIENCE_MS = 1500
LOG_LINES = 1000


class Desk:
    """`on_change` is called whenever something changed that may enable or disable a control."""

    def __init__(self, ui: Any, on_change: Callable[[], None]) -> None:
        self.ui = ui
        self.parameters: Any = None
        """The choices, a `ScaleEquivSegParameterNode`; None while the scene is being closed."""
        self.models = Models()
        self.outcome = ""
        """What became of the last job."""
        self.label: Any = None
        """Where a section shows what the last job does or did; None if it was one of the section Segment."""
        self._on_change = on_change
        self._job: Job | None = None
        self._last_words = ""
        """The last line that the worker printed since the job began, empty if it printed none."""
        self._asked: dict[str, Callable[[Message], None]] = {}
        """What to do with the answer to each question that the worker has been asked beside the job."""
        self._open: dict[str, Callable[[Message], None]] = {}
        """The same of questions that a worker was ended without having answered."""
        # With a parent it ends with the panel.
        self._soon = qt.QTimer(ui.logText)
        self._soon.setSingleShot(True)
        self._soon.connect("timeout()", self.changed)
        ui.logText.setMaximumBlockCount(LOG_LINES)
        self.worker = WorkerProcess(self._on_message, self._on_worker_log, self._on_worker_end, parent=ui.logText)

    def changed(self) -> None:
        """Let every section look again at what can be done."""
        self._on_change()

    def changed_soon(self) -> None:
        """The same once for all that happens now, when the selectors have taken notice of it, too."""
        self._soon.start(0)

    def log(self, line: str) -> None:
        """Add a line to the log that the panel shows, and to Slicer's own, which outlives the panel."""
        self.ui.logText.appendPlainText(line)
        logging.getLogger("ScaleEquivSeg").info(line)

    def tell(self, outcome: str, label: Any = None) -> None:
        """Say in the status line and in the log what became of what the user asked for; a label says it, too."""
        self.label = label
        self._conclude(outcome)

    def _conclude(self, outcome: str) -> None:
        self.outcome = outcome
        self.log(outcome)
        self.changed()

    # The job

    @property
    def running(self) -> bool:
        """Whether a job runs; there is never more than one."""
        return self._job is not None

    @property
    def busy(self) -> str:
        """Why no other job can be started, empty if one can."""
        return _("Something runs already; wait for its end, or cancel it.") if self.running else ""

    def run(self, work: Work, label: Any = None) -> None:
        """Start a job; a label shows what the status line does."""
        assert self._job is None
        self.outcome = ""
        self.label = label
        self._last_words = ""
        self._job = Job(work, self.worker.send, self._on_progress, self._on_end)
        self.ui.progressBar.value = 0
        self.ui.progressBar.show()
        self._say(_("Starting…"))  # what became of the last job is not to be read for what becomes of this one
        self._job.start()
        for kind, on_answer in list(self._open.items()):
            self.ask(kind, on_answer)
        self.changed()

    def cancel(self) -> None:
        """Ask the job to end; a worker that does not listen is ended."""
        if self._job is not None:
            job = self._job
            job.cancel()
            self._say(_("Cancelling…"))
            qt.QTimer.singleShot(CANCEL_PATIENCE_MS, lambda: self._insist_on_cancel(job))

    def _insist_on_cancel(self, job: Job) -> None:
        if self._job is job:
            self.stop(_("Cancelled."))

    def stop(self, reason: str) -> None:
        """End the job and the worker at once: the scene or the application closes, or the worker does not listen."""
        self.worker.stop()
        self._leave_open()
        if self._job is not None:
            self._job.end(reason)

    def forget_node(self, node: Any) -> None:
        """A node leaves the scene; a job that needs it has nothing left to do."""
        if self._job is not None and self._job.needs(node.GetID()):
            self.stop(_("{name} was deleted during the run; the result was discarded.").format(name=node.GetName()))

    def ask(self, kind: str, on_answer: Callable[[Message], None]) -> None:
        """Ask the worker something beside the job; where there is no answer, the log says why."""
        self._open.pop(kind, None)
        if kind not in self._asked:
            self._asked[kind] = on_answer
            self.worker.send({"type": kind, "id": kind})

    def _on_message(self, message: Message) -> None:
        if message.get("id") in self._asked:
            if message["type"] == "result":
                self._asked.pop(message["id"])(message)
            elif message["type"] in ("error", "cancelled"):
                del self._asked[message["id"]]
                self.log(message.get("message", ""))
        elif self._job is not None:
            self._job.receive(message)

    def _on_worker_log(self, line: str) -> None:
        self._last_words = line.strip() or self._last_words
        self.log(line)

    def _leave_open(self) -> None:
        """The worker is gone; the next one is asked what this one has not answered."""
        self._open |= self._asked
        self._asked.clear()

    def _on_worker_end(self, reason: str) -> None:
        self._leave_open()
        if self._job is None:
            self.log(reason)
        else:
            self._job.end(f"{reason} {self._last_words}".strip())

    def _on_progress(self, phase: str, fraction: float) -> None:
        percent = round(100 * fraction)
        self.ui.progressBar.value = percent
        self._say(f"{phase} ({percent} %)")  # in words, too: on macOS the bar shows no number

    def _say(self, text: str) -> None:
        self.ui.statusLabel.text = text
        if self.label is not None:
            self.label.text = text

    def _on_end(self, status: str) -> None:
        self._job = None
        self.ui.progressBar.hide()
        self._conclude(status)
