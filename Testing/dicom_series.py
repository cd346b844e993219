"""DICOM series made from a volume, one file per slice, with the tags that a scanner would give them."""

from __future__ import annotations

import locale
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ScaleEquivSegLib.volume import Volume, to_sitk

CT = "1.2.840.10008.5.1.4.1.1.2"


def write_series(
    volume: Volume, folder: Path, tags: Mapping[str, str] | None = None, series: str = "1.2.3.4", suffix: str = ".dcm"
) -> list[Path]:
    """Write slices along k, in files whose names count the other way; their paths in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    image = to_sitk(volume)
    count = image.GetSize()[2]
    paths = [folder / f"{series}-{count - k:03}{suffix}" for k in range(count)]
    for k, path in enumerate(paths):
        write_slice(image, k, path, {"0020|000e": series, **(tags or {})})
    return paths


def write_slice(image: sitk.Image, k: int, path: Path, tags: Mapping[str, str]) -> None:
    """Write one slice; tags given here override those that follow from the image."""
    columns = np.reshape(image.GetDirection(), (3, 3)).T
    piece = image[:, :, k]
    own = {
        "0008|0016": CT,
        "0008|0060": "CT",
        "0020|000d": "1.2.3",
        "0020|0052": "1.2.3.5",
        "0020|0013": str(k),
        "0020|0032": decimals(image.TransformIndexToPhysicalPoint((0, 0, k))),
        "0020|0037": decimals(columns[:2].ravel()),
    }
    for tag, value in {**own, **tags}.items():
        piece.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    with locale_kept():
        writer.Execute(piece)


@contextmanager
def locale_kept() -> Iterator[None]:
    """GDCM sets the locale "C" when it writes, and Python would read files as ASCII in every test that follows."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def decimals(numbers: np.ndarray | tuple[float, ...]) -> str:
    """Numbers as DICOM writes them, with at most 16 characters each."""
    return "\\".join(f"{number:.10g}"[:16] for number in numbers)
