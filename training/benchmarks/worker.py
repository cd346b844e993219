"""What the panel's process costs: to start it, and to compute in it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ScaleEquivSegLib
from ScaleEquivSegLib.segmentation import Settings, load_model, segment
from ScaleEquivSegLib.volume import write_volume

from .case import Case, Conditions, Figures, spread, timed
from .volumes import bundled, noise

LIBRARY_PARENT = Path(ScaleEquivSegLib.__file__).parents[1]

Process = subprocess.Popen[str]


@contextmanager
def ready_worker() -> Iterator[Process]:
    """The worker, started as the panel starts it; it ends with its stdin."""
    command = [sys.executable, "-m", "ScaleEquivSegLib.worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=LIBRARY_PARENT, text=True, encoding="utf-8") as worker:
        expect("ready", worker)
        yield worker


def expect(kind: str, worker: Process) -> None:
    """Read replies up to the first that answers."""
    assert worker.stdout
    reply = {"type": "progress"}
    while reply["type"] in ("progress", "heartbeat"):
        line = worker.stdout.readline()
        reply = json.loads(line) if line else {"type": "end", "message": "its process ended"}
    if reply["type"] != kind:
        raise RuntimeError(f"the worker was expected to answer {kind!r}, but: {reply['message']}")


def warm_segment(name: str, conditions: Conditions) -> Figures:
    """A small volume through the worker, file to file, against the same in this process, array to array."""
    bundle, device = bundled(), conditions.device
    model, volume = load_model(bundle), noise(conditions.small, bundle.spacing)
    with tempfile.TemporaryDirectory() as folder, ready_worker() as worker:
        image, output = Path(folder) / "image.nrrd", Path(folder) / "labels.seg.nrrd"
        write_volume(volume, image)
        request = {"type": "segment", "id": "1", "bundle": str(bundle.folder), "device": str(device)}
        line = json.dumps({**request, "inputs": [str(image)], "output": str(output)})

        def through_the_worker() -> None:
            output.unlink(missing_ok=True)  # the worker overwrites nothing
            print(line, file=worker.stdin, flush=True)
            expect("result", worker)

        here = timed(lambda: segment([volume], model, Settings(str(device))), device)
        case = Case(name, timed(through_the_worker), here)
        pairs = case.pairs(conditions.repeats)
    return case.ratios(pairs) | spread(name, [ours - other for ours, other in pairs])


def start(name: str, conditions: Conditions) -> Figures:
    """From starting the worker to its `ready`, against a Python that imports torch and ends."""
    case = Case(name, _seconds_until_ready, timed(_import_torch))
    return case.ratios(case.pairs(conditions.repeats))


def _seconds_until_ready() -> float:
    started = time.perf_counter()
    with ready_worker():
        return time.perf_counter() - started


def _import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
