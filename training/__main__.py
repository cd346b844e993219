"""`python -m training`: fit a network and export its bundle, measure bundles and networks."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ScaleEquivSegLib.cli.console import positive
from ScaleEquivSegLib.errors import BadRequest, SegmentationError


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_runs(commands)
    _add_predict(commands)

    _add_evaluate(commands)
    download = commands.add_parser("download", help="fetch a task of the Medical Segmentation Decathlon")
    download.add_argument("task", metavar="TASK", help="such as Task04_Hippocampus")
    download.add_argument("folder", type=Path, metavar="FOLDER", help="the task becomes a folder in it")
    download.set_defaults(command=_download)

    _add_experiment(commands)

    figures = commands.add_parser("figures", help="draw the figures and tables of experiments from their records")
    figures.add_argument("records", type=Path, help="a folder of records")
    figures.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write them")
    figures.set_defaults(command=_figures)

    equivariance = commands.add_parser("equivariance", help="how far layers and networks follow a change of scale")
    equivariance.add_argument("--network", action="append", metavar="NAME", help="only this untrained network")
    equivariance.add_argument("--image", type=Path, metavar="FILE", help="instead of random fields: on this image")
    equivariance.add_argument(
        "--bundle", type=Path, metavar="DIR", help="this bundle on the image, also as it segments"
    )
    equivariance.add_argument("--ablation", action="store_true", help="se_unet with one ingredient changed at a time")
    equivariance.add_argument("--seed", type=int, default=0, help="of weights and fields (default: 0)")
    equivariance.add_argument("--figure", type=Path, metavar="PNG", help="draw the error slice by slice")
    equivariance.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    equivariance.set_defaults(command=_equivariance)

    benchmark = commands.add_parser("benchmark", help="ratios of time and memory, measured side by side")
    benchmark.add_argument("--cases", type=_names, metavar="A,B", help="only these (default: all)")
    benchmark.add_argument("--repeats", type=positive(int), help="how often each side runs (default: 5)")
    benchmark.add_argument("--device", help="where networks run: cpu, cuda, cuda:1, mps (default: cpu)")
    benchmark.add_argument("--engine", action="store_true", help="instead: memory and time of a very large volume")
    benchmark.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    benchmark.set_defaults(command=_benchmark)

    options = parser.parse_args()
    if options.command is _equivariance:
        if options.bundle and not options.image:
            parser.error("--bundle needs an --image")
        if options.ablation and (options.bundle or options.image or options.network or options.figure):
            parser.error("--ablation goes with --seed and --json alone")
    if options.command is _experiment and not (options.data or options.list):
        parser.error("an experiment needs the cases it trains on: --data FOLDER, or --list to look only")
    if options.command is _evaluate and options.note and (options.scale_axis or options.native_voxels):
        parser.error("--note is for a bundle as its card describes it: not with --scale-axis or --native-voxels")
    if options.command is _benchmark and options.engine and (options.cases or options.repeats or options.device):
        parser.error("--engine goes with --json alone")
    try:
        options.command(options)
    except SegmentationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _add_runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands that make bundles."""
    fit = commands.add_parser("fit", help="train a network and export it as a bundle")
    fit.add_argument("config", type=Path, help="a YAML file, see training/configs")
    fit.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="change a setting, e.g. fit.steps=10")
    fit.add_argument("--bundle", type=Path, required=True, help="the folder to export to")
    fit.add_argument("--run", type=Path, help="checkpoints and logs; the same folder resumes (default: runs/CONFIG)")
    fit.add_argument("--overwrite", action="store_true", help="replace a bundle that another run has made")
    fit.set_defaults(command=_fit)

    export = commands.add_parser("export", help="make a bundle of a run's last checkpoint")
    export.add_argument("--run", type=Path, required=True, help="the folder of a run, finished or not")
    export.add_argument("--bundle", type=Path, required=True, help="the folder to export to")
    export.add_argument("--overwrite", action="store_true", help="replace a bundle that another run has made")
    export.set_defaults(command=_export)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a bundle on a folder of labelled cases")
    evaluate.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    evaluate.add_argument(
        "--data", type=Path, required=True, help="labelled cases in any layout that training/README.md describes"
    )
    evaluate.add_argument("--split", help="only the cases of this split")
    evaluate.add_argument("--splits", type=Path, metavar="CSV", help="which case is of which split (case, split)")
    evaluate.add_argument(
        "--scales", type=_scales, default=(1.0,), help="magnify cases by these factors, e.g. 0.5,1,2 (default: 1)"
    )
    evaluate.add_argument(
        "--scale-axis",
        type=_scale_axis,
        metavar="FIRST,RATIO,COUNT",
        help="run the network on other scales than its card's",
    )
    evaluate.add_argument(
        "--classes", type=_values, nargs="+", metavar="1,4", help="for each label the values in the files that mean it"
    )
    evaluate.add_argument("--background", type=_values, metavar="0,2", help="the values that mean none of the labels")
    evaluate.add_argument(
        "--absent-is-unlabelled",
        action=argparse.BooleanOptionalAction,
        help="leave a label out of the means where a case has none of it",
    )
    evaluate.add_argument(
        "--native-voxels",
        action=argparse.BooleanOptionalAction,
        help="show voxels of any size as if they had the card's spacing",
    )
    evaluate.add_argument(
        "--cases", type=Path, metavar="CSV", help="also write every case, scale and label, or probability, here"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    evaluate.add_argument(
        "--note",
        action="store_true",
        help="also into the card, with time and memory of a run on this machine",
    )
    evaluate.set_defaults(command=_evaluate)

    robustness = commands.add_parser("robustness", help="the same cases cut, placed and stored in other ways")
    robustness.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    robustness.add_argument("--data", type=Path, required=True, help="labelled cases, as for evaluate")
    robustness.add_argument("--split", help="only the cases of this split")
    robustness.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    robustness.set_defaults(command=_robustness)


def _add_experiment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("experiment", help="do what is left of the runs of an experiment")
    parser.add_argument("name", help="one of training/experiments, or the path of a .yaml file like those")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the labelled cases")
    parser.add_argument("--out", type=Path, metavar="RECORDS", help="the folder of records (default: training/records)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="checkpoints and bundles (default: runs)"
    )
    parser.add_argument("--only", type=_names, default=(), metavar="A,B", help="only these variants")
    parser.add_argument("--sizes", type=_numbers, default=(), metavar="N,M", help="only so many training cases; 0: all")
    parser.add_argument("--seeds", type=_numbers, default=(), metavar="N,M", help="only these seeds")
    parser.add_argument("--list", action="store_true", help="show what is done and what is left, and run nothing")
    parser.set_defaults(command=_experiment)


def _scales(text: str) -> tuple[float, ...]:
    scales = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    if not all(0 < scale < float("inf") for scale in scales):
        raise argparse.ArgumentTypeError(f"{text} has a scale that is not positive")
    return scales


def _scale_axis(text: str) -> Any:
    from ScaleEquivSegLib.layers.maps import ScaleAxis

    first, ratio, count = text.split(",")
    return ScaleAxis(float(first), float(ratio), int(count))


def _values(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _fit(options: argparse.Namespace) -> None:
    # Lightning and MONAI take seconds to import: --help answers without them.
    from .config import load_config
    from .fit import fit

    _silence_lightning()
    started = time.monotonic()
    config = load_config(options.config, options.overrides)
    command = _this_command()
    run = options.run or Path("runs") / options.config.stem
    _tell(fit(config, command, run, options.bundle, options.overwrite), options.bundle, started)


def _export(options: argparse.Namespace) -> None:
    from .fit import export_run

    _silence_lightning()
    started = time.monotonic()
    _tell(export_run(options.run, options.bundle, options.overwrite), options.bundle, started)


def _predict(options: argparse.Namespace) -> None:
    from .config import ComputeConfig
    from .predict import predict

    _silence_lightning()
    predict(options, ComputeConfig(devices=options.devices, nodes=options.nodes))


def _tell(metrics: Mapping[str, float], bundle: Path, started: float) -> None:
    """Say, once for all processes, what came of a run."""
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only(_print_figures)(metrics)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    name, value = next(iter(metrics.items()))
    rank_zero_only(print)(f"{bundle}: validation {name} {value:.4f}, after {minutes} min {seconds} s")


def _silence_lightning() -> None:
    """Its hints of what else could be set or installed hide what a run has to say."""
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def _evaluate(options: argparse.Namespace) -> None:
    from ScaleEquivSegLib.bundles import read_bundle

    from .evaluate import evaluate
    from .evaluate_pictures import evaluate_pictures

    names = ("splits", "classes", "background", "absent_is_unlabelled", "native_voxels")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if read_bundle(options.bundle).kind == "classification":
        if settings or options.scale_axis or options.scales != (1.0,):
            raise BadRequest("a classification is measured with --split, --cases, --json and --note alone.")
        figures = evaluate_pictures(options.bundle, options.data, options.split, options.cases)
    else:
        figures = evaluate(
            options.bundle, options.data, options.split, options.scales, options.scale_axis, settings, options.cases
        )
    _print_figures(figures, options.json)
    if options.note:
        from .export import note_measurements

        note_measurements(options.bundle, figures, _this_command())


def _robustness(options: argparse.Namespace) -> None:
    from .robustness import robustness

    _print_figures(robustness(options.bundle, options.data, options.split), options.json)


def _this_command() -> str:
    return shlex.join(["python", "-m", "training", *sys.argv[1:]])


def _experiment(options: argparse.Namespace) -> None:
    from .conduct import Places, carry_out, overview
    from .experiment import find_experiment, read_experiment, runs_of
    from .records import RECORDS

    _silence_lightning()
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
    from .figures import draw_all

    print(*draw_all(options.records, options.out), sep="\n")


def _download(options: argparse.Namespace) -> None:
    from .download import download

    print(f"fetched: {download(options.task, options.folder)}")


def _equivariance(options: argparse.Namespace) -> None:
    from .ablation import ablate
    from .equivariance_report import NETWORKS, draw_bundle, draw_untrained, report_bundle, report_untrained

    names = options.network or list(NETWORKS)
    if unknown := sorted(set(names) - set(NETWORKS)):
        raise SystemExit(f"unknown network {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    if options.ablation:
        _print_figures(ablate(options.seed), options.json)
        return
    if options.bundle:
        _print_figures(report_bundle(options.bundle, options.image), options.json)
    else:
        _print_figures(report_untrained(names, options.image, options.seed), options.json)
    if options.figure and options.bundle:
        draw_bundle(options.figure, options.bundle, options.image)
    elif options.figure:
        draw_untrained(options.figure, names, options.image, options.seed)


def _benchmark(options: argparse.Namespace) -> None:
    from ScaleEquivSegLib.devices import pick_device

    from .benchmarks import CASES, benchmark
    from .benchmarks.case import Conditions
    from .benchmarks.volumes import engine

    if options.engine:
        _print_figures(engine(), options.json)
        return
    names = options.cases or tuple(CASES)
    if unknown := sorted(set(names) - set(CASES)):
        raise SystemExit(f"unknown case {', '.join(unknown)}; known: {', '.join(CASES)}")
    conditions = Conditions(options.repeats or Conditions.repeats, pick_device(options.device or "cpu"))
    _print_figures(benchmark(names, conditions), options.json)


def _print_figures(figures: Mapping[str, float], json_file: Path | None = None) -> None:
    """Print a table, in which keys that differ in what follows an @ alone share a row; write the flat figures."""
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
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _as_text(name: str, value: float) -> str:
    return f"{value:8.1e}" if "delta" in name or "turned" in name else f"{value:8.4f}"


if __name__ == "__main__":
    main()
