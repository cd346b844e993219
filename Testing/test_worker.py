"""The worker as a process: it answers every request once, can be cancelled, and never outlives its master."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from ScaleEquivSegLib import answers, worker
from ScaleEquivSegLib.answers import Models
from ScaleEquivSegLib.bundles import CARD, bundled_models, read_bundle
from ScaleEquivSegLib.card import SEAL
from ScaleEquivSegLib.errors import BadRequest
from ScaleEquivSegLib.phantom import PhantomSpec
from ScaleEquivSegLib.progress import Remaining
from ScaleEquivSegLib.request import (
    LINE_BYTES_AT_MOST,
    instance_from,
    lines,
    read_message,
    request_from,
)
from ScaleEquivSegLib.segmentation import Model, Settings
from ScaleEquivSegLib.volume import Volume, read_volume, write_volume
from ScaleEquivSegLib.worker import REFUSALS_IN_A_ROW, WAITING_AT_MOST, Worker
from small_pictures import untrained_bundle
from worker_client import Client, request, serve, small_phantom

SECONDS_AT_MOST = 60


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "log")
    yield client
    client.close()


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worker") / "phantom ü.nrrd"
    small_phantom(path)
    return path


def test_a_request_is_answered_with_progress_and_a_result(client: Client, volume: Path) -> None:
    client.send(request(volume))
    replies = [client.receive()]
    while replies[-1]["type"] in ("progress", "heartbeat"):
        replies.append(client.receive())
    result = replies.pop()
    phases = [p["phase"] for p in replies if p["type"] == "progress"]
    assert list(dict.fromkeys(phases)) == [
        *("Starting", "Loading the network", "Reading", "Preparing", "Segmenting"),
        *("Keeping the largest pieces", "Writing"),
    ]
    assert all(p["remaining_s"] is None or p["remaining_s"] >= 0 for p in replies if p["type"] == "progress")
    assert result["type"] == "result"
    assert result["provenance"]["bundle"] == "phantom-unet"
    assert read_volume(Path(result["output"])).array.shape == (32, 32, 32)


def test_requests_are_served_in_order_and_an_error_does_not_end_the_worker(client: Client, volume: Path) -> None:
    client.send(request(volume, "a", inputs=["/nowhere.nrrd"]))
    client.send(request(volume, "b"))
    first, second = client.answer(), client.answer()
    assert (first["type"], first["id"], first["kind"]) == ("error", "a", "UnreadableVolume")
    assert (second["type"], second["id"]) == ("result", "b")


@pytest.mark.parametrize(
    "garbage", [b"", b"nonsense", b"[]", b"42", b'{"no": "type"}', b"\x00\xff", b'{"type": "dance"}']
)
def test_garbage_is_answered_with_an_error(client: Client, garbage: bytes) -> None:
    client.send(garbage)
    answer = client.answer()
    assert (answer["type"], answer["kind"]) == ("error", "BadRequest")
    client.send({"type": "quit"})
    assert client.process.wait(SECONDS_AT_MOST) == 0
    assert client.log.read_text() == ""


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_running_out_of_memory_is_named_and_the_worker_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, volume: Path
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "answer", fail)
    _ready, *errors = serve([request(volume, "1"), request(volume, "2")])
    assert [(e["id"], e["kind"]) for e in errors] == [("1", "OutOfMemory"), ("2", "OutOfMemory")]
    assert "choose the CPU" in errors[0]["message"]


def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, volume: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ScaleEquivSegLib.segmentation", None)
    _ready, _progress, error = serve([request(volume)])
    assert error["kind"] == "MissingPackage"
    assert "ScaleEquivSegLib.segmentation is not installed" in error["message"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bundle": None}, "'bundle' must not be None"),
        ({"bundle": ""}, "the path of a file or folder"),
        ({"bundle": 7}, "'bundle' must not be 7"),
        ({"inputs": []}, "a list of one or more, each the path of a file"),
        ({"inputs": "scan.nrrd"}, "a list"),
        ({"inputs": [{}]}, "'inputs' must not be"),
        ({"output": "a\0b"}, "'output' must not be"),
        ({"output": "\ud800"}, "'output' must not be"),
        ({"roi": {"centre": [0, 0, 0]}}, "'roi': A region of interest has"),
        ({"id": 7}, "id of a request"),
        ({"id": "x" * 201}, "id of a request"),
        ({"type": "dance"}, "unknown request 'dance'"),
        ({"type": ["segment"]}, "an object with a type"),
    ],
)
def test_a_request_with_a_key_that_is_wrong_is_refused_by_name(
    volume: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason):
        request_from(read_message(json.dumps(request(volume, **change)).encode()))


def test_a_request_that_needs_more_than_its_keys_is_refused_by_name(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.seg.nrrd").write_text("mine")
    changes = {
        "unknown": {"colour": "red"},
        "kind": {"slab": "4"},
        "choice": {"precision": "float8"},
        "format": {"output": str(tmp_path / "out.txt")},
        "exists": {"output": str(tmp_path / "mine.seg.nrrd")},
        "bundle": {"bundle": str(tmp_path)},
        "classification": {"bundle": str(untrained_bundle(tmp_path).folder)},
        "device": {"device": "toaster"},
    }
    _ready, *replies = serve([request(volume, name, **change) for name, change in changes.items()])
    kinds = {reply["id"]: reply["kind"] for reply in replies if reply["type"] == "error"}
    assert kinds == {
        "unknown": "BadRequest",
        "kind": "BadRequest",
        "choice": "BadRequest",
        "format": "UnwritableOutput",
        "exists": "OutputExists",
        "bundle": "BadBundle",
        "classification": "BadBundle",
        "device": "UnavailableDevice",
    }
    assert (tmp_path / "mine.seg.nrrd").read_text() == "mine"


@dataclass(frozen=True)
class SomeSettings:
    """One field of every kind that settings have."""

    device: str = "auto"
    slab: int | None = None
    precision: Literal["float32", "float16"] = "float32"
    mirror: bool = False
    replacement: float = 0.0


@pytest.mark.parametrize(
    "values",
    [{"device": "cpu", "slab": 4}, {"slab": None, "precision": "float16"}, {"mirror": True, "replacement": 1}, {}],
)
def test_settings_are_what_a_request_has_of_them(values: dict[str, Any]) -> None:
    assert instance_from(values, SomeSettings) == SomeSettings(**values)


@pytest.mark.parametrize(
    "values",
    [
        *({"device": None}, {"device": 1}, {"slab": True}, {"slab": 4.0}, {"slab": -1}, {"slab": [4]}),
        *({"precision": "float8"}, {"precision": ["float32"]}, {"mirror": 1}, {"mirror": None}),
        *({"replacement": True}, {"replacement": "0"}, {"mirrored": True}),
    ],
)
def test_a_setting_that_is_none_or_of_another_kind_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=next(iter(values))):
        instance_from(values, SomeSettings)


def test_every_setting_can_be_given_in_a_request() -> None:
    assert instance_from(vars(Settings()), Settings) == Settings()


def test_a_line_is_never_held_longer_than_its_limit() -> None:
    long = b"x" * (3 * LINE_BYTES_AT_MOST) + b"\n"
    held = list(lines(io.BytesIO(long + b"short\n" + long[:-1])))
    assert [len(line) for line in held] == [LINE_BYTES_AT_MOST, 6, LINE_BYTES_AT_MOST]


def test_spoilt_requests_are_refused_and_nothing_else(volume: Path) -> None:
    rng = random.Random(0)
    whole = json.dumps(request(volume)).encode()
    for _ in range(2000):
        line = bytearray(whole)
        for _ in range(rng.choice([1, 2, 30])):
            line[rng.randrange(len(line))] = rng.randrange(256)
        start = rng.randrange(len(line)) if rng.random() < 0.2 else 0
        with contextlib.suppress(BadRequest):
            request_from(read_message(bytes(line[start:])))


@pytest.mark.parametrize("line", [b"[" * 200_000, b'{"type":' * 100_000, b'{"type": "quit", "id": 1e999}', b"9" * 5000])
def test_json_that_no_one_means_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequest, match="not a request"):
        read_message(line)


def test_after_any_garbage_a_good_request_has_its_result(client: Client, volume: Path) -> None:
    rng = random.Random(0)
    for _ in range(150):
        client.send(rng.randbytes(rng.choice([1, 10, 1000])))
    client.send(b'{"type": "segment"' + b" " * (2 * LINE_BYTES_AT_MOST))
    for _ in range(10_000):  # nobody reads meanwhile: more replies than a pipe holds would block both ends
        client.send(b"garbage")
    client.send(request(volume, "good"))
    answers = [client.answer()]
    while answers[-1]["id"] != "good":
        answers.append(client.answer())
    assert answers.pop()["type"] == "result"
    assert {answer["kind"] for answer in answers} == {"BadRequest"}
    assert len(answers) == REFUSALS_IN_A_ROW
    client.send(b"garbage")
    assert client.answer()["kind"] == "BadRequest"  # a new row
    assert client.log.read_text() == ""


def test_more_requests_than_can_wait_are_refused_one_by_one(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "answer", lambda *_: time.sleep(0.002) or {})
    _ready, *replies = serve([request(volume, str(n), inputs=["a"], bundle="b") for n in range(2 * WAITING_AT_MOST)])
    assert sorted(int(reply["id"]) for reply in replies) == list(range(2 * WAITING_AT_MOST))
    refused = [reply for reply in replies if reply["type"] == "error"]
    assert len(refused) > 0
    assert "send it again" in refused[0]["message"]


def test_the_heart_beats_while_a_request_is_served_and_not_after(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_HEARTBEATS", 0.01)
    monkeypatch.setattr(worker, "answer", lambda *_: time.sleep(0.3) or {})
    _ready, *beats, result = serve([request(volume, "slow")])
    assert len(beats) > 3
    assert all(beat == {"type": "heartbeat", "id": "slow"} for beat in beats)
    assert result["type"] == "result"


def test_a_request_can_be_cancelled_between_any_two_phases(volume: Path) -> None:
    phases = ["Starting", "Loading the network", "Reading", "Preparing", "Segmenting"]

    def cancel(here: Worker, reply: dict[str, Any]) -> None:
        if reply.get("phase", "") == reply.get("id"):  # each request is named after the phase in which it is cancelled
            here._jobs[0].cancelled.set()

    requests = [request(volume, phase) for phase in phases]
    replies = serve(requests, cancel)
    assert [reply["id"] for reply in replies if reply["type"] == "cancelled"] == phases
    assert not any(Path(sent["output"]).exists() for sent in requests)


def test_a_bundle_is_loaded_again_when_it_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundled_models() / "phantom-unet", folder)
    models = Models()

    def model() -> Model:
        return models.model(read_bundle(folder), lambda *_: None)

    first = model()
    assert model() is first
    card = json.loads((folder / CARD).read_text())
    card["spacing"] = [2, 2, 2]
    del card[SEAL]
    (folder / CARD).write_text(json.dumps(card))
    assert model().bundle.spacing == (2, 2, 2)


def test_few_networks_are_kept_and_those_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MODELS_KEPT", 2)
    models = Models()
    for name in "abac":
        shutil.copytree(bundled_models() / "phantom-unet", tmp_path / name, dirs_exist_ok=True)
        models.model(read_bundle(tmp_path / name), lambda *_: None)
    assert [folder.name for folder in models.kept] == ["a", "c"]


@pytest.mark.parametrize("used", [True, False])
def test_memory_of_a_gpu_is_given_back_after_each_request_if_one_was_used(
    used: bool, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))
    monkeypatch.setattr(worker, "answer", lambda *_: {})
    serve([request(volume, "a"), request(volume, "b")])
    assert len(freed) == 2 * used


def test_the_time_left_follows_from_the_pace_of_the_phase() -> None:
    now = [0.0]
    remaining = Remaining(lambda: now[0])

    def at(seconds: float, phase: str, fraction: float) -> float | None:
        now[0] = seconds
        return remaining.update(phase, fraction)

    assert at(0, "Reading", 0) is None
    assert at(0.5, "Reading", 0.5) is None  # too early to tell
    assert at(2, "Reading", 0.5) == pytest.approx(2)
    assert at(8, "Reading", 0.8) == pytest.approx(2)
    assert at(10, "Segmenting", 0) is None
    assert at(12, "Segmenting", 0) is None  # nothing done yet
    assert at(14, "Segmenting", 0.25) == pytest.approx(12)
    assert at(15, "Segmenting", 0.05) is None  # it started over
    assert at(17, "Segmenting", 0.15) == pytest.approx(17)
    assert at(20, "Segmenting", 1) == 0


def test_the_worker_speaks_json_in_an_environment_without_utf8(volume: Path, tmp_path: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHONUTF8", "PYTHONIO", "LC_", "LANG"))
    }
    client = Client(tmp_path / "log", environment={**environment, "LC_ALL": "C"})
    client.send(request(volume, "ü", output=str(tmp_path / "Schädel 頭.seg.nrrd")))
    answer = client.answer()
    client.close()
    assert (answer["type"], answer["id"]) == ("result", "ü")
    assert read_volume(tmp_path / "Schädel 頭.seg.nrrd").array.any()


def test_a_cancelled_run_ends_soon_and_leaves_no_file(client: Client, volume: Path, tmp_path: Path) -> None:
    big = tmp_path / "big.nrrd"
    noise = np.random.default_rng(0).integers(0, 1000, (160, 160, 160), dtype=np.int16)
    write_volume(Volume(noise, PhantomSpec(size=(160, 160, 160)).geometry()), big, compress=False)
    client.send(request(big, bundle=str(bundled_models() / "phantom-se_unet"), output=str(tmp_path / "out.nrrd")))
    client.wait_for("Segmenting")
    started = time.monotonic()
    client.send({"type": "cancel", "id": "1"})
    assert client.answer()["type"] == "cancelled"
    assert time.monotonic() - started < 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.nrrd", "log"]


def test_a_request_cancelled_before_its_turn_is_not_begun(client: Client, volume: Path) -> None:
    client.send(request(volume, "a"))
    client.send(request(volume, "b"))
    client.send({"type": "cancel", "id": "b"})
    assert [client.answer()["type"] for _ in range(2)] == ["result", "cancelled"]


def test_the_worker_ends_when_its_stdin_does(client: Client) -> None:
    assert client.process.stdin
    client.process.stdin.close()
    assert client.process.wait(SECONDS_AT_MOST) == 0
    assert client.log.read_text() == ""


@pytest.mark.parametrize(("phase", "deaf"), [("Reading", False), ("Segmenting", True), ("Writing", False)])
def test_the_worker_ends_cleanly_in_mid_run_when_its_master_is_gone(
    client: Client, volume: Path, tmp_path: Path, phase: str, deaf: bool
) -> None:
    client.send(request(volume, output=str(tmp_path / "results" / "out.seg.nrrd")))
    client.wait_for(phase)
    assert client.process.stdin
    assert client.process.stdout
    started = time.monotonic()
    if deaf:
        client.process.stdout.close()
    client.process.stdin.close()
    assert client.process.wait(SECONDS_AT_MOST) == 0
    assert time.monotonic() - started < 4  # 2 s, and what a busy test machine adds
    assert client.log.read_text() == ""
    assert [path.name for path in (tmp_path / "results").glob("*")] in ([], ["out.seg.nrrd"])


WRITES_FOR_LONG = """
import time
import SimpleITK
from ScaleEquivSegLib import worker

def write_for_long(image, path, compress):
    open(path, "w").write("half a file")
    time.sleep(60)

SimpleITK.WriteImage = write_for_long
worker.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_told_to_terminate_leaves_no_temporary_folder(
    volume: Path, tmp_path: Path, number: signal.Signals
) -> None:
    client = Client(tmp_path / "log", ["-c", WRITES_FOR_LONG])
    client.send(request(volume, output=str(tmp_path / "results" / "out.seg.nrrd")))
    deadline = time.monotonic() + SECONDS_AT_MOST
    while not list(tmp_path.glob("results/.writing-*/*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(client.process.pid, number)
    assert client.process.wait(SECONDS_AT_MOST) == 128 + number
    client.close()
    assert list((tmp_path / "results").iterdir()) == []
    assert client.log.read_text() == ""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_an_idle_worker_ends_when_told_to_terminate(client: Client) -> None:
    os.kill(client.process.pid, signal.SIGTERM)
    assert client.process.wait(SECONDS_AT_MOST) == 128 + signal.SIGTERM
