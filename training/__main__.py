"""`python -m training`: fit a network and export its bundle, measure bundles and networks."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="train a network and export it as a bundle")
    fit.add_argument("config", type=Path, help="a YAML file, see training/configs")
    fit.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="change a setting, e.g. fit.steps=10")
    fit.add_argument("--bundle", type=Path, required=True, help="the folder to export to")
    fit.add_argument("--run", type=Path, help="checkpoints and logs; the same folder resumes (default: runs/CONFIG)")
    fit.set_defaults(command=_fit)

    evaluate = commands.add_parser("evaluate", help="measure a bundle on a folder of labelled cases")
    evaluate.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    evaluate.add_argument("--data", type=Path, required=True, help="holds images/, labels/ and cases.csv")
    evaluate.add_argument("--split", help="only the cases of this split")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    evaluate.set_defaults(command=_evaluate)

    equivariance = commands.add_parser("equivariance", help="how far layers and networks follow a change of scale")
    equivariance.add_argument("--bundle", type=Path, help="instead of untrained networks: this bundle on an image")
    equivariance.add_argument("--image", type=Path, help="the image for --bundle")
    equivariance.add_argument("--figure", type=Path, metavar="PNG", help="draw the errors of untrained networks")
    equivariance.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    equivariance.set_defaults(command=_equivariance)

    options = parser.parse_args()
    if (options.command is _equivariance) and (options.bundle is None) != (options.image is None):
        parser.error("--bundle and --image go together")
    options.command(options)


def _fit(options: argparse.Namespace) -> None:
    # Lightning and MONAI take seconds to import: --help answers without them.
    from .config import load_config
    from .fit import fit

    config = load_config(options.config, options.overrides)
    command = shlex.join(["python", "-m", "training", *sys.argv[1:]])
    run = options.run or Path("runs") / options.config.stem
    _print_figures(fit(config, command, run, options.bundle))


def _evaluate(options: argparse.Namespace) -> None:
    from .evaluate import evaluate

    figures = evaluate(options.bundle, options.data, options.split)
    _print_figures(figures, options.json)


def _equivariance(options: argparse.Namespace) -> None:
    from .equivariance import draw, report_bundle, report_untrained

    figures = report_bundle(options.bundle, options.image) if options.bundle else report_untrained()
    _print_figures(figures, options.json)
    if options.figure:
        draw(options.figure)


def _print_figures(figures: Mapping[str, float], json_file: Path | None = None) -> None:
    width = max(len(name) for name in figures)
    for name, value in figures.items():
        print(f"{name:{width}s}  {value:.1e}" if "delta" in name else f"{name:{width}s}  {value:.4f}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
