"""Files as SimpleITK images: a scalar volume as it was written and where its header says, or an error."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .dicom import read_series
from .errors import UnreadableVolume, UnsuitableVolume
from .headers import HEADERS, check_placement, check_whole, is_sheared, read_header, sheared
from .names import itk_name


def read_file(path: Path) -> sitk.Image:
    """The scalar volume in a file, or in a folder of DICOM slices."""
    try:
        if not path.exists():
            raise UnreadableVolume(f"{path} does not exist.")
        image = read_series(path) if path.is_dir() else checked_reader(path).Execute()
    except (RuntimeError, MemoryError, OSError, UnicodeError) as error:
        if "orthonormal" in str(error):  # ITK is stricter about NIfTI
            raise sheared(path) from error
        raise UnreadableVolume(f"{path} cannot be read as an image: {last_line(error)}") from error
    _check_kind(path, image)
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    if is_sheared(np.reshape(image.GetDirection(), (3, 3))):
        raise sheared(path)
    return image


def read_picture(path: Path) -> sitk.Image:
    """The grey values of a PNG file as a volume of one slice. The file says nothing of sizes: a pixel counts as 1 mm.

    Ultrasound is often stored in colours that are all grey; any other colour is an error.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.SetImageIO("PNGImageIO")
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError, OSError) as error:
        raise UnreadableVolume(f"{path} cannot be read as a PNG picture: {last_line(error)}") from error
    array = sitk.GetArrayFromImage(image)  # (row, column), or (row, column, component)
    if array.ndim == 3:
        if array.shape[2] != 3 or (array != array[..., :1]).any():
            raise UnsuitableVolume(f"{path} has colours or is partly transparent; save it as a picture in grey.")
        array = array[..., 0]
    return sitk.GetImageFromArray(np.ascontiguousarray(array[None]))


def checked_reader(path: Path) -> sitk.ImageFileReader:
    """A reader of a file that holds a whole scalar volume; the voxels are not read yet."""
    kind = sitk.ImageFileReader.GetImageIOFromFileName(itk_name(path))
    if not kind:
        raise UnreadableVolume(f"{path} is no image or is damaged; NRRD, NIfTI and MetaImage files can be read.")
    if kind == "GDCMImageIO":
        raise UnsuitableVolume(f"{path} is a single DICOM file; pick the folder that holds the whole series.")
    if kind not in HEADERS:
        raise UnsuitableVolume(f"{path} is no NRRD, NIfTI or MetaImage file; load it in Slicer and save it as .nrrd.")
    header = read_header(path, kind)
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.SetImageIO(kind)
    reader.ReadImageInformation()
    _check_kind(path, reader)
    # Before anything is allocated: a damaged header may announce any size.
    check_whole(path, header, math.prod(reader.GetSize()), _voxel_bytes(reader.GetPixelID()))
    check_placement(path, header, np.array(reader.GetSize()[:3]), ijk_to_lps(reader))
    return reader


def _check_kind(path: Path, image: sitk.Image | sitk.ImageFileReader) -> None:
    """Refuse what is no scalar volume, by an image or by a reader that has seen its header."""
    size = image.GetSize()
    if isinstance(image, sitk.Image):
        components = image.GetNumberOfComponentsPerPixel()
    else:
        components = image.GetNumberOfComponents()
    volume = len(size) == 3 or (len(size) == 4 and size[3] == 1)
    if "complex" in sitk.GetPixelIDValueAsString(image.GetPixelID()):
        raise UnsuitableVolume(f"{path} has complex numbers; extract the magnitude first.")
    if image.HasMetaDataKey("Segment0_ID") and (components != 1 or not volume):
        raise UnsuitableVolume(
            f"{path} is a segmentation with overlapping segments; export those to compare as a labelmap in Slicer."
        )
    if components != 1:
        raise UnsuitableVolume(
            f"{path} is a colour or vector image with {components} components per voxel; "
            "pick a scalar volume, or extract one component first."
        )
    if not volume:
        raise UnsuitableVolume(f"{path} has {len(size)} dimensions; pick a 3D volume, or extract one frame first.")


def _voxel_bytes(pixel_type: int) -> int:
    bits = re.match(r"\d+", sitk.GetPixelIDValueAsString(pixel_type))  # such as 16-bit signed integer
    assert bits, pixel_type
    return int(bits.group()) // 8


def ijk_to_lps(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """Where an image, or a reader that has seen its header, places the voxels."""
    dimension = image.GetDimension()
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3] * image.GetSpacing()[:3]
    matrix[:3, 3] = image.GetOrigin()[:3]
    return matrix


def last_line(error: Exception) -> str:
    """The last line of what ITK says, which alone is about the cause."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
