"""Data sets of the Medical Segmentation Decathlon, fetched on request and checked by the checksums that MONAI knows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from monai.apps import DecathlonDataset, download_and_extract

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
            download_and_extract(
                DecathlonDataset.resource[task], archive, unfinished, DecathlonDataset.md5[task], hash_type="md5"
            )
            os.replace(Path(unfinished) / task, place)
    # MONAI says so of a wrong checksum; what urllib raises is an OSError
    except (RuntimeError, OSError) as error:
        raise SegmentationError(
            f"{task} could not be fetched: {error}. Look at the connection and try again."
        ) from error
    return place
