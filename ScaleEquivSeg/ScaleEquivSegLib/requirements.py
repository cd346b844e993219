"""Which Python packages computing needs beyond those of Slicer, and what is wrong with those installed, if anything.
Found out without importing any of them, which takes seconds, until something is to be computed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from .errors import MissingPackage, SegmentationError, UnsuitablePackage


@dataclass(frozen=True)
class Requirement:
    """A package, the lowest version that will do, and how to get it."""

    package: str
    title: str
    lowest: str
    in_slicer: str
    refused: str = ""
    """The beginning of versions that will not do, though they are newer."""
    because: str = ""

    @property
    def bounds(self) -> str:
        """As pip writes it."""
        return f"{self.package}>={self.lowest}" + (f",!={self.refused}.*" if self.refused else "")

    @property
    def how_to_install(self) -> str:
        """What to do, in Slicer and elsewhere."""
        return f"in Slicer, {self.in_slicer}; elsewhere run: pip install '{self.bounds}'."


REQUIREMENTS = (
    Requirement(
        package="torch",
        title="PyTorch",
        lowest="2.2.2",
        in_slicer="install the PyTorch extension and let it install a suitable version of PyTorch",
        refused="2.9",
        because="computes 3D convolutions under autocast many times slower than other versions",
    ),
    Requirement(
        package="safetensors",
        title="safetensors",
        lowest="0.4.3",
        in_slicer="run slicer.util.pip_install('safetensors>=0.4.3')",
    ),
)


def package_problems(version_of: Callable[[str], str | None] = metadata.version) -> list[SegmentationError]:
    """An error for each package that is missing, too old or refused, its message saying what to do."""
    found = (_problem(requirement, version_of) for requirement in REQUIREMENTS)
    return [problem for problem in found if problem]


def unmet(version_of: Callable[[str], str | None] = metadata.version) -> list[Requirement]:
    """The requirements that package_problems tells of, in its order, for who can see to them."""
    return [requirement for requirement in REQUIREMENTS if _problem(requirement, version_of)]


def check_packages() -> None:
    """Raise the first problem, if there is one; call this before anything imports torch."""
    for problem in package_problems():
        raise problem


def check_computing() -> None:
    """The same, and load torch: one that is damaged, or lacks a library of the system, fails in ways of its own."""
    check_packages()
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise UnsuitablePackage(
            f"PyTorch is installed but cannot be loaded: {error}. Install it again: in Slicer, uninstall it in the "
            "module PyTorch Utils, restart, and press the button again; elsewhere run: pip install --force-reinstall "
            "torch. On Windows it needs the Microsoft Visual C++ Redistributable, too."
        ) from error


def _problem(requirement: Requirement, version_of: Callable[[str], str | None]) -> SegmentationError | None:
    title, how = requirement.title, requirement.how_to_install
    try:
        version = version_of(requirement.package)
    except metadata.PackageNotFoundError:
        version = None
    if version is None:  # its files are there, but what says the version is not
        return MissingPackage(f"The Python package {title} is not installed; {how}")
    number = _numbers(version)
    if number < _numbers(requirement.lowest):
        return UnsuitablePackage(f"{title} {version} is too old, {requirement.lowest} or newer is needed; {how}")
    refused = _numbers(requirement.refused)
    if refused and number[: len(refused)] == refused:
        return UnsuitablePackage(f"{title} {version} {requirement.because}; install another version: {how}")
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """2.10.1+cpu as (2, 10, 1)."""
    leading = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(map(int, leading.group().split("."))) if leading else ()
