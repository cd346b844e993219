"""What Slicer's build, its catalogue and pip take from the project says the same as the files."""

from __future__ import annotations

import ast
import email
import importlib.util
import json
import re
import shutil
import struct
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "ScaleEquivSeg"
LIBRARY = MODULE / "ScaleEquivSegLib"
RESOURCES = MODULE / "Resources"
UI_FILE = RESOURCES / "UI" / "ScaleEquivSeg.ui"
CATALOGUE_ENTRY = ROOT / "Resources" / "ScaleEquivSeg.json"

IN_SLICER = {"numpy", "SimpleITK", "slicer", "vtk", "qt", "ctk"}
"""What Slicer itself brings along."""
PASSIVE_WIDGETS = {"qMRMLWidget", "QWidget", "QFrame", "QGroupBox", "QLabel", "QProgressBar"} | {
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
}
"""Nothing can be chosen or pressed in them, but for a section's heading."""


def syntax_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# CMake


def cmake_list(name: str) -> list[str]:
    """The lines between `set(NAME` and its `)` in the module's CMakeLists.txt."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.search(rf"^set\({name}\n(.*?)^  \)$", text, re.MULTILINE | re.DOTALL)
    assert found, f"CMakeLists.txt has no list {name}, one entry a line"
    return [line.strip() for line in found[1].splitlines()]


def module_files(pattern: str, folder: Path = MODULE) -> list[str]:
    return sorted(
        path.relative_to(MODULE).as_posix()
        for path in folder.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    )


def extension_variable(name: str) -> str:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.findall(rf'^set\({name} "([^"\n]+)"\)$', text, re.MULTILINE)
    assert len(found) == 1, f"CMakeLists.txt must set {name} once, on one line, in double quotes"
    return found[0]


def test_cmake_lists_exactly_the_python_files_of_the_module():
    assert cmake_list("MODULE_PYTHON_SCRIPTS") == module_files("*.py")


def test_cmake_lists_exactly_the_resources_of_the_module():
    assert cmake_list("MODULE_PYTHON_RESOURCES") == module_files("*", RESOURCES)


@pytest.mark.parametrize("name", ["HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"])
def test_the_extension_variable_is_one_double_quoted_line(name):
    assert extension_variable(f"EXTENSION_{name}").strip()


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_the_pictures_of_the_catalogue_are_files_of_the_repository(name):
    folder = "${EXTENSION_HOMEPAGE}/raw/main/"
    url = extension_variable(f"EXTENSION_{name}")
    assert url.startswith(folder)
    assert (ROOT / url.removeprefix(folder)).is_file()


def test_ctest_runs_the_self_test_of_the_module():
    assert "add_subdirectory(Testing)" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    text = (ROOT / "Testing" / "CMakeLists.txt").read_text(encoding="utf-8")
    (script,) = re.findall(r"SCRIPT \$\{ScaleEquivSeg_SOURCE_DIR\}/(\S+)", text)
    assert ROOT / script == MODULE / "ScaleEquivSeg.py"


# The catalogue


def project_name() -> str:
    return re.search(r"^project\((\w+)\)$", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]


def module_categories() -> list[str]:
    """The texts in `parent.categories = [...]`; of a translated one its last argument, which follows the context."""
    for node in ast.walk(syntax_of(MODULE / "ScaleEquivSeg.py")):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("parent.categories"):
            return [
                ast.literal_eval(entry.args[-1] if isinstance(entry, ast.Call) else entry) for entry in node.value.elts
            ]
    raise AssertionError("ScaleEquivSeg.py sets no categories")


@pytest.fixture(scope="module")
def catalogue() -> dict[str, object]:
    return json.loads(CATALOGUE_ENTRY.read_text(encoding="utf-8"))


def test_the_catalogue_entry_is_named_as_the_project():
    assert CATALOGUE_ENTRY.stem == project_name()


def test_the_catalogue_builds_after_what_cmake_depends_on(catalogue):
    assert catalogue["build_dependencies"] == extension_variable("EXTENSION_DEPENDS").split()


def test_the_catalogue_clones_from_the_homepage(catalogue):
    assert catalogue["scm_url"].startswith(extension_variable("EXTENSION_HOMEPAGE"))


def test_the_catalogue_and_the_module_name_the_same_category(catalogue):
    assert module_categories() == [catalogue["category"]]


# The panel's form


def ui_widgets() -> dict[str, ElementTree.Element]:
    return {widget.get("name", ""): widget for widget in ElementTree.parse(UI_FILE).iter("widget")}


def ui_property(widget: ElementTree.Element, name: str) -> str | None:
    """The text of a widget's own property, not of a widget inside it."""
    for entry in widget.findall("property"):
        if entry.get("name") == name:
            return "".join(entry.itertext()).strip()
    return None


def interactive_widgets() -> dict[str, ElementTree.Element]:
    """What a user can choose, press or write in."""
    return {
        name: widget
        for name, widget in ui_widgets().items()
        if widget.get("class") not in PASSIVE_WIDGETS and ui_property(widget, "readOnly") != "true"
    }


def ui_attribute(node: ast.AST) -> str | None:
    """NAME where the code says `ui.NAME`, `something.ui.NAME` or `self._ui.NAME`."""
    if isinstance(node, ast.Attribute) and re.fullmatch(r"(\w+\.)*_?ui", ast.unparse(node.value)):
        return node.attr
    return None


def widgets_used_in_code() -> set[str]:
    return {
        name
        for path in [MODULE / "ScaleEquivSeg.py", *(LIBRARY / "panel").glob("*.py")]
        for node in ast.walk(syntax_of(path))
        if (name := ui_attribute(node))
    }


def widgets_with_a_tooltip_from_code() -> set[str]:
    """Names in `ui.NAME.toolTip = ...` and `ui.NAME.setToolTip(...)`."""
    return {
        name
        for path in (LIBRARY / "panel").glob("*.py")
        for node in ast.walk(syntax_of(path))
        if isinstance(node, ast.Attribute)
        and (node.attr == "setToolTip" or (node.attr == "toolTip" and isinstance(node.ctx, ast.Store)))
        and (name := ui_attribute(node.value))
    }


def parameter_fields() -> set[str]:
    """The annotated fields of the parameter node."""
    return {
        field.target.id
        for node in syntax_of(LIBRARY / "panel" / "parameters.py").body
        if isinstance(node, ast.ClassDef)
        and "parameterNodeWrapper" in [ast.unparse(decorator) for decorator in node.decorator_list]
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def bound_parameters() -> dict[str, str]:
    """The parameter each widget shows and changes by itself."""
    return {
        name: parameter
        for name, widget in ui_widgets().items()
        if (parameter := ui_property(widget, "SlicerParameterName")) is not None
    }


def test_every_parameter_that_the_form_names_is_a_field_of_the_parameter_node():
    bound = bound_parameters()
    assert bound
    assert set(bound.values()) <= parameter_fields()


def test_no_two_widgets_of_the_form_show_the_same_parameter():
    parameters = list(bound_parameters().values())
    assert sorted(parameters) == sorted(set(parameters))


def test_no_two_widgets_of_the_form_have_one_name():
    names = [widget.get("name") for widget in ElementTree.parse(UI_FILE).iter("widget")]
    assert sorted(names) == sorted(set(names))


def test_every_widget_that_the_code_uses_is_in_the_form():
    used = widgets_used_in_code()
    assert used
    assert used - set(ui_widgets()) == set()


def test_every_control_of_the_form_is_used():
    assert set(interactive_widgets()) - widgets_used_in_code() - set(bound_parameters()) == set()


def test_every_control_of_the_form_says_what_it_is_for():
    said = {name for name, widget in ui_widgets().items() if ui_property(widget, "toolTip")}
    assert set(interactive_widgets()) - said - widgets_with_a_tooltip_from_code() == set()


# Icons


@pytest.mark.parametrize(
    "icon",
    [ROOT / "Resources" / "ScaleEquivSeg.png", RESOURCES / "Icons" / "ScaleEquivSeg.png"],
    ids=lambda p: p.parent.name,
)
def test_the_icon_is_a_png_of_128_pixels(icon):
    header = icon.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">2I", header[16:24]) == (128, 128)


# Start-up


def test_slicer_can_load_the_module_file_before_anything_is_installed():
    imported = {
        name.partition(".")[0]
        for node in syntax_of(MODULE / "ScaleEquivSeg.py").body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - IN_SLICER - {"ScaleEquivSegLib"} - set(sys.stdlib_module_names) == set()


def test_loading_the_module_file_runs_nothing_but_imports_and_definitions():
    docstring, *statements = syntax_of(MODULE / "ScaleEquivSeg.py").body
    assert isinstance(docstring, ast.Expr)
    assert [ast.unparse(s) for s in statements if not isinstance(s, ast.Import | ast.ImportFrom | ast.ClassDef)] == []


# Requirements


def requirements() -> dict[str, Requirement]:
    lines = (RESOURCES / "requirements.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {requirement.name: requirement for requirement in parsed}


def test_what_slicer_installs_is_bounded_and_not_pinned():
    assert requirements()
    for requirement in requirements().values():
        operators = {bound.operator for bound in requirement.specifier}
        assert operators & {">=", ">", "~=", "<", "<="}, f"{requirement} has no bound"
        assert not operators & {"==", "==="}, f"{requirement} is pinned"


def test_torch_is_left_to_the_pytorch_extension():
    assert "torch" not in requirements()


def test_slicer_installs_what_pip_would():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_pip = {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}
    assert {name: str(of_pip.get(name)) for name in requirements()} == {
        name: str(requirement) for name, requirement in requirements().items()
    }
    assert set(of_pip) - set(requirements()) == {"numpy", "SimpleITK", "torch"}


# Licences


@pytest.mark.parametrize("card", sorted(RESOURCES.glob("Models/*/card.json")), ids=lambda path: path.parent.name)
def test_the_licence_of_a_bundled_model_and_its_data_are_named_where_pip_and_readers_look(card):
    told = json.loads(card.read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert told["licence"] in project["license"].split(" AND ")
    assert "NOTICE.txt" in project["license-files"]
    notice = " ".join((ROOT / "NOTICE.txt").read_text(encoding="utf-8").split())
    assert f"{told['task'].removesuffix('-4ch')}-* {told['licence']}" in notice
    cited = told["training_data"]["citation"]
    assert cited.startswith("none;") or all(work in notice for work in cited.split("; "))


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy: setuptools leaves its folders where it builds, and takes old ones into the wheel."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, and building without it would download it")
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(MODULE, copy / MODULE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    wheels = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    built = subprocess.run([*command, str(copy)], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = wheels.glob("scaleequivseg-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_contains_the_whole_library(wheel):
    in_wheel = {name for name in wheel.namelist() if name.endswith(".py")}
    assert in_wheel == set(module_files("*.py", LIBRARY))


def test_the_wheel_contains_the_bundled_models_where_the_library_looks(wheel):
    models = RESOURCES / "Models"
    bundled = {
        f"ScaleEquivSegLib/models/{path.relative_to(models).as_posix()}"
        for name in ("card.json", "weights.safetensors")
        for path in models.glob(f"*/{name}")
    }
    assert len(bundled) == 2 * len([entry for entry in cmake_list("MODULE_PYTHON_RESOURCES") if "card.json" in entry])
    assert {*bundled, "ScaleEquivSegLib/models/card.schema.json"} <= set(wheel.namelist())


def test_pip_and_the_library_tell_the_same_version(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    version = email.message_from_bytes(wheel.read(metadata))["Version"]
    assert f'__version__ = "{version}"' in (LIBRARY / "__init__.py").read_text(encoding="utf-8").splitlines()
