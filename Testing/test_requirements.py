"""Packages that computing needs: one that is missing, too old or refused is named with what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement as PipRequirement

from ScaleEquivSegLib.answers import Models, answer
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.errors import MissingPackage, SegmentationError, UnsuitablePackage
from ScaleEquivSegLib.request import request_from
from ScaleEquivSegLib.requirements import REQUIREMENTS, package_problems, unmet

ROOT = Path(__file__).resolve().parents[1]
GOOD = {"torch": "2.8.0+cu128", "safetensors": "0.5.3"}


def problems(versions: Mapping[str, str | None]) -> list[SegmentationError]:
    def version_of(package: str) -> str | None:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    return package_problems(version_of)


@pytest.mark.parametrize("torch", ["2.2.2", "2.2.2+cpu", "2.8.0+cu128", "2.10.0", "2.90.1", "3.0", "2.13.0a0+git1"])
def test_versions_that_will_do_are_no_problem(torch: str) -> None:
    assert problems({**GOOD, "torch": torch}) == []


@pytest.mark.parametrize(
    ("torch", "kind", "reason"),
    [
        (None, MissingPackage, "PyTorch is not installed; in Slicer, install the PyTorch extension"),
        ("1.13.1", UnsuitablePackage, "PyTorch 1.13.1 is too old, 2.2.2 or newer"),
        ("2.1.1+cu118", UnsuitablePackage, "too old"),
        ("2.1", UnsuitablePackage, "too old"),
        ("nonsense", UnsuitablePackage, "too old"),
        ("2.9.0", UnsuitablePackage, "3D convolutions under autocast many times slower"),
        ("2.9.1+cu128", UnsuitablePackage, "install another version"),
        ("2.9", UnsuitablePackage, "install another version"),
    ],
)
def test_a_version_that_will_not_do_is_named_with_what_to_do(
    torch: str | None, kind: type[SegmentationError], reason: str
) -> None:
    (problem,) = problems({**GOOD, "torch": torch})
    assert type(problem) is kind
    assert reason in str(problem)
    assert "pip install 'torch>=2.2.2,!=2.9.*'" in str(problem)


def test_all_problems_are_told() -> None:
    both = problems({"safetensors": "0.3"})
    assert [type(problem) for problem in both] == [MissingPackage, UnsuitablePackage]
    assert "slicer.util.pip_install('safetensors>=0.4.3')" in str(both[1])


def test_what_is_unmet_is_what_there_are_problems_with() -> None:
    torch, safetensors = REQUIREMENTS
    for versions, wrong in (({"torch": "2.9.1"}, [torch, safetensors]), ({"torch": "2.8.0"}, [safetensors])):
        assert unmet(versions.get) == wrong
        assert len(package_problems(versions.get)) == len(wrong)
    assert unmet() == []


def test_the_packages_of_this_environment_will_do() -> None:
    assert package_problems() == []


def test_pip_and_slicer_install_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_pip = {requirement.name: requirement for requirement in map(PipRequirement, project["dependencies"])}
    for requirement in REQUIREMENTS:
        assert of_pip[requirement.package] == PipRequirement(requirement.bounds)
    listed = (ROOT / "ScaleEquivSeg" / "Resources" / "requirements.txt").read_text(encoding="utf-8").split()
    assert [requirement.bounds for requirement in REQUIREMENTS if requirement.package != "torch"] == listed


@pytest.mark.parametrize(
    "failure", [OSError("[WinError 126] c10.dll or one of its dependencies"), ImportError("DLL load failed")]
)
def test_a_torch_that_is_there_but_cannot_be_loaded_is_told_with_the_remedy(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        assert name == "torch"
        raise failure

    monkeypatch.setattr("ScaleEquivSegLib.requirements.importlib.import_module", fail)
    with pytest.raises(UnsuitablePackage, match=f"cannot be loaded: {re.escape(str(failure))}. .* PyTorch Utils"):
        answer(request_from({"type": "devices", "id": "1"}), Models(), lambda phase, fraction: None)


@pytest.mark.parametrize(
    "command",
    [["segment", "IMAGE", "-o", "OUT"], ["scale-sweep", "IMAGE"], ["segment", "--cases", "IMAGE", "-o", "OUT"]],
)
@pytest.mark.parametrize(("version", "code"), [("2.9.0", 13), (None, 12)])
def test_every_command_that_computes_ends_with_the_exit_code_of_the_cause(
    command: list[str],
    version: str | None,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["phantom", str(tmp_path / "data"), "--size", "9", "9", "9"]) == 0
    images = tmp_path / "data" / "images"
    places = {
        "IMAGE": str(images if "--cases" in command else next(images.iterdir())),
        "OUT": str(tmp_path / ("out" if "--cases" in command else "out.nrrd")),
    }
    monkeypatch.setattr("ScaleEquivSegLib.requirements.package_problems.__defaults__", (lambda package: version,))
    assert main([*(places.get(word, word) for word in command), "--bundle", "phantom-unet"]) == code
    assert "PyTorch" in capsys.readouterr().err
    assert not Path(places["OUT"]).exists()


def test_what_is_wrong_is_found_without_importing_a_package() -> None:
    look = (
        "import sys; from ScaleEquivSegLib.requirements import package_problems; package_problems(); "
        "sys.exit(bool({'torch', 'safetensors', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
