"""The worker as the panel sees it: a QProcess whose lines become calls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from .. import __version__
from ..request import PROTOCOL

LIBRARY_PARENT = Path(__file__).resolve().parents[2]
SILENCE_S = 60.0
"""The worker beats every second; a machine that is short of memory may make that a good deal more."""
IDLE_S = 600.0
"""So long a worker with nothing to do keeps its memory, and that of its GPU, from others."""
TERMINATE_PATIENCE_MS = 300
UNFINISHED_LINE_AT_MOST = 2**20

Message = Mapping[str, Any]

KEYS_OF_REPLIES: Mapping[str, set[str]] = {
    "ready": set(),
    "heartbeat": set(),
    "progress": {"id", "phase", "fraction", "remaining_s"},
    "result": {"id"},
    "error": {"id", "message"},
    "cancelled": {"id"},
}


class WorkerProcess:
    """Starts the worker when it is first needed and keeps it until told to stop, or until it was idle for long.

    `on_message` gets each reply to a request, `on_log` each line that is none, `on_end` a reason when the process ends
    unasked. A process of another version, or one that is silent for too long while a request of any kind is unanswered,
    is ended here.
    """

    def __init__(
        self,
        on_message: Callable[[Message], None],
        on_log: Callable[[str], None],
        on_end: Callable[[str], None],
        parent: qt.QObject,
        silence_s: float = SILENCE_S,
        idle_s: float = IDLE_S,
    ) -> None:
        # With a parent the QProcess outlives the signals it is still sending when Python lets go of it.
        self._parent = parent
        self._on_message = on_message
        self._on_log = on_log
        self._on_end = on_end
        self._process: qt.QProcess | None = None
        self._buffers = {"out": b"", "err": b""}
        self._silence_s = silence_s
        self._signs_heard = 0
        self._unanswered: set[str] = set()
        self._silence = qt.QTimer(parent)
        self._silence.setSingleShot(True)
        self._silence.connect("timeout()", self._on_silence)
        self._idle_s = idle_s
        self._idle = qt.QTimer(parent)
        self._idle.setSingleShot(True)
        self._idle.connect("timeout()", self.stop)
        self.pid = 0
        """The worker's own process id: killing a launcher that started it would leave it running."""

    @property
    def running(self) -> bool:
        return self._process is not None

    def send(self, request: Message) -> None:
        """Send a request, starting the worker first if there is none."""
        if self._process is None:
            self._start()
        if self._process is not None:  # None if it failed to start, which has been reported
            self._process.write(json.dumps(request).encode("ascii") + b"\n")
            if request["type"] != "cancel":
                self._unanswered.add(request["id"])
                self._idle.stop()
                self._expect_a_sign()

    def stop(self) -> None:
        """End the worker now; no further call comes from it."""
        process, self._process = self._process, None
        self._end_watch()
        if process is None:
            return
        process.blockSignals(True)
        # Asked to end it takes its temporary folders along; a process that does not listen is killed.
        for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):  # Windows has but one
            if self.pid and process.state() != qt.QProcess.NotRunning:
                with suppress(OSError):
                    os.kill(self.pid, number)
                process.waitForFinished(TERMINATE_PATIENCE_MS)
        process.kill()
        process.waitForFinished(TERMINATE_PATIENCE_MS)
        process.deleteLater()
        self.pid = 0

    def _start(self) -> None:
        self._buffers = {"out": b"", "err": b""}
        process = qt.QProcess(self._parent)
        environment = qt.QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONUTF8", "1")
        environment.insert("PYTHONIOENCODING", "utf-8")
        process.setProcessEnvironment(environment)
        process.setWorkingDirectory(str(LIBRARY_PARENT))
        process.connect("readyReadStandardOutput()", self._read_replies)
        process.connect("readyReadStandardError()", self._read_log)
        process.connect("finished(int,QProcess::ExitStatus)", self._ended)
        process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._process = process
        # -m finds the library because the process starts in the folder that holds it.
        process.start(python_executable(), ["-m", "ScaleEquivSegLib.worker"])

    def _read_replies(self) -> None:
        if self._process is None:
            return
        for line in self._lines("out", self._process.readAllStandardOutput()):
            message = _reply_in(line)
            if message is not None and message["type"] == "ready":
                self._greet(message)
            elif message is not None and self.pid:
                self._hear(message)
            else:
                self._on_log(line)  # who has not greeted is no worker of ours, whatever it says
            if self._process is None:
                return  # it was given up, or a reply made somebody stop it

    def _hear(self, message: Message) -> None:
        self._signs_heard += 1
        if message["type"] in ("result", "error", "cancelled"):
            self._unanswered.discard(message["id"])
        if self._unanswered:
            self._expect_a_sign()
        else:
            self._silence.stop()
            self._idle.start(round(1000 * self._idle_s))
        if message["type"] != "heartbeat":
            self._on_message(message)  # which may send the next request

    def _greet(self, message: Message) -> None:
        """Go on only with a process of this very version: a newer one was installed beside a Slicer that still runs."""
        pid = message.get("pid")
        self.pid = pid if isinstance(pid, int) and pid > 1 else 0  # 0 and below would be whole groups of processes
        if (message.get("protocol"), message.get("version")) != (PROTOCOL, __version__):
            self._give_up(
                _(
                    "The computing process is of version {version!a:.40} (protocol {protocol!a:.40}), this panel of "
                    "version {own_version!a} (protocol {own_protocol}). Restart Slicer; if that does not help, install "
                    "the extension again."
                ).format(
                    version=message.get("version"),
                    protocol=message.get("protocol"),
                    own_version=__version__,
                    own_protocol=PROTOCOL,
                )
            )

    def _expect_a_sign(self) -> None:
        self._silence.start(round(1000 * self._silence_s))

    def _end_watch(self) -> None:
        self._unanswered.clear()
        self._silence.stop()
        self._idle.stop()

    def _on_silence(self) -> None:
        heard = self._signs_heard
        if self._process is not None:
            self._process.waitForReadyRead(0)  # after a pause of Slicer itself the signs lie there unread
        if self._process is None or self._signs_heard > heard:
            return
        self._give_up(
            _(
                "The computing process gave no sign of life for {seconds:g} seconds and was ended. Try again; if it "
                "happens again, choose the CPU."
            ).format(seconds=self._silence_s)
        )

    def _give_up(self, reason: str) -> None:
        self.stop()
        self._on_end(reason)

    def _read_log(self) -> None:
        if self._process is None:
            return
        for line in self._lines("err", self._process.readAllStandardError()):
            self._on_log(line)

    def _lines(self, channel: str, received: qt.QByteArray) -> list[str]:
        """The complete lines received so far; an unfinished one waits for its end."""
        data = received.data()
        data = data if isinstance(data, bytes) else str(data).encode()
        *lines, rest = (self._buffers[channel] + data).split(b"\n")
        self._buffers[channel] = rest[-UNFINISHED_LINE_AT_MOST:]
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines]

    def _failed(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart:
            self._forget(_("Python could not be started ({path}).").format(path=python_executable()))

    def _ended(self, code: int, status: int) -> None:
        self._read_replies()
        self._read_log()
        # PythonSlicer may be a launcher: of a child that was killed a shell tells 128 and the signal, Slicer's tells 1.
        if status == qt.QProcess.CrashExit or code > 128:
            self._forget(_("The computing process was killed or crashed."))
        else:
            self._forget(
                _("The computing process ended with code {code}: it failed, crashed, or was killed.").format(code=code)
            )

    def _forget(self, reason: str) -> None:
        process, self._process = self._process, None
        self.pid = 0
        self._end_watch()
        if process is not None:
            process.deleteLater()
            self._on_end(reason)


def _reply_in(line: str) -> Message | None:
    """A line of the worker as a reply with all its keys; None if it is none."""
    try:
        message: Message = json.loads(line)
        return message if KEYS_OF_REPLIES[message["type"]] <= message.keys() else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def python_executable() -> str:
    """PythonSlicer inside Slicer, this Python elsewhere."""
    return shutil.which("PythonSlicer") or sys.executable
