"""What the documents tell one to type can be typed, and what they point to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ScaleEquivSegLib.cli import build_parser
from training.__main__ import parse
from training.config import load_config
from training.experiment import find_experiment, read_experiment, runs_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    *(
        ROOT / name
        for name in ("README.md", "Testing/README.md", "ScaleEquivSeg/API.md", "ScaleEquivSeg/DEVELOPERS.md")
    ),
    *sorted((ROOT / "training").glob("*.md")),
)
PARSE = {"ScaleEquivSegLib": build_parser().parse_args, "training": parse}


def commands(document: Path) -> list[str]:
    """The lines of the blocks of code, those continued with a backslash as one."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


PYTHON = [
    pytest.param(words, id=" ".join(words[:3]))
    for document in DOCUMENTS
    for command in commands(document)
    if (called := re.search(r"(?:python|torchrun)\b.* -m (?:-- )?(\w+) (.*)", command))
    for words in [[called[1], *shlex.split(called[2], comments=True)]]
]


def test_the_documents_have_commands_of_both_programs() -> None:
    assert {param.values[0][0] for param in PYTHON} == set(PARSE)  # type: ignore[index]
    assert len(PYTHON) > 30


@pytest.mark.parametrize("words", PYTHON)
def test_a_command_in_the_documents_has_the_options_that_it_is_given(words: list[str]) -> None:
    program, *arguments = words
    options = PARSE[program](arguments)
    if arguments[0] == "fit" and arguments[1] != "CONFIG":
        load_config(ROOT / options.config, options.overrides)
    if arguments[0] == "experiment":
        assert runs_of(read_experiment(find_experiment(options.name)), options.only)


def test_settings_may_stand_before_and_behind_options_but_an_unknown_option_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = parse(["fit", "a.yaml", "fit.seed=1", "--bundle", "b", "fit.steps=2"])
    assert options.overrides == ["fit.seed=1", "fit.steps=2"]
    for wrong in (["fit", "a.yaml", "--bundle", "b", "--step"], ["download", "task", "folder", "fit.steps=2"]):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert f"unrecognized arguments: {wrong[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [line for each in DOCUMENTS for line in commands(each) if line.startswith("make ")])
def test_what_is_to_be_made_is_in_the_makefile(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_is_there(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", document.read_text(encoding="utf-8")):
        target, _, section = next(filter(None, link)).partition("#")
        if "://" in target:
            continue
        path = document.parent / target if target else document
        assert path.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
