"""The process that computes for the panel: requests and replies are JSON, one object a line, on stdin and stdout.

`request.py` says what can be asked, `answers.py` what is done for it. Replies: `ready` once, with the protocol's
number, process id and version. Requests are served one after the other, in the order they came; each is answered by
`progress` and `heartbeat` any number of times and at last by one of `result`, `error`, `cancelled`. A heartbeat comes
every second or so, whatever is being done: who hears none for long may kill the process. A line that is no request is
answered by an error without an id, a longer row of such lines by silence. The end of stdin is a `quit`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO

from . import __version__
from .answers import Models, answer, free_device_memory
from .errors import BadRequest, Cancelled, MissingPackage, SegmentationError
from .progress import Remaining
from .request import PROTOCOL, Request, lines, read_message, request_from

SECONDS_BETWEEN_PROGRESS = 0.1
SECONDS_BETWEEN_HEARTBEATS = 1.0
WAITING_AT_MOST = 100
REFUSALS_IN_A_ROW = 20
"""So many replies to lines that are no requests fit into a pipe that nobody empties."""
OUT_OF_MEMORY = "The memory of this device is not enough for this volume; choose the CPU, or crop the volume."
HOW_TO_MEND = "install it with pip; if that does not help, install PyTorch again."

Message = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Job:
    """A request that was accepted and is not yet answered."""

    request: Request
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Serves one request at a time and keeps the networks it has loaded."""

    def __init__(self, requests: BinaryIO, replies: TextIO) -> None:
        self._requests = requests
        self._replies = replies
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._jobs: list[Job] = []
        self._closing = threading.Event()
        self._models = Models()
        self._remaining = Remaining()
        self._last_progress = 0.0
        self._last_phase = ""
        self._speaking = threading.Lock()

    def run(self) -> None:
        """Serve until told to quit or until nobody is left to serve."""
        self._say({"type": "ready", "protocol": PROTOCOL, "pid": os.getpid(), "version": __version__})
        threading.Thread(target=self._listen, daemon=True).start()
        while (job := self._waiting.get()) is not None:
            self._last_phase = ""
            with self._heart_beating(job.request.id):
                reply = self._answer(job)
            free_device_memory()
            self._jobs.remove(job)
            self._say({"id": job.request.id, **reply})

    def _listen(self) -> None:
        """Read requests as they come, so that a cancel overtakes the run it is meant for."""
        refused = 0
        for line in lines(self._requests):
            try:
                message = read_message(line)
            except BadRequest as error:
                refused += 1
                if refused <= REFUSALS_IN_A_ROW:
                    self._say({"id": "", **_error(error)})
                continue
            refused = 0
            if message["type"] == "quit":
                break
            self._take(message)
        self._close()

    def _take(self, message: Message) -> None:
        if message["type"] == "cancel":
            for job in list(self._jobs):
                if job.request.id == message["id"]:
                    job.cancelled.set()
            return
        try:
            if len(self._jobs) >= WAITING_AT_MOST:
                raise BadRequest(f"{WAITING_AT_MOST} requests are waiting already; send it again after the next reply.")
            job = Job(request_from(message))
        except BadRequest as error:
            self._say({"id": message["id"], **_error(error)})
        else:
            self._jobs.append(job)
            self._waiting.put(job)

    def _close(self) -> None:
        self._closing.set()
        self._waiting.put(None)

    @contextmanager
    def _heart_beating(self, name: str) -> Iterator[None]:
        """Say now and then that this process lives, also where no progress can be told."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(SECONDS_BETWEEN_HEARTBEATS):
                self._say({"type": "heartbeat", "id": name})

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()

    def _answer(self, job: Job) -> Message:
        try:
            return {"type": "result", **answer(job.request, self._models, lambda *step: self._progress(job, *step))}
        except Cancelled:
            return {"type": "cancelled"}
        except SegmentationError as error:
            return _error(error)
        except ModuleNotFoundError as error:
            missing = f"The Python package {error.name} is not installed, or a part of it is missing; {HOW_TO_MEND}"
            return _error(error, MissingPackage.__name__, missing)
        except Exception as error:  # the panel must hear of everything else too; the log has the details
            traceback.print_exc()
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # numpy's, torch's
                return _error(error, "OutOfMemory", OUT_OF_MEMORY)
            return _error(error, message=f"Unexpected error: {error}")

    def _progress(self, job: Job, phase: str, fraction: float) -> None:
        if job.cancelled.is_set() or self._closing.is_set():
            raise Cancelled("cancelled")
        remaining = self._remaining.update(phase, fraction)
        now = time.monotonic()
        if phase != self._last_phase or now - self._last_progress >= SECONDS_BETWEEN_PROGRESS:
            self._last_phase, self._last_progress = phase, now
            told = {"phase": phase, "fraction": round(fraction, 4)}
            told["remaining_s"] = None if remaining is None else round(remaining, 1)
            self._say({"type": "progress", "id": job.request.id, **told})

    def _say(self, message: Message) -> None:
        try:
            with self._speaking:  # the listening thread and the heart speak too
                self._replies.write(json.dumps(message) + "\n")
                self._replies.flush()
        except (OSError, ValueError):
            self._close()  # nobody listens any more: stop at the next checkpoint


def _error(error: Exception, kind: str = "", message: str = "") -> Message:
    return {"type": "error", "kind": kind or type(error).__name__, "message": message or str(error)}


def _terminate(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)  # temporary folders are left as they are for any other error


def main() -> None:
    """Serve on this process's stdin and stdout; whatever libraries print goes to stderr instead."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _terminate)
    code = 0
    try:
        Worker(sys.stdin.buffer, replies).run()
    except SystemExit as end:
        code = int(str(end.code))
    sys.stderr.flush()
    # Python cannot end properly while a thread waits for stdin; by now everything has been closed and told.
    os._exit(code)


if __name__ == "__main__":
    main()
