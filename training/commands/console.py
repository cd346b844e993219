"""What the commands share: kinds of arguments, what is printed, and how a command is written down."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TypeAlias, TypeVar

from ScaleEquivSegLib.cli.console import write_json

T = TypeVar("T")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where a command adds its parser."""


def add_json(parser: argparse.ArgumentParser) -> None:
    """The options of a command that prints figures."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def list_of_names(text: str) -> tuple[str, ...]:
    """A kind of argument: A,B,C."""
    return tuple(dict.fromkeys(text.split(",")))


def list_of_numbers(text: str) -> tuple[int, ...]:
    """A kind of argument: 1,2,3."""
    return tuple(dict.fromkeys(numbers(text, int, "1,2,3")))


def numbers(text: str, kind: Callable[[str], T], form: str) -> list[T]:
    """What stands between commas."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}") from error


def silence_lightning() -> None:
    """Its hints of what else could be set or installed hide what a run has to say."""
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def this_command() -> str:
    """The command that is running, as one would type it; of places outside this folder the names alone, for where
    they are on a machine is nobody else's business."""
    return shlex.join(["python", "-m", "training", *map(_without_place, sys.argv[1:])])


def _without_place(argument: str) -> str:
    """An argument, such as `FILE`, `--data=FILE` or `data.folder=FILE`."""
    what, place = re.fullmatch(r"((?:--)?[\w.-]+=)?(.*)", argument, re.DOTALL).groups(default="")  # type: ignore[union-attr]
    path = PurePath(place)
    return f"{what}{path.name}" if path.is_absolute() or ".." in path.parts else argument


def print_figures(figures: Mapping[str, float], json_file: Path | None = None) -> None:
    """Write the flat figures; print a table, in which keys that differ in what follows an @ alone share a row."""
    if json_file:
        write_json(figures, json_file)
    rows: dict[str, dict[str, float]] = {}
    for key, value in figures.items():
        name, _, scale = key.partition("@")
        rows.setdefault(name, {})[scale] = value
    width = max(len(name) for name in rows)
    heading: tuple[str, ...] = ("",)
    for name, row in rows.items():
        if tuple(row) != heading:
            heading = tuple(row)
            print(f"{'':{width}s}", *(f"{'x' + scale if scale else '':>8s}" for scale in heading))
        print(f"{name:{width}s}", *(_as_text(name, value) for value in row.values()))


def _as_text(name: str, value: float) -> str:
    return f"{value:8.1e}" if "delta" in name or "turned" in name else f"{value:8.4f}"
