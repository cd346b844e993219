"""The worker as the panel sees it: one that is foreign, hangs, crashes or talks nonsense is ended with the reason."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import qt

import slicerhost
from panel_user import QUICK, User
from ScaleEquivSegLib import __version__
from ScaleEquivSegLib.bundles import bundle_named
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.panel import worker_process
from ScaleEquivSegLib.panel.worker_process import WorkerProcess
from ScaleEquivSegLib.phantom import make_phantom
from ScaleEquivSegLib.request import PROTOCOL

SECONDS_AT_MOST = 30
REQUEST = {"type": "segment", "id": "1"}

PROLOGUE = f"""
import json, os, signal, sys, time

def say(**message):
    print(json.dumps(message), flush=True)

RESULT = dict(type="result", id="1", output="", ml={{}}, warnings=[], provenance={{}})

def ready(protocol={PROTOCOL}, version={__version__!r}):
    say(type="ready", protocol=protocol, version=version, pid=os.getpid())

open("pid", "w").write(str(os.getpid()))
"""


class Ears:
    """A panel that only listens."""

    def __init__(self, silence_s: float, idle_s: float = SECONDS_AT_MOST) -> None:
        self.messages: list[Any] = []
        self.log: list[str] = []
        self.reasons: list[str] = []
        self.parent = qt.QObject()
        calls = (self.messages.append, self.log.append, self.reasons.append)
        self.worker = WorkerProcess(*calls, self.parent, silence_s, idle_s)


Listen = Callable[..., Ears]
PutInPlace = Callable[[str], None]


@pytest.fixture
def put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PutInPlace:
    """Puts a program in the worker's place."""

    def put(program: str) -> None:
        folder = tmp_path / "ScaleEquivSegLib"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "worker.py").write_text(PROLOGUE + program)
        monkeypatch.setattr(worker_process, "LIBRARY_PARENT", tmp_path)
        monkeypatch.setattr(worker_process, "python_executable", lambda: sys.executable)

    return put


@pytest.fixture
def listen(put_in_place: PutInPlace) -> Iterator[Listen]:
    """Starts a program in the worker's place and sends it a request."""
    every: list[Ears] = []

    def start(program: str, silence_s: float = SECONDS_AT_MOST, idle_s: float = SECONDS_AT_MOST) -> Ears:
        put_in_place(program)
        every.append(Ears(silence_s, idle_s))
        every[-1].worker.send(REQUEST)
        return every[-1]

    yield start
    for ears in every:
        ears.worker.stop()


def wait(condition: Callable[[], Any]) -> None:
    assert slicerhost.start().wait_until(condition, SECONDS_AT_MOST)


def is_gone(folder: Path) -> bool:
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except OSError:
        return True
    return False


def the_reason(ears: Ears, folder: Path) -> str:
    """Why the worker was ended; it is, and another could be started."""
    wait(lambda: ears.reasons)
    assert not ears.worker.running
    assert ears.worker.pid == 0
    assert is_gone(folder)
    (reason,) = ears.reasons
    return reason


@pytest.mark.parametrize(
    "greeting", ["protocol=1", "version='9.9'", "version=None", "protocol=None, version=[1] * 1000"]
)
def test_a_worker_of_another_version_is_refused(listen: Listen, tmp_path: Path, greeting: str) -> None:
    ears = listen(f"ready({greeting}); say(**RESULT); time.sleep(60)")
    reason = the_reason(ears, tmp_path)
    assert "Restart Slicer" in reason
    assert len(reason) < 300
    assert not ears.messages


def test_a_worker_that_crashes_at_start_is_reported_with_its_log(listen: Listen, tmp_path: Path) -> None:
    ears = listen("raise ImportError('no such library')")
    assert "ended with code 1" in the_reason(ears, tmp_path)
    assert ears.log[-1] == "ImportError: no such library"


def test_a_worker_killed_behind_a_launcher_is_reported_as_killed(listen: Listen, tmp_path: Path) -> None:
    assert "killed or crashed" in the_reason(listen("os._exit(128 + signal.SIGKILL)"), tmp_path)


GARBAGE = """
sys.stdout.buffer.write(b"\\xff\\xfe nonsense\\n[1]\\n42\\n{}\\n" + b"[" * 5000 + b"\\n")
say(type=["ready"]), say(**RESULT), say(type="heartbeat")
while True:
    sys.stdout.buffer.write(b"x" * 100_000)
    sys.stdout.flush()
    time.sleep(0.01)
"""


def test_names_of_files_and_the_log_are_in_utf8_whatever_the_environment(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    ears = listen(
        "ready(); name = 'Sch\\xe4del \\u982d'; open(name, 'w').close(); print(name, file=sys.stderr); input()"
    )
    wait(lambda: ears.log)
    assert ears.log == ["Schädel 頭"]
    assert (tmp_path / "Schädel 頭").exists()


@pytest.mark.parametrize("program", ["time.sleep(60)", GARBAGE], ids=["silence", "garbage"])
def test_a_worker_that_hangs_or_babbles_at_start_is_ended(listen: Listen, tmp_path: Path, program: str) -> None:
    ears = listen(program, silence_s=1)
    assert "no sign of life for 1 seconds" in the_reason(ears, tmp_path)
    assert not ears.messages


def test_replies_that_lack_something_are_logged_and_not_passed_on(listen: Listen) -> None:
    ears = listen(
        "ready(); say(type='progress', id='1'); say(type='result'); say(type='dance'); say(**RESULT); time.sleep(60)"
    )
    wait(lambda: ears.messages)
    assert [message["type"] for message in ears.messages] == ["result"]
    assert len(ears.log) == 3


def test_a_line_without_end_takes_bounded_memory(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "UNFINISHED_LINE_AT_MOST", 1000)
    ears = listen("ready(); print('x' * 1_000_000, end='', flush=True); print(); time.sleep(60)")
    wait(lambda: ears.log)
    assert len(ears.log[0]) < 200_000  # what came at once, and of what came before the end only


def test_a_worker_that_hangs_in_mid_run_is_killed_even_if_it_ignores_being_asked(
    listen: Listen, tmp_path: Path
) -> None:
    ears = listen("signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)", silence_s=1)
    assert "no sign of life" in the_reason(ears, tmp_path)


def test_a_heartbeat_is_a_sign_of_life_and_the_answer_ends_the_watch(listen: Listen) -> None:
    ears = listen(
        "ready()\nfor _ in range(8): time.sleep(0.25); say(type='heartbeat', id='1')\nsay(**RESULT); time.sleep(60)",
        silence_s=1.0,
    )
    wait(lambda: ears.messages)
    assert [message["type"] for message in ears.messages] == ["result"]
    deadline = time.monotonic() + 1.5
    slicerhost.start().wait_until(lambda: time.monotonic() > deadline)
    assert not ears.reasons


def test_a_worker_without_work_gives_its_memory_back_and_another_starts_with_the_next_request(
    listen: Listen, tmp_path: Path
) -> None:
    ears = listen("ready(); time.sleep(1); say(**RESULT); time.sleep(60)", idle_s=0.2)
    wait(lambda: ears.messages)  # while it worked it was left alone
    wait(lambda: not ears.worker.running)
    assert is_gone(tmp_path)
    ears.worker.send(REQUEST)
    wait(lambda: len(ears.messages) == 2)
    assert not ears.reasons


def test_a_worker_that_hangs_with_one_of_two_requests_unanswered_is_ended(listen: Listen, tmp_path: Path) -> None:
    ears = listen("ready(); input(); input(); say(**RESULT); time.sleep(60)", silence_s=1)
    ears.worker.send({**REQUEST, "id": "2"})
    assert "no sign of life" in the_reason(ears, tmp_path)
    assert [message["id"] for message in ears.messages] == ["1"]


@pytest.mark.parametrize("section", ["compare", "probe"])
def test_compare_and_probe_end_when_the_worker_hangs(user: User, put_in_place: PutInPlace, section: str) -> None:
    put_in_place("ready(); time.sleep(60)")
    desk = user.widget.panel.desk
    desk.worker = WorkerProcess(
        desk._on_message, desk._on_worker_log, desk._on_worker_end, user.ui.logText, silence_s=1
    )
    user.choose(user.load(QUICK))
    classes = bundle_named("phantom-unet").labels
    volume, labels = user.channel_selector().currentNode(), make_phantom(QUICK).labels
    for selector in (user.ui.comparedASelector, user.ui.comparedBSelector):
        selector.setCurrentNode(import_segmentation(labels, classes, volume, "found"))
    button, status = getattr(user.ui, f"{section}Button"), getattr(user.ui, f"{section}StatusLabel")
    button.click()
    user.wait()
    assert "no sign of life for 1 seconds" in status.text
    assert button.enabled
    assert button.text != "Cancel"


@pytest.mark.parametrize("words", ["", "no memory"])
def test_the_end_of_a_worker_comes_with_what_it_said_last_and_not_with_how_an_earlier_run_ended(
    user: User, put_in_place: PutInPlace, words: str
) -> None:
    put_in_place(
        "ready(); say(type='error', id=json.loads(input())['id'], message='No.'); input()\n"
        f"print({words!r}, file=sys.stderr, end='\\n' * {bool(words)}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    user.choose(user.load(QUICK))
    user.start()
    user.wait()
    assert user.status == "No."
    user.start()
    user.wait()
    assert user.status == f"The computing process was killed or crashed. {words}".strip()


def test_a_worker_that_ends_while_nothing_runs_is_written_in_the_log(user: User, put_in_place: PutInPlace) -> None:
    put_in_place(
        "ready(); say(type='error', id=json.loads(input())['id'], message='No.'); time.sleep(0.2); sys.exit(3)"
    )
    user.choose(user.load(QUICK))
    user.start()
    user.wait()
    wait(lambda: not user.widget.panel.desk.worker.running)
    said, ended = user.ui.logText.toPlainText().splitlines()
    assert said == "No."
    assert ended.startswith("The computing process ended with code 3")
    assert user.status == "No."


def test_signs_that_came_while_slicer_itself_was_busy_count(listen: Listen) -> None:
    ears = listen("ready()\nwhile True: say(type='heartbeat', id='1'); time.sleep(0.1)", silence_s=1)
    wait(lambda: ears.worker.pid)
    time.sleep(0.5)  # no event is handled meanwhile
    ears.worker._on_silence()  # where timers come before pipes
    assert ears.worker.running
    assert not ears.reasons


def test_stop_lets_a_worker_clean_up_and_says_nothing_more(listen: Listen, tmp_path: Path) -> None:
    ears = listen(
        "def end(*_): open('cleaned', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); ready(); say(**RESULT)\nwhile True: time.sleep(60)"
    )
    wait(lambda: ears.messages)
    ears.worker.stop()
    assert (tmp_path / "cleaned").exists() or os.name != "posix"
    assert is_gone(tmp_path)
    assert not ears.reasons
