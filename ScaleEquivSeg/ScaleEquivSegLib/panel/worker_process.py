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

LIBRARY_PARENT = Path(__file__).resolve().parents[2]

Message = Mapping[str, Any]


class WorkerProcess:
    """Starts the worker when it is first needed and keeps it until told to stop.

    `on_message` gets each reply, `on_log` each line that is none, `on_end` a reason when the process ends unasked.
    """

    def __init__(
        self,
        on_message: Callable[[Message], None],
        on_log: Callable[[str], None],
        on_end: Callable[[str], None],
        parent: qt.QObject,
    ) -> None:
        # With a parent the QProcess outlives the signals it is still sending when Python lets go of it.
        self._parent = parent
        self._on_message = on_message
        self._on_log = on_log
        self._on_end = on_end
        self._process: qt.QProcess | None = None
        self._buffers = {"out": b"", "err": b""}
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

    def stop(self) -> None:
        """End the worker now; no further call comes from it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.blockSignals(True)
        if self.pid:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGTERM)
        process.kill()
        process.waitForFinished(2000)
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
            try:
                message = json.loads(line)
                kind = message["type"]
            except (ValueError, TypeError, KeyError):
                self._on_log(line)
                continue
            if kind == "ready":
                self.pid = int(message["pid"])
            self._on_message(message)

    def _read_log(self) -> None:
        if self._process is None:
            return
        for line in self._lines("err", self._process.readAllStandardError()):
            self._on_log(line)

    def _lines(self, channel: str, received: qt.QByteArray) -> list[str]:
        """The complete lines received so far; an unfinished one waits for its end."""
        data = received.data()
        data = data if isinstance(data, bytes) else str(data).encode()
        *lines, self._buffers[channel] = (self._buffers[channel] + data).split(b"\n")
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines]

    def _failed(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart:
            self._forget(f"Python could not be started ({python_executable()}).")

    def _ended(self, code: int, status: int) -> None:
        self._read_replies()
        self._read_log()
        how = "was killed or crashed" if status == qt.QProcess.CrashExit else f"ended with code {code}"
        self._forget(f"The computing process {how}.")

    def _forget(self, reason: str) -> None:
        process, self._process = self._process, None
        self.pid = 0
        if process is not None:
            process.deleteLater()
            self._on_end(reason)


def python_executable() -> str:
    """PythonSlicer inside Slicer, this Python elsewhere."""
    return shutil.which("PythonSlicer") or sys.executable
