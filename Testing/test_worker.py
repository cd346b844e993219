"""The worker as a process: it answers every request once, can be cancelled, and never outlives its master."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ScaleEquivSegLib.bundles import bundled_models
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import Volume, read_volume, write_volume
from ScaleEquivSegLib.worker import PROTOCOL, Worker

SECONDS_AT_MOST = 60


class Client:
    """The other end of a worker's pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ScaleEquivSegLib.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )

    def send(self, message: object) -> None:
        assert self.process.stdin
        line = message if isinstance(message, str) else json.dumps(message)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def answer(self) -> dict[str, Any]:
        """The next reply that is no progress."""
        while (reply := self.receive())["type"] == "progress":
            pass
        return reply


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    assert client.receive() == {
        "type": "ready",
        "protocol": PROTOCOL,
        "pid": client.process.pid,
        "version": client_version(),
    }
    yield client
    client.process.kill()
    client.process.wait()
    for pipe in (client.process.stdin, client.process.stdout):
        assert pipe
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def client_version() -> str:
    from ScaleEquivSegLib import __version__

    return __version__


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worker") / "phantom ü.nrrd"
    write_volume(make_phantom(PhantomSpec(seed=1, size=(32, 32, 32), spacing=(2, 2, 2))).channels[0], path)
    return path


def request(volume: Path, name: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "type": "segment",
        "id": name,
        "inputs": [str(volume)],
        "bundle": str(bundled_models() / "phantom-unet"),
        "output": str(volume.with_name(f"{name}.seg.nrrd")),
        "device": "cpu",
        **changes,
    }


def test_a_request_is_answered_with_progress_and_a_result(client: Client, volume: Path) -> None:
    client.send(request(volume))
    replies = [client.receive()]
    while replies[-1]["type"] == "progress":
        replies.append(client.receive())
    *progress, result = replies
    assert {"Starting", "Loading the network", "Preparing", "Segmenting"} <= {p["phase"] for p in progress}
    assert result["type"] == "result"
    assert result["provenance"]["bundle"] == "phantom-unet"
    assert read_volume(Path(result["output"])).array.shape == (32, 32, 32)


def test_requests_are_served_in_order_and_an_error_does_not_end_the_worker(client: Client, volume: Path) -> None:
    client.send(request(volume, "a", inputs=["/nowhere.nrrd"]))
    client.send(request(volume, "b"))
    first, second = client.answer(), client.answer()
    assert (first["type"], first["id"], first["kind"]) == ("error", "a", "UnreadableVolume")
    assert (second["type"], second["id"]) == ("result", "b")


@pytest.mark.parametrize("garbage", ["", "nonsense", "[]", "42", '{"no": "type"}', "\x00\xff", '{"type": "dance"}'])
def test_garbage_is_answered_with_an_error(client: Client, garbage: str) -> None:
    client.send(garbage)
    assert client.answer()["type"] == "error"
    client.send({"type": "quit"})
    assert client.process.wait(SECONDS_AT_MOST) == 0


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_running_out_of_memory_is_named_and_the_worker_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    replies = io.StringIO()
    worker = Worker(io.StringIO('{"type": "segment", "id": "1"}\n{"type": "segment", "id": "2"}\n'), replies)
    monkeypatch.setattr(worker, "_segment", fail)
    worker.run()
    _ready, *errors = (json.loads(line) for line in replies.getvalue().splitlines())
    assert [(e["id"], e["kind"]) for e in errors] == [("1", "OutOfMemory"), ("2", "OutOfMemory")]
    assert "choose the CPU" in errors[0]["message"]


def test_a_request_without_its_keys_is_an_error(client: Client) -> None:
    client.send({"type": "segment", "id": "x"})
    reply = client.answer()
    assert (reply["type"], reply["id"]) == ("error", "x")


def test_a_cancelled_run_ends_soon_and_leaves_no_file(client: Client, volume: Path, tmp_path: Path) -> None:
    big = tmp_path / "big.nrrd"
    noise = np.random.default_rng(0).integers(0, 1000, (160, 160, 160), dtype=np.int16)
    write_volume(Volume(noise, PhantomSpec(size=(160, 160, 160)).geometry()), big, compress=False)
    client.send(request(big, bundle=str(bundled_models() / "phantom-se_unet"), output=str(tmp_path / "out.nrrd")))
    while client.receive().get("phase") != "Segmenting":
        pass
    started = time.monotonic()
    client.send({"type": "cancel", "id": "1"})
    assert client.answer()["type"] == "cancelled"
    assert time.monotonic() - started < 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.nrrd"]


def test_a_request_cancelled_before_its_turn_is_not_begun(client: Client, volume: Path) -> None:
    client.send(request(volume, "a"))
    client.send(request(volume, "b"))
    client.send({"type": "cancel", "id": "b"})
    assert [client.answer()["type"] for _ in range(2)] == ["result", "cancelled"]


def test_the_worker_ends_when_its_stdin_does(client: Client) -> None:
    assert client.process.stdin
    client.process.stdin.close()
    assert client.process.wait(SECONDS_AT_MOST) == 0


def test_the_worker_ends_in_mid_run_when_its_master_is_gone(client: Client, volume: Path) -> None:
    client.send(request(volume))
    assert client.process.stdin
    assert client.process.stdout
    client.process.stdin.close()
    client.process.stdout.close()
    client.process.wait(SECONDS_AT_MOST)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_the_worker_can_be_killed_by_the_pid_it_reported(client: Client, volume: Path) -> None:
    client.send(request(volume))
    os.kill(client.process.pid, signal.SIGTERM)
    assert client.process.wait(SECONDS_AT_MOST) == -signal.SIGTERM
