"""Two ways to talk to a worker in a test: as a process through its pipes, and in this process."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ScaleEquivSegLib import __version__
from ScaleEquivSegLib.bundles import bundled_models
from ScaleEquivSegLib.phantom import Phantom, PhantomSpec, make_phantom
from ScaleEquivSegLib.request import PROTOCOL
from ScaleEquivSegLib.volume import write_volume
from ScaleEquivSegLib.worker import Worker

RUN_WORKER = ["-m", "ScaleEquivSegLib.worker"]
_numbers = itertools.count()


class Client:
    """The other end of a worker's pipes."""

    def __init__(
        self, log: Path, command: Sequence[str] = RUN_WORKER, environment: dict[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
            )
        assert self.receive() == {
            "type": "ready",
            "protocol": PROTOCOL,
            "pid": self.process.pid,
            "version": __version__,
        }

    def send(self, message: object) -> None:
        assert self.process.stdin
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def answer(self) -> dict[str, Any]:
        """The next reply that is no progress."""
        while (reply := self.receive())["type"] in ("progress", "heartbeat"):
            pass
        return reply

    def wait_for(self, phase: str) -> None:
        while self.receive().get("phase") != phase:
            pass

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def request(volume: Path, name: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "type": "segment",
        "id": name,
        "inputs": [str(volume)],
        "bundle": str(bundled_models() / "phantom-unet"),
        "output": str(volume.with_name(f"{name}-{next(_numbers)}.seg.nrrd")),
        "device": "cpu",
        **changes,
    }


class Replies(io.StringIO):
    """What a worker in this process says, and what is done when it says it."""

    def __init__(self, when_said: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self._when_said = when_said

    def write(self, text: str) -> int:
        self.messages.append(json.loads(text))
        self._when_said(self.messages[-1])
        return len(text)


def serve(
    messages: Sequence[dict[str, Any]], when_said: Callable[[Worker, dict[str, Any]], None] = lambda worker, reply: None
) -> list[dict[str, Any]]:
    """All replies of a worker in this process, which ends when each request has its answer."""
    reading, writing = os.pipe()
    unanswered = len(messages)

    def hear(reply: dict[str, Any]) -> None:
        nonlocal unanswered
        when_said(here, reply)
        unanswered -= reply["type"] in ("result", "error", "cancelled")
        if not unanswered:
            unanswered = -1
            os.close(writing)

    replies = Replies(hear)
    with os.fdopen(reading, "rb") as requests:
        here = Worker(requests, replies)
        os.write(writing, b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        here.run()
    return replies.messages


def small_phantom(image: Path) -> Phantom:
    """A phantom of 32 voxels to a side, its image written to a file."""
    phantom = make_phantom(PhantomSpec(seed=1, size=(32, 32, 32), spacing=(2, 2, 2)))
    write_volume(phantom.channels[0], image)
    return phantom
