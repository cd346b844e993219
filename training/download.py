"""Data sets of the Medical Segmentation Decathlon, fetched on request and checked by the checksums that MONAI knows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from monai.apps import DecathlonDataset, download_url, extractall

from ScaleEquivSegLib.errors import BadRequest, OutputExists, SegmentationError

TASKS = tuple(DecathlonDataset.resource)


def download(task: str, folder: Path) -> Path:
    """Fetch a task, such as Task04_Hippocampus, into a folder; returns where it lies, whole or not at all."""
    if task not in TASKS:
        raise BadRequest(
            f"There is no task {task!r} in the Medical Segmentation Decathlon; there are {', '.join(TASKS)}."
        )
    place = folder / task
    if place.exists():
        raise OutputExists(f"{place} exists; remove it to download it again.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".downloading-") as unfinished:
            archive = Path(unfinished) / f"{task}.tar"
            download_url(DecathlonDataset.resource[task], archive, DecathlonDataset.md5[task], hash_type="md5")
            extractall(archive, unfinished)
            os.replace(Path(unfinished) / task, place)
    # MONAI raises the first two for a wrong checksum, depending on its version; what urllib raises is an OSError.
    except (ValueError, RuntimeError, OSError) as error:
        raise SegmentationError(
            f"{task} could not be fetched: {error}. Look at the connection and try again."
        ) from error
    return place
