"""The house rules of the sources: imports go one way, torch loads late, nothing is pickled, no file names a machine.
Each rule is a function from sources to complaints, so that a test can feed it a source that breaks it."""

from __future__ import annotations

import ast
import graphlib
import io
import os
import pickle
import pickletools
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "ScaleEquivSeg"
MODULE_FILE = "ScaleEquivSeg"
LIBRARY = "ScaleEquivSegLib"


@dataclass(frozen=True)
class Room:
    """Modules or packages of the library at one height, and the packages they may import at file scope."""

    members: tuple[str, ...]
    packages: frozenset[str] = frozenset()


COMPUTING = frozenset({"numpy", "torch", "safetensors"})
READING = frozenset({"numpy", "SimpleITK"})
SCENE = frozenset({"numpy", "slicer", "vtk"})
WIDGETS = SCENE | {"qt", "ctk"}

# From the ground up: a room imports from those before it in this table, and from itself.
ROOMS = (
    Room((LIBRARY,)),
    Room(("errors", "progress")),
    Room(("requirements",)),
    Room(("whole_files", "folder_lock")),
    Room(("names", "headers", "dicom", "reading"), READING),
    Room(("layers",), COMPUTING),
    Room(("networks",), COMPUTING),
    Room(
        (
            "card",
            "weights_file",
            "bundles",
            "volume",
            "labelmap",
            "roi",
            "shades",
            "phantom",
            "scaling",
            "cases",
            "inputs",
            "pieces",
            "provenance",
        ),
        READING,
    ),
    Room(("devices", "inference"), COMPUTING),
    Room(("segmentation",), COMPUTING | READING),
    Room(("comparison", "cohort"), READING),
    Room(("label_files",)),
    Room(("scale_sweep",), COMPUTING),
    Room(("classification",), COMPUTING | READING),
    Room(("request",)),
    Room(("answers",)),
    Room(("worker", "cli", "__main__"), READING),
    Room(("mrml",), SCENE),
    Room(("panel",), WIDGETS),
    Room(("scripting",), SCENE),
    Room((MODULE_FILE,), WIDGETS),
)
HEIGHT = {member: height for height, room in enumerate(ROOMS) for member in room.members}

HEAVY = frozenset({"torch", "safetensors"})
"""Not there when Slicer starts; any function may import them, but no file scope outside the computing rooms."""
MAY_LOAD_TORCH = frozenset(
    {"layers", "networks", "devices", "inference", "segmentation", "scale_sweep", "classification"}
)
OF_OTHER_EXTENSIONS = frozenset({"PyTorchUtils", "SampleData"})
"""Modules of Slicer or its extensions that a function of the panel or the module file may import."""

Sources = Mapping[str, str]
"""The text of each module by its dotted name."""


@dataclass(frozen=True)
class Import:
    """One imported module, and whether importing the importer already runs it."""

    target: str
    line: int
    at_file_scope: bool


def project_sources() -> dict[str, str]:
    """The module file and the library."""
    sources = {MODULE_FILE: (MODULE / f"{MODULE_FILE}.py").read_text(encoding="utf-8")}
    for path in sorted((MODULE / LIBRARY).rglob("*.py")):
        parts = path.relative_to(MODULE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


# Reading imports


def imports_of(module: str, sources: Sources) -> list[Import]:
    """Everything a module imports, by absolute names; `from package import module` counts as the module."""
    return [
        Import(target, node.lineno, at_file_scope)
        for node, at_file_scope in _imports_in(sources[module])
        for target in _targets(node, module, sources)
    ]


@cache
def _imports_in(text: str) -> list[tuple[ast.AST, bool]]:
    return list(_import_statements(ast.parse(text), True))


def _import_statements(node: ast.AST, at_file_scope: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom) or _is_import_call(child):
            yield child, at_file_scope
        runs_later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        yield from _import_statements(child, at_file_scope and not runs_later and not for_types)


def _is_import_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("__import__", "import_module", "importlib.import_module")
        and isinstance(node.args[0], ast.Constant)
    )


def _targets(node: ast.AST, module: str, sources: Sources) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, sources)
        return sorted({name if (name := f"{base}.{alias.name}") in sources else base for alias in node.names})
    assert isinstance(node, ast.Call)
    return [ast.literal_eval(node.args[0])]


def _absolute(node: ast.ImportFrom, module: str, sources: Sources) -> str:
    if not node.level:
        return node.module or ""
    is_package = any(name.startswith(f"{module}.") for name in sources)
    parts = module.split(".")
    package = parts[: len(parts) - node.level + is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def room_of(module: str) -> str:
    """The member of the table that a module of the project belongs to."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or package


def is_ours(target: str) -> bool:
    """Whether a name lies in the module file or the library."""
    return target.partition(".")[0] in (MODULE_FILE, LIBRARY)


# Rules


def homeless_modules(sources: Sources) -> list[str]:
    """Modules that stand in no room of the table."""
    return [f"{module} stands in no room" for module in sources if room_of(module) not in HEIGHT]


def upward_imports(sources: Sources) -> list[str]:
    """Imports of a higher room, in a function or not, and imports of a module that doesn't exist."""
    complaints = []
    for module in sources:
        for found in filter(lambda found: is_ours(found.target), imports_of(module, sources)):
            if found.target not in sources:
                complaints.append(f"{module}:{found.line} imports {found.target}, which does not exist")
            elif HEIGHT[room_of(found.target)] > HEIGHT[room_of(module)]:
                complaints.append(f"{module}:{found.line} imports {found.target} from a higher room")
    return complaints


def import_cycles(sources: Sources) -> list[str]:
    """One ring of modules that import each other, at file scope or in functions."""
    graph = {
        module: {found.target for found in imports_of(module, sources) if is_ours(found.target)} for module in sources
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def foreign_imports(sources: Sources) -> list[str]:
    """Imports of packages that a room may not use."""
    complaints = []
    for module in sources:
        allowed = ROOMS[HEIGHT[room_of(module)]].packages
        later = allowed | HEAVY | (OF_OTHER_EXTENSIONS if "qt" in allowed else frozenset())
        for found in imports_of(module, sources):
            package = found.target.partition(".")[0]
            if is_ours(package) or package in sys.stdlib_module_names:
                continue
            if package not in (allowed if found.at_file_scope else later):
                where = "at file scope" if found.at_file_scope else "in a function"
                complaints.append(f"{module}:{found.line} imports {package} {where}")
    return complaints


def heavy_when_imported(sources: Sources) -> list[str]:
    """Modules outside the computing rooms whose import alone loads torch or safetensors, and by which way."""
    complaints = []
    for module in sources:
        if room_of(module) in MAY_LOAD_TORCH:
            continue
        for way in _ways_from(module, sources):
            if way[-1] in HEAVY:
                complaints.append(" imports ".join(way))
    return complaints


SENTENCE = re.compile(r"\w \w.*[.…]$", re.DOTALL)


def untranslated_sentences(sources: Sources) -> list[str]:
    """Sentences in the rooms that speak to the user of Slicer that do not go through `tr`."""
    complaints = []
    for module in filter(lambda module: room_of(module) in ("mrml", "panel"), sources):
        for node in _strings_as_they_are(ast.parse(sources[module])):
            if SENTENCE.search(ast.unparse(node).strip("f'\"")):
                complaints.append(f"{module}:{node.lineno} says something that is not translated")
    return complaints


def _strings_as_they_are(node: ast.AST) -> Iterator[ast.expr]:
    """Strings that are neither documentation nor given to `_`; of an f-string the whole."""
    for child in ast.iter_child_nodes(node):
        is_documentation = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        is_translated = isinstance(child, ast.Call) and ast.unparse(child.func) == "_"
        if isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Constant) and isinstance(child.value, str)):
            yield child
        elif not is_documentation and not is_translated:
            yield from _strings_as_they_are(child)


def _ways_from(module: str, sources: Sources) -> list[tuple[str, ...]]:
    """Every module that importing `module` imports, each with the chain of imports that leads there."""
    ways, seen = [(module,)], {module}
    for way in ways:  # grows as it is walked
        for target in _imported_at_once(way[-1], sources):
            if target not in seen:
                seen.add(target)
                ways.append((*way, target))
    return ways


def _imported_at_once(module: str, sources: Sources) -> Iterator[str]:
    yield from _packages_of(module)  # they run before it
    for found in imports_of(module, sources) if module in sources else ():
        if found.at_file_scope:
            yield from _packages_of(found.target)
            yield found.target


def _packages_of(module: str) -> list[str]:
    """`a.b.c` lies in `a` and in `a.b`."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def is_pickle(data: bytes) -> bool:
    """Whether loading these bytes could run code: a pickle, or a zip archive with one inside, as torch.save writes."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    try:
        *_, (_, _, end) = pickletools.genops(data)
    except ValueError:
        return False
    # Text can begin like an old pickle; it doesn't end like one. Newer pickles say what they are.
    return data[:1] == b"\x80" or end == len(data) - 1


MACHINE_PATH = re.compile(
    r"(?<![\w.}~:/-])/(?:home|root|Users|work|workspace|tmp|mnt|media|scratch|data)/\w|\b[A-Za-z]:\\{1,2}Users\b"
)


def machine_paths(name: str, text: str) -> list[str]:
    """Lines that name a place on somebody's machine."""
    return [
        f"{name}:{number} {found.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in MACHINE_PATH.finditer(line)
    ]


def project_files() -> list[Path]:
    """What the repository holds or would hold after `git add .`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    paths = [ROOT / name for name in listing.stdout.decode("utf-8").split("\0") if name]
    return [path for path in paths if path.is_file()]


def loads_torch(module: str) -> bool:
    """Whether a fresh Python has torch after importing a module."""
    command = f"import sys, {module}; sys.exit(3 if 'torch' in sys.modules else 0)"
    environment = {**os.environ, "PYTHONPATH": str(MODULE)}
    code = subprocess.run([sys.executable, "-c", command], env=environment, check=False).returncode
    assert code in (0, 3), f"{module} could not be imported"
    return code == 3


# The project keeps the rules


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return project_sources()


def test_every_module_stands_in_a_room(sources):
    assert homeless_modules(sources) == []


def test_every_room_of_the_table_has_a_module(sources):
    assert set(HEIGHT) == {room_of(module) for module in sources}


def test_no_room_imports_from_a_higher_one(sources):
    assert upward_imports(sources) == []


def test_no_modules_import_each_other_in_a_ring(sources):
    assert import_cycles(sources) == []


def test_each_room_imports_only_the_packages_it_may(sources):
    assert foreign_imports(sources) == []


def test_only_the_computing_rooms_load_torch_when_they_are_imported(sources):
    assert heavy_when_imported(sources) == []


@pytest.mark.parametrize(
    "room", ["errors", "volume", "bundles", "phantom", "comparison", "labelmap", "cohort", "worker", "cli"]
)
def test_a_fresh_python_imports_the_room_without_torch(room):
    assert not loads_torch(f"{LIBRARY}.{room}")


def test_every_sentence_that_the_panel_says_can_be_translated(sources):
    assert untranslated_sentences(sources) == []


def test_no_file_of_the_project_is_a_pickle():
    assert [str(path) for path in project_files() if is_pickle(path.read_bytes())] == []


def test_no_text_of_the_project_names_a_place_on_a_machine():
    complaints = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and weights
        complaints += machine_paths(str(path.relative_to(ROOT)), text)
    assert complaints == []


# Each rule refuses what breaks it


def with_line(sources: Sources, module: str, line: str) -> dict[str, str]:
    """The project with one more line in a module, or with one more module."""
    return {**sources, module: sources.get(module, "") + f"\n{line}\n"}


def assert_one(complaints: Sequence[str], *parts: str) -> None:
    assert len([text for text in complaints if all(part in text for part in parts)]) == 1, complaints


def test_a_module_without_a_room_is_refused(sources):
    broken = with_line(sources, f"{LIBRARY}.utils", "")
    assert homeless_modules(broken) == [f"{LIBRARY}.utils stands in no room"]


@pytest.mark.parametrize(
    ("module", "line", "target"),
    [
        ("layers.basis", "from ..networks import build_network", "networks"),
        ("volume", "from . import mrml", "mrml"),
        ("inference", "def later():\n    from .segmentation import segment", "segmentation"),
        ("errors", "import ScaleEquivSegLib.volume as volume", "volume"),
        ("bundles", "def later():\n    import importlib\n    importlib.import_module('ScaleEquivSegLib.cli')", "cli"),
    ],
)
def test_an_import_of_a_higher_room_is_refused(sources, module, line, target):
    broken = with_line(sources, f"{LIBRARY}.{module}", line)
    assert_one(upward_imports(broken), f"{LIBRARY}.{module}:", f"{LIBRARY}.{target} from a higher room")


def test_an_import_of_the_module_file_by_the_panel_is_refused(sources):
    broken = with_line(sources, f"{LIBRARY}.panel.panel", "import ScaleEquivSeg")
    assert_one(upward_imports(broken), "panel.panel:", "imports ScaleEquivSeg from a higher room")


def test_an_import_of_a_module_that_does_not_exist_is_refused(sources):
    broken = with_line(sources, f"{LIBRARY}.cli", "def later():\n    from ..nowhere import thing")
    assert_one(upward_imports(broken), f"{LIBRARY}.nowhere, which does not exist")


def test_a_ring_of_imports_is_refused(sources):
    broken = with_line(sources, f"{LIBRARY}.layers.basis", "def later():\n    from .scale_conv import ScaleConv")
    (ring,) = import_cycles(broken)
    assert f"{LIBRARY}.layers.basis" in ring
    assert f"{LIBRARY}.layers.scale_conv" in ring


@pytest.mark.parametrize(
    ("module", "line", "package"),
    [
        ("volume", "import torch", "torch"),
        ("errors", "try:\n    import numpy\nexcept ImportError:\n    pass", "numpy"),
        ("volume", "class Late:\n    import vtk", "vtk"),
        ("mrml", "import qt", "qt"),
        ("panel.panel", "from safetensors.torch import load_file", "safetensors"),
        ("segmentation", "def later():\n    import slicer.util", "slicer"),
        ("cli", "def later():\n    from training.fit import fit", "training"),
        ("layers.basis", "import scipy.ndimage", "scipy"),
        ("worker", "def later():\n    import PyTorchUtils", "PyTorchUtils"),
        ("networks.unet", "__import__('monai')", "monai"),
    ],
)
def test_an_import_of_a_package_that_the_room_may_not_use_is_refused(sources, module, line, package):
    broken = with_line(sources, f"{LIBRARY}.{module}", line)
    assert_one(foreign_imports(broken), f"{LIBRARY}.{module}:", f"imports {package} ")


def test_a_function_may_import_torch_and_a_type_check_may_too(sources):
    allowed = with_line(sources, f"{LIBRARY}.bundles", "def later():\n    import torch")
    allowed = with_line(
        allowed, f"{LIBRARY}.cli", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"
    )
    assert foreign_imports(allowed) == foreign_imports(sources)
    assert heavy_when_imported(allowed) == heavy_when_imported(sources)


@pytest.mark.parametrize("line", ["raise ValueError('It is bad.')", "say(f'{name} is bad; take {other}.')"])
def test_a_sentence_that_is_not_translated_is_refused(sources, line):
    broken = with_line(sources, f"{LIBRARY}.mrml.labels", line)
    assert_one(untranslated_sentences(broken), f"{LIBRARY}.mrml.labels:", "not translated")


def test_torch_loaded_by_way_of_another_module_is_refused(sources):
    broken = with_line(sources, f"{LIBRARY}.worker", "from .segmentation import segment")
    complaints = heavy_when_imported(broken)
    assert_one(complaints, f"{LIBRARY}.worker imports {LIBRARY}.segmentation imports torch")


def test_torch_loaded_by_the_package_itself_is_refused(sources):
    broken = with_line(sources, LIBRARY, "from .networks import build_network")
    complaints = heavy_when_imported(broken)
    assert_one(complaints, f"{LIBRARY}.cli imports {LIBRARY} imports", "imports torch")


def test_a_fresh_python_that_imports_a_computing_room_is_seen_to_have_torch():
    assert loads_torch(f"{LIBRARY}.segmentation")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_recognised(protocol):
    assert is_pickle(pickle.dumps({"weights": [1.0, 2.0]}, protocol=protocol))


def test_an_archive_with_a_pickle_inside_is_recognised():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("model/data.pkl", b"")
    assert is_pickle(archive.getvalue())


def test_weights_whose_header_is_as_long_as_a_pickle_mark_are_no_pickle():
    assert not is_pickle((0x0280).to_bytes(8, "little") + b"{".ljust(0x0280) + bytes(64))


@pytest.mark.parametrize(
    "path",
    ["/".join(["", "home", "someone", "data"]), "/".join(["", "tmp", "x"]), "\\".join(["C:", "Users", "someone"])],
)
def test_a_place_on_a_machine_is_refused(path):
    assert machine_paths("notes.md", f"first line\nlook in {path}\n") == [
        f"notes.md:2 {MACHINE_PATH.search(path).group()}"
    ]


def test_a_web_address_is_no_place_on_a_machine():
    assert machine_paths("notes.md", "https://example.org/home/page and docs/data/file") == []
