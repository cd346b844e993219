"""Where a result says what made it: in its own header, or in a text beside a file that has no room for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import SimpleITK as sitk

from .errors import UnreadableVolume
from .names import itk_name
from .volume import ENDINGS, Volume, ending_of, write_volume
from .whole_files import in_one_piece

PREFIX = "ScaleEquivSeg_"
"""The keys begin so among those of other programs."""


def voxels_sha256(volume: Volume) -> str:
    """The hash that identifies an input: of its voxels as bytes in the order k, j, i, whatever file they come from."""
    digest = hashlib.sha256()
    for plane in volume.array:
        digest.update(plane.tobytes())
    return digest.hexdigest()


def provenance_path(path: Path) -> Path | None:
    """The text beside a volume that says where it comes from; None for NRRD, whose header does."""
    ending = ending_of(path)
    return None if ending.lower().endswith(".nrrd") else path.with_name(f"{path.name[: -len(ending)]}.provenance.json")


def write_with_provenance(
    volume: Volume, path: Path, facts: Mapping[str, str], header: Mapping[str, str] | None = None, compress: bool = True
) -> None:
    """Write a volume with facts about its origin, and with further entries of a NRRD header."""
    named = {PREFIX + key: value for key, value in facts.items()}
    beside = provenance_path(path)
    with in_one_piece(beside) if beside else nullcontext() as text:  # takes its place after the volume, or not at all
        if text:
            text.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
        write_volume(volume, path, {**named, **(header or {})}, compress)


def read_provenance(path: Path) -> dict[str, str]:
    """What a volume's header, or the text beside it, says of where it comes from; nothing if it says nothing."""
    beside = provenance_path(path)
    found = _header_of(path) if beside is None else _text_of(beside)
    return {key.removeprefix(PREFIX): value for key, value in found.items() if key.startswith(PREFIX)}


def _header_of(path: Path) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableVolume(f"{path} cannot be read as an image.") from error
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _text_of(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableVolume(f"{path} is damaged; remove it.") from error


def origin_of(path: Path) -> dict[str, str]:
    """What identifies a file of labels: its hash and, as far as it says them, the model and the image behind it."""
    with path.open("rb") as stream:
        known = {"file_sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    said = read_provenance(path) if path.name.lower().endswith(ENDINGS) else {}
    keys = ("bundle", "bundle_version", "weights_sha256", "input_voxels_sha256")
    return known | {key: said[key] for key in keys if key in said}
