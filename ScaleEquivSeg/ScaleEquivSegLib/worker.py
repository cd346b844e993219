"""The process that computes for the panel: requests and replies are JSON, one object a line, on stdin and stdout.

Replies: `ready` once, with the protocol's number and process id; then for each request `progress` any number of times
and at last one of `result`, `error`, `cancelled`. Requests: `segment`, `cancel`, `quit`. The end of stdin is a `quit`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from . import __version__
from .errors import Cancelled, SegmentationError

PROTOCOL = 1
SECONDS_BETWEEN_PROGRESS = 0.1
OUT_OF_MEMORY = "The memory of this device is not enough for this volume; choose the CPU, or crop the volume."
HOW_TO_INSTALL = (
    "in Slicer, install the PyTorch extension and then PyTorch with it, and safetensors with "
    "slicer.util.pip_install('safetensors')."
)

Message = Mapping[str, Any]


class Worker:
    """Serves one request at a time and keeps the networks it has loaded."""

    def __init__(self, requests: TextIO, replies: TextIO) -> None:
        self._requests = requests
        self._replies = replies
        self._waiting: queue.Queue[Message | None] = queue.Queue()
        self._cancelled: set[str] = set()
        self._closing = threading.Event()
        self._models: dict[tuple[str, str], Any] = {}
        self._last_progress = 0.0
        self._speaking = threading.Lock()

    def run(self) -> None:
        """Serve until told to quit or until nobody is left to serve."""
        self._say({"type": "ready", "protocol": PROTOCOL, "pid": os.getpid(), "version": __version__})
        threading.Thread(target=self._listen, daemon=True).start()
        while (request := self._waiting.get()) is not None:
            self._serve(request)

    def _listen(self) -> None:
        """Read requests as they come, so that a cancel overtakes the run it is meant for."""
        for line in self._requests:
            try:
                message = json.loads(line)
                kind = message["type"]
            except (ValueError, TypeError, KeyError):
                self._say(
                    {
                        "type": "error",
                        "id": "",
                        "kind": "BadRequest",
                        "message": f"not a request: {line!r:.200}",
                    }
                )
                continue
            if kind == "cancel":
                self._cancelled.add(str(message.get("id", "")))
            elif kind == "quit":
                break
            else:
                self._waiting.put(message)
        self._closing.set()
        self._waiting.put(None)

    def _serve(self, request: Message) -> None:
        name = str(request.get("id", ""))
        try:
            if request["type"] != "segment":
                raise ValueError(f"unknown request {request['type']!r}")
            self._say({"type": "result", "id": name, **self._segment(name, request)})
        except Cancelled:
            self._say({"type": "cancelled", "id": name})
        except SegmentationError as error:
            self._fail(name, type(error).__name__, str(error))
        except ModuleNotFoundError as error:
            self._fail(name, "MissingPackage", f"The Python package {error.name} is not installed; {HOW_TO_INSTALL}")
        except Exception as error:  # the panel must hear of everything else too; the log has the details
            traceback.print_exc()
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # numpy's, torch's
                self._fail(name, "OutOfMemory", OUT_OF_MEMORY)
            else:
                self._fail(name, type(error).__name__, f"Unexpected error: {error}")
        finally:
            self._cancelled.discard(name)

    def _segment(self, name: str, request: Message) -> Message:
        self._progress(name, "Starting", 0.0)
        # torch takes seconds to import: not before it is needed, and after the panel has heard from us.
        from .bundles import read_bundle
        from .segmentation import Settings, load_model, segment, write_segmentation
        from .volume import read_volume

        bundle = read_bundle(Path(request["bundle"]))
        key = (str(bundle.folder), bundle.sha256)
        if key not in self._models:
            self._progress(name, "Loading the network", 0.0)
            self._models[key] = load_model(bundle)
        channels = [read_volume(Path(path)) for path in request["inputs"]]
        settings = Settings(device=request.get("device", "auto"))
        result = segment(channels, self._models[key], settings, lambda *step: self._progress(name, *step))
        write_segmentation(result, Path(request["output"]), compress=False)
        return {
            "output": request["output"],
            "ml": dict(result.ml),
            "seconds": result.seconds,
            "device": result.device,
            "warnings": list(result.warnings),
            "provenance": result.provenance(),
        }

    def _progress(self, name: str, phase: str, fraction: float) -> None:
        if name in self._cancelled or self._closing.is_set():
            raise Cancelled("cancelled")
        now = time.monotonic()
        if fraction == 0 or now - self._last_progress >= SECONDS_BETWEEN_PROGRESS:
            self._last_progress = now
            self._say({"type": "progress", "id": name, "phase": phase, "fraction": round(fraction, 4)})

    def _fail(self, name: str, kind: str, message: str) -> None:
        self._say({"type": "error", "id": name, "kind": kind, "message": message})

    def _say(self, message: Message) -> None:
        try:
            with self._speaking:  # the listening thread speaks too
                self._replies.write(json.dumps(message) + "\n")
                self._replies.flush()
        except (BrokenPipeError, ValueError):
            self._closing.set()  # nobody listens any more: stop at the next checkpoint


def main() -> None:
    """Serve on this process's stdin and stdout; whatever libraries print goes to stderr instead."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    Worker(sys.stdin, replies).run()


if __name__ == "__main__":
    main()
