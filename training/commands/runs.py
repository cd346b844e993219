"""`fit`, `export`, `predict` and `download`: from data to bundles, and to results for many cases."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from ScaleEquivSegLib.cli.console import positive

from .console import Commands, print_figures, silence_lightning, this_command


def add_runs(commands: Commands) -> None:
    """The options of all of them."""
    _add_fit(commands)
    _add_export(commands)
    _add_predict(commands)
    _add_download(commands)


def _add_fit(commands: Commands) -> None:
    fit = commands.add_parser("fit", help="train a network and export it as a bundle")
    fit.add_argument("config", type=Path, help="a YAML file, see training/configs")
    fit.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="change a setting, e.g. fit.steps=10")
    fit.add_argument("--bundle", type=Path, required=True, help="the folder to export to")
    fit.add_argument("--run", type=Path, help="checkpoints and logs; the same folder resumes (default: runs/CONFIG)")
    fit.add_argument("--overwrite", action="store_true", help="replace a bundle that another run has made")
    fit.set_defaults(command=_fit)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="make a bundle of a run's last checkpoint")
    export.add_argument("--run", type=Path, required=True, help="the folder of a run, finished or not")
    export.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="where the data are now, e.g. data.folder=FOLDER"
    )
    export.add_argument("--bundle", type=Path, required=True, help="the folder to export to")
    export.add_argument("--overwrite", action="store_true", help="replace a bundle that another run has made")
    export.set_defaults(command=_export)


def _add_predict(commands: Commands) -> None:
    """As `segment --cases`, whose names the options have inside."""
    parser = commands.add_parser("predict", help="segment many cases with several processes")
    parser.add_argument("--bundle", required=True, help="a bundle's folder, or the name of a bundled model")
    parser.add_argument(
        "--data", dest="cases", type=Path, required=True, help="a folder of images or a CSV, as for segment --cases"
    )
    parser.add_argument("--out", dest="output", type=Path, required=True, help="the folder of the results")
    parser.add_argument(
        "--devices", type=positive(int), default=0, help="processes on each machine (default: one per GPU)"
    )
    parser.add_argument("--nodes", type=positive(int), default=1, help="machines (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of all cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write bundle, hash, seconds and counts here")
    parser.set_defaults(command=_predict)


def _add_download(commands: Commands) -> None:
    download = commands.add_parser("download", help="fetch a task of the Medical Segmentation Decathlon")
    download.add_argument("task", metavar="TASK", help="such as Task04_Hippocampus")
    download.add_argument("folder", type=Path, metavar="FOLDER", help="the task becomes a folder in it")
    download.set_defaults(command=_download)


def _fit(options: argparse.Namespace) -> None:
    # Lightning and MONAI take seconds to import: --help answers without them.
    from ..config import load_config
    from ..fit import fit

    silence_lightning()
    started = time.monotonic()
    config = load_config(options.config, options.overrides)
    command = this_command()
    run = options.run or Path("runs") / options.config.stem
    _tell(fit(config, command, run, options.bundle, options.overwrite), options.bundle, started)


def _export(options: argparse.Namespace) -> None:
    from ..fit import export_run

    silence_lightning()
    started = time.monotonic()
    _tell(export_run(options.run, options.bundle, options.overwrite, options.overrides), options.bundle, started)


def _predict(options: argparse.Namespace) -> None:
    from ..config import ComputeConfig
    from ..predict import predict

    silence_lightning()
    predict(options, ComputeConfig(devices=options.devices, nodes=options.nodes))


def _tell(metrics: Mapping[str, float], bundle: Path, started: float) -> None:
    """Say, once for all processes, what came of a run."""
    from lightning.pytorch.utilities import rank_zero_only

    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    shown = "no case was held out to validate on"
    for name, value in [*metrics.items()][:1]:
        rank_zero_only(print_figures)(metrics)
        shown = f"validation {name} {value:.4f}"
    rank_zero_only(print)(f"{bundle}: {shown}, after {minutes} min {seconds} s")


def _download(options: argparse.Namespace) -> None:
    from ..download import download

    print(f"fetched: {download(options.task, options.folder)}")
