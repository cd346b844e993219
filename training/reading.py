"""The images of labelled cases as volumes: a file for each channel, or a frame of a 4D file for each.
The engine's own reader refuses 4D files, as nobody would know which frame was meant."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ScaleEquivSegLib.errors import UnreadableVolume, UnsuitableVolume
from ScaleEquivSegLib.headers import check_placement, check_whole, read_header
from ScaleEquivSegLib.names import itk_name
from ScaleEquivSegLib.reading import ijk_to_lps, last_line
from ScaleEquivSegLib.volume import Volume, from_sitk, read_image

from .cases import LabelledCase


def read_channels(case: LabelledCase) -> list[Volume]:
    """The images of a case in the order of its channels."""
    if not case.frames:
        return [read_image(path) for path in case.images]
    files = {path: _whole_series(path, max(case.frames)) for path in dict.fromkeys(case.images)}
    pairs = zip(case.images, case.frames, strict=True)
    return [from_sitk(files[path][:, :, :, frame]) for path, frame in pairs]


def _whole_series(path: Path, last: int) -> sitk.Image:
    """A 4D NIfTI file up to a frame at least, with the same checks as the engine has for a volume."""
    reader = _reader(path)
    header = read_header(path, reader.GetImageIO())
    if reader.GetDimension() != 4 or reader.GetNumberOfComponents() != 1 or header.voxel_bytes is None:
        raise UnsuitableVolume(f"{path} is no series of scalar volumes in NIfTI.")
    size = np.array(reader.GetSize())
    if size[3] <= last:
        raise UnsuitableVolume(f"{path} has {' x '.join(map(str, size))} voxels; frame {last} is wanted.")
    check_whole(path, header, math.prod(size.tolist()), header.voxel_bytes)
    check_placement(path, header, size[:3], ijk_to_lps(reader))
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise UnreadableVolume(f"{path} cannot be read as an image: {last_line(error)}") from error


def _reader(path: Path) -> sitk.ImageFileReader:
    """A reader that has seen the header."""
    reader = sitk.ImageFileReader()
    try:
        reader.SetImageIO(sitk.ImageFileReader.GetImageIOFromFileName(itk_name(path)))
        reader.SetFileName(itk_name(path))
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableVolume(f"{path} cannot be read as an image: {last_line(error)}") from error
    return reader
