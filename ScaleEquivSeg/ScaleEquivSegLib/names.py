"""Names of files as ITK takes them."""

from __future__ import annotations

import os

from .errors import UnreadableVolume


def itk_name(path: str | os.PathLike[str]) -> str:
    """A file's name for ITK. One that is not UTF-8, as Linux allows, would end the program there and then."""
    name = os.fspath(path)
    if not is_utf8(name):
        raise UnreadableVolume(f"{name!a} is a name that is not UTF-8; rename the file or its folder.")
    return name


def is_utf8(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8; Python keeps those that are not as lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
