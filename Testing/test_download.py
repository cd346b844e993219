"""Tasks of the Decathlon are fetched over the network whole and checked, or not at all; here from a local server."""

from __future__ import annotations

import hashlib
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from monai.apps import DecathlonDataset

from ScaleEquivSegLib.errors import BadRequest, OutputExists, SegmentationError
from training.__main__ import main
from training.download import download


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The hippocampus task, a small one, and a damaged one of the heart, where MONAI looks for them; the folder is that
    of the server."""
    folder = tmp_path / "server"
    (folder / "Task04_Hippocampus").mkdir(parents=True)
    (folder / "Task04_Hippocampus" / "dataset.json").write_text("{}")
    with tarfile.open(folder / "Task04_Hippocampus.tar", "w") as archive:
        archive.add(folder / "Task04_Hippocampus", "Task04_Hippocampus")
    packed = (folder / "Task04_Hippocampus.tar").read_bytes()
    (folder / "Task02_Heart.tar").write_bytes(packed[:100])
    handler = partial(SilentHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{serving.server_port}"
        addresses = {task: f"{address}/{task}.tar" for task in DecathlonDataset.resource}
        monkeypatch.setattr(DecathlonDataset, "resource", addresses)
        monkeypatch.setattr(DecathlonDataset, "md5", dict.fromkeys(addresses, hashlib.md5(packed).hexdigest()))
        yield folder
        serving.shutdown()


class SilentHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, *arguments: Any) -> None:
        """Nobody listens."""


def test_monai_knows_the_address_and_the_checksum_of_the_hippocampus() -> None:
    assert DecathlonDataset.resource["Task04_Hippocampus"].endswith("Task04_Hippocampus.tar")
    assert DecathlonDataset.md5["Task04_Hippocampus"] == "9d24dba78a72977dbd1d2e110310f31b"


def test_a_task_of_the_decathlon_is_fetched_whole_and_checked_or_not_at_all(
    tmp_path: Path, server: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "download", "Task04_Hippocampus", str(tmp_path / "data")])
    main()
    assert f"fetched: {tmp_path / 'data' / 'Task04_Hippocampus'}\n" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "data").rglob("*")] == ["Task04_Hippocampus", "dataset.json"]

    with pytest.raises(OutputExists, match="remove it to download it again"):
        download("Task04_Hippocampus", tmp_path / "data")
    with pytest.raises(BadRequest, match="Task04_Hippocampus"):
        download("Task04", tmp_path / "data")
    with pytest.raises(SegmentationError, match="md5 hash check"):
        download("Task02_Heart", tmp_path / "data")
    with pytest.raises(SegmentationError, match=r"could not be fetched: .*404"):
        download("Task03_Liver", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["Task04_Hippocampus"]
