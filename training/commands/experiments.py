"""`experiment` and `figures`: networks compared over seeds, and what their records show."""

from __future__ import annotations

import argparse
from pathlib import Path

from ScaleEquivSegLib.errors import BadRequest

from .console import Commands, list_of_names, list_of_numbers, silence_lightning


def add_experiments(commands: Commands) -> None:
    """The options of both."""
    _add_experiment(commands)
    _add_figures(commands)


def _add_experiment(commands: Commands) -> None:
    parser = commands.add_parser("experiment", help="do what is left of the runs of an experiment")
    parser.add_argument("name", help="one of training/experiments, or the path of a .yaml file like those")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the labelled cases")
    parser.add_argument("--out", type=Path, metavar="RECORDS", help="the folder of records (default: training/records)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="checkpoints and bundles (default: runs)"
    )
    parser.add_argument("--only", type=list_of_names, default=(), metavar="A,B", help="only these variants")
    parser.add_argument(
        "--sizes", type=list_of_numbers, default=(), metavar="N,M", help="only so many training cases; 0: all"
    )
    parser.add_argument("--seeds", type=list_of_numbers, default=(), metavar="N,M", help="only these seeds")
    parser.add_argument("--list", action="store_true", help="show what is done and what is left, and run nothing")
    parser.set_defaults(command=_experiment)


def _add_figures(commands: Commands) -> None:
    figures = commands.add_parser("figures", help="draw the figures and tables of experiments from their records")
    figures.add_argument("records", type=Path, help="a folder of records")
    figures.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write them")
    figures.add_argument(
        "--reference",
        default="",
        metavar="VARIANT",
        help="compare the others with this variant instead of the one that the experiment names",
    )
    figures.set_defaults(command=_figures)


def _experiment(options: argparse.Namespace) -> None:
    if not (options.data or options.list):
        raise BadRequest("an experiment needs the cases it trains on: --data FOLDER, or --list to look only")
    from ..conduct import Places, carry_out, overview
    from ..experiment import find_experiment, read_experiment, runs_of
    from ..records import RECORDS

    silence_lightning()
    experiment = read_experiment(find_experiment(options.name))
    runs = runs_of(experiment, options.only, options.sizes, options.seeds)
    records = options.out or RECORDS
    if options.list:
        print(*overview(runs, records, options.runs), sep="\n")
        return
    failed = carry_out(runs, Places(options.data, records, options.runs), lambda line: print(line, flush=True))
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} runs failed; the reasons are in {options.runs / 'failed'}")


def _figures(options: argparse.Namespace) -> None:
    from ..figures import draw_all

    print(*draw_all(options.records, options.out, options.reference), sep="\n")
