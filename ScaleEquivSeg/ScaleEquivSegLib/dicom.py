"""A folder with one DICOM series as one image, provided that its slices are the planes of one regular grid.
ITK stacks whatever it finds at equal distances; here every slice must lie where the stack puts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import UnreadableVolume, UnsuitableVolume
from .names import itk_name

MOST_SHIFT = 0.01
"""So far, in slice distances, a slice may lie from its place ..."""
MOST_SHIFT_MM = 0.01
"""... or so far in millimetres, if that is more: scanners round positions."""
MOST_SIDEWAYS = 0.1
"""So far, in pixels, a slice may lie beside the first one's normal: orientations are rounded, too, and it adds up."""
NO_IMAGES = (
    b"1.2.840.10008.1.3.10",  # DICOMDIR
    b"1.2.840.10008.5.1.4.1.1.88.",  # structured reports
    b"1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    b"1.2.840.10008.5.1.4.1.1.66",  # registrations, segmentations
    b"1.2.840.10008.5.1.4.1.1.104.",  # documents
    b"1.2.840.10008.5.1.4.1.1.481.",  # radiotherapy
)
"""What else lies beside the slices of a series."""


@dataclass(frozen=True)
class Slice:
    """What one file says about its slice."""

    file: str
    size: tuple[int, ...]
    spacing: np.ndarray
    direction: np.ndarray
    position: np.ndarray
    pixel_type: int


def read_series(folder: Path) -> sitk.Image:
    """Read the one series in a folder; other files may lie beside it."""
    files = _files_of_series(folder)
    slices = [_read_slice(file) for file in files]
    if len(slices) == 1:
        raise UnsuitableVolume(
            f"{folder} holds one DICOM slice only, and the distance of slices is not known from one; "
            "pick the folder that holds the whole series."
        )
    _check_alike(folder, slices)
    _check_positions(folder, slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([itk_name(file) for file in files])
    if len({one.pixel_type for one in slices}) > 1:
        # Slices with a rescale slope each: ITK would round all to the type of the first.
        reader.SetOutputPixelType(sitk.sitkFloat64)
    return reader.Execute()


def _files_of_series(folder: Path) -> Sequence[str]:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(itk_name(folder))
    if not series:
        raise UnreadableVolume(
            f"{folder} holds no DICOM series; pick the folder in which the slices themselves lie, or an image file."
        )
    files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(itk_name(folder), uid) for uid in series}
    if len(series) > 1:
        found = "; ".join(f"{len(names)} file(s) {_description(names[0])}" for names in files.values())
        raise UnsuitableVolume(
            f"{folder} holds {len(series)} DICOM series ({found}); put the one to segment in a folder of its own."
        )
    _check_nothing_left_over(folder, files[series[0]])
    return files[series[0]]


def _description(file: str) -> str:
    reader = _information(file)
    tags = ("0020|0011", "0008|103e", "0020|000e")
    number, name, uid = (reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else "" for tag in tags)
    return f"no. {number or '?'} {name!r} {uid}"


def _information(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableVolume(f"{file} is a damaged DICOM file. Export the series again.") from error
    return reader


def _check_nothing_left_over(folder: Path, files: Sequence[str]) -> None:
    """Refuse files that look like slices and that GDCM passed over: a series cut short at its end has no gap."""
    taken = {Path(file).name for file in files}
    for path in sorted(folder.iterdir()):
        if path.name not in taken and not path.name.startswith(".") and path.is_file() and _may_be_a_slice(path):
            raise UnreadableVolume(f"{path} is a damaged DICOM file. Export the series again, or remove it.")


def _may_be_a_slice(path: Path) -> bool:
    """Whether a file that cannot be read as a slice may have been one: not if its MediaStorageSOPClassUID says so."""
    with path.open("rb") as stream:
        start = stream.read(512)
    if start[128:132] != b"DICM":
        return not start or path.suffix.lower() == ".dcm"
    _, _, value = start.partition(b"\x02\x00\x02\x00UI")
    return not value[2:].startswith(NO_IMAGES)


def _read_slice(file: str) -> Slice:
    reader = _information(file)
    has_place = reader.HasMetaDataKey("0020|0032") and reader.HasMetaDataKey("0020|0037")
    if not has_place or reader.GetSize()[2:] != (1,):
        raise UnsuitableVolume(
            f"{file} is not one slice that says where it lies (ImagePositionPatient, ImageOrientationPatient); "
            "multi-frame files and secondary captures cannot be read. Load it in Slicer and save it as .nrrd."
        )
    return Slice(
        file=file,
        size=reader.GetSize(),
        spacing=np.array(reader.GetSpacing())[:2],
        direction=np.array(reader.GetDirection()).reshape(3, 3),
        position=np.array(reader.GetOrigin()),
        pixel_type=reader.GetPixelID(),
    )


def _check_alike(folder: Path, slices: Sequence[Slice]) -> None:
    first = slices[0]
    for one in slices[1:]:
        if one.size != first.size:
            what = f"sizes ({first.size[0]} x {first.size[1]} and {one.size[0]} x {one.size[1]} pixels)"
        elif not np.allclose(one.spacing, first.spacing, rtol=1e-4):
            what = "pixel sizes"
        elif np.abs(one.direction - first.direction).max() > 1e-3:
            what = "orientations"
        else:
            continue
        raise UnsuitableVolume(
            f"{folder} holds slices of different {what}: {_name(first)} and {_name(one)}. "
            "Put those that belong together in a folder of their own."
        )


def _check_positions(folder: Path, slices: Sequence[Slice]) -> None:
    """Every slice at the same distance from the one before, straight above it."""
    offsets = np.array([one.position - slices[0].position for one in slices])
    normal = slices[0].direction[:, 2]
    heights = offsets @ normal
    steps = np.diff(heights)
    distance = float(np.median(steps))
    allowed = max(MOST_SHIFT_MM, MOST_SHIFT * distance)
    for lower, upper, step in zip(slices, slices[1:], steps, strict=False):
        between = f"between {_name(lower)} and {_name(upper)}"
        if step < MOST_SHIFT_MM:
            raise UnsuitableVolume(
                f"{folder} has several slices at one position: {_name(lower)} and {_name(upper)}. "
                "Put those of one time or kind in a folder of their own."
            )
        if abs(step - distance) > allowed:
            raise UnsuitableVolume(
                f"{folder} has a gap of {step:.3f} mm {between} where slices are {distance:.3f} mm apart; slices are "
                "missing or unevenly spaced. Export the whole series again, or resample it to even distances."
            )
    sideways = np.linalg.norm(offsets - np.outer(heights, normal), axis=1).max()
    if sideways > max(allowed, MOST_SIDEWAYS * slices[0].spacing.min()):
        raise UnsuitableVolume(
            f"{folder} has slices that are shifted sideways by up to {sideways:.2f} mm (a tilted gantry); "
            "load it in Slicer, which straightens it, and save it as .nrrd."
        )
    even = np.linspace(0, heights[-1], len(slices))
    worst = int(np.abs(heights - even).argmax())
    if abs(heights[worst] - even[worst]) > allowed:
        raise UnsuitableVolume(
            f"{folder} has unevenly spaced slices: {_name(slices[worst])} lies {heights[worst] - even[worst]:+.3f} mm "
            "from its place. Resample it to even distances."
        )


def _name(one: Slice) -> str:
    return Path(one.file).name
