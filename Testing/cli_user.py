"""What a user of the command line begins with."""

from __future__ import annotations

from pathlib import Path

from ScaleEquivSegLib.cli import main


def two_phantoms(folder: Path) -> Path:
    """A folder with the images and labels of two small phantoms, the seeds 5 and 6."""
    assert main(["phantom", str(folder), "--count", "2", "--seed", "5", "--size", "32", "32", "24"]) == 0
    return folder


def segment(folder: Path, output: Path, *more: str) -> int:
    """Segment the first of them; the exit code."""
    image = str(folder / "images" / "phantom_000005.nrrd")
    return main(["segment", image, "-o", str(output), "--bundle", "phantom-unet", "--device", "cpu", *more])
