"""`evaluate`, `robustness`, `equivariance` and `benchmark`: bundles and networks measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ScaleEquivSegLib.cli.console import check_outputs, positive
from ScaleEquivSegLib.errors import BadRequest

from .console import Commands, add_json, list_of_names, numbers, print_figures, this_command

if TYPE_CHECKING:
    from ScaleEquivSegLib.bundles import Bundle


def add_measuring(commands: Commands) -> None:
    """The options of all of them."""
    _add_evaluate(commands)
    _add_robustness(commands)
    _add_equivariance(commands)
    _add_benchmark(commands)


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a bundle on a folder of labelled cases")
    evaluate.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    evaluate.add_argument(
        "--data", type=Path, required=True, help="labelled cases in any layout that training/DATA.md describes"
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
    evaluate.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: what there is)")
    evaluate.add_argument(
        "--cases", type=Path, metavar="CSV", help="also write every case, scale and label, or probability, here"
    )
    add_json(evaluate)
    evaluate.add_argument(
        "--note",
        action="store_true",
        help="also into the card, with time and memory of a run on this machine",
    )
    evaluate.set_defaults(command=_evaluate)


def _add_robustness(commands: Commands) -> None:
    robustness = commands.add_parser("robustness", help="the same cases cut, placed and stored in other ways")
    robustness.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    robustness.add_argument("--data", type=Path, required=True, help="labelled cases, as for evaluate")
    robustness.add_argument("--split", help="only the cases of this split")
    robustness.add_argument("--splits", type=Path, metavar="CSV", help="which case is of which split (case, split)")
    add_json(robustness)
    robustness.set_defaults(command=_robustness)


def _add_equivariance(commands: Commands) -> None:
    equivariance = commands.add_parser("equivariance", help="how far layers and networks follow a change of scale")
    equivariance.add_argument("--network", action="append", metavar="NAME", help="only this untrained network")
    equivariance.add_argument(
        "--image",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="instead of random fields: on this image; of a bundle's channels a file each, in the card's order",
    )
    equivariance.add_argument(
        "--bundle", type=Path, metavar="DIR", help="this bundle on the image, also as it segments"
    )
    equivariance.add_argument("--ablation", action="store_true", help="se_unet with one ingredient changed at a time")
    equivariance.add_argument("--seed", type=int, default=0, help="of weights and fields (default: 0)")
    equivariance.add_argument("--figure", type=Path, metavar="PNG", help="draw the error slice by slice")
    add_json(equivariance)
    equivariance.set_defaults(command=_equivariance)


def _add_benchmark(commands: Commands) -> None:
    benchmark = commands.add_parser("benchmark", help="ratios of time and memory, measured side by side")
    benchmark.add_argument("--cases", type=list_of_names, metavar="A,B", help="only these (default: all)")
    benchmark.add_argument("--repeats", type=positive(int), help="how often each side runs (default: 5)")
    benchmark.add_argument("--device", help="where networks run: cpu, cuda, cuda:1, mps (default: cpu)")
    benchmark.add_argument("--engine", action="store_true", help="instead: memory and time of a very large volume")
    add_json(benchmark)
    benchmark.set_defaults(command=_benchmark)


def _scales(text: str) -> tuple[float, ...]:
    scales = tuple(dict.fromkeys(numbers(text, float, "0.5,1,2")))
    if not all(0 < scale < float("inf") for scale in scales):
        raise argparse.ArgumentTypeError(f"{text} has a scale that is not positive")
    return scales


def _scale_axis(text: str) -> Any:
    from ScaleEquivSegLib.layers.maps import ScaleAxis

    try:
        first, ratio, count = text.split(",")
        return ScaleAxis(float(first), float(ratio), int(count))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1,1.4,5 ({error})") from error


def _values(text: str) -> tuple[int, ...]:
    return tuple(numbers(text, int, "1,4"))


def _evaluate(options: argparse.Namespace) -> None:
    from ScaleEquivSegLib.bundles import read_bundle

    from ..evaluate import evaluate, unfinished
    from ..evaluate_pictures import evaluate_pictures

    names = ("splits", "classes", "background", "absent_is_unlabelled", "native_voxels")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    bundle = read_bundle(options.bundle)
    table = [options.cases, unfinished(options.cases)] if options.cases else []
    _check_outputs(options, *table)
    if options.note:
        _check_notable(options, bundle)
    if bundle.kind == "classification":
        if settings or options.scale_axis or options.scales != (1.0,):
            raise BadRequest(
                "a classification is measured with --split, --device, --cases, --json, --overwrite and --note alone."
            )
        figures = evaluate_pictures(options.bundle, options.data, options.split, options.cases, options.device)
    else:
        figures = evaluate(
            options.bundle,
            options.data,
            options.split,
            options.scales,
            options.scale_axis,
            settings,
            options.cases,
            options.device,
        )
    if options.note:
        from ..export import note_measurements

        note_measurements(options.bundle, figures, this_command())
    print_figures(figures, options.json)


def _check_outputs(options: argparse.Namespace, *others: Path | None) -> None:
    """Refuse, before anything is measured, files that the figures and all else could not be written to."""
    inputs = [getattr(options, name, None) for name in ("data", "splits")] + list(getattr(options, "image", None) or [])
    check_outputs([options.json, *others], options.overwrite, [path for path in inputs if path])


def _check_notable(options: argparse.Namespace, bundle: Bundle) -> None:
    """Refuse figures that would say something else in the card than what its users get."""
    from ..cases import TRAIN
    from ..evaluate import trained_on
    from ..export import name_of

    native = trained_on(bundle).get("native_voxels", False) if options.native_voxels is None else options.native_voxels
    if options.scale_axis or native:
        raise BadRequest(
            "--note is for a bundle as everybody runs it: not with --scale-axis or --native-voxels, and with "
            "--no-native-voxels if it was trained on native voxels"
        )
    if options.split in (None, TRAIN) and _was_trained_on_some(bundle, options.data, options.splits):
        raise BadRequest(
            f"{bundle.name} was trained on cases of {name_of(options.data)}: say which others of them to measure for "
            "the card, such as --split val"
        )


def _was_trained_on_some(bundle: Bundle, data: Path, splits: Path | None) -> bool:
    """Whether the data have cases that a bundle was trained on: of the names in its card, or, if it has none, because
    they have its folder's name, or all cases that the card says were held out and others too."""
    from ..cases import find_cases
    from ..evaluate import trained_names, trained_on
    from ..export import name_of
    from ..picture_samples import PictureTask
    from ..pictures import find_pictures
    from ..splits import Labelled

    cases: Sequence[Labelled]
    if bundle.kind == "classification":
        cases = find_pictures(data, PictureTask.from_card(bundle.card).classes)
    else:
        cases = find_cases(data, bundle.inputs, splits)
    if trained := trained_names(bundle):
        return any(case.name in trained for case in cases)
    units = {case.unit for case in cases}
    held_out = set(trained_on(bundle).get("held_out", ()))
    if held_out and units <= held_out:
        return False
    return trained_on(bundle).get("folder") == name_of(data) or (bool(held_out) and held_out <= units)


def _robustness(options: argparse.Namespace) -> None:
    from ..robustness import robustness

    _check_outputs(options)
    print_figures(robustness(options.bundle, options.data, options.split, options.splits), options.json)


def _equivariance(options: argparse.Namespace) -> None:
    if options.bundle and not options.image:
        raise BadRequest("--bundle needs an --image")
    if options.image and len(options.image) > 1 and not options.bundle:
        raise BadRequest("untrained networks take one --image")
    if options.ablation and (options.bundle or options.image or options.network or options.figure):
        raise BadRequest("--ablation goes with --seed, --json and --overwrite alone")
    _check_outputs(options, options.figure)
    from ..ablation import ablate
    from ..equivariance_report import NETWORKS, draw_bundle, draw_untrained, report_bundle, report_untrained

    image = options.image[0] if options.image else None
    names = options.network or list(NETWORKS)
    if unknown := sorted(set(names) - set(NETWORKS)):
        raise BadRequest(f"unknown network {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    if options.ablation:
        print_figures(ablate(options.seed), options.json)
        return
    if options.bundle:
        print_figures(report_bundle(options.bundle, options.image), options.json)
    else:
        print_figures(report_untrained(names, image, options.seed), options.json)
    if options.figure and options.bundle:
        draw_bundle(options.figure, options.bundle, options.image)
    elif options.figure:
        draw_untrained(options.figure, names, image, options.seed)


def _benchmark(options: argparse.Namespace) -> None:
    if options.engine and (options.cases or options.repeats or options.device):
        raise BadRequest("--engine goes with --json and --overwrite alone")
    _check_outputs(options)
    from ScaleEquivSegLib.devices import pick_device

    from ..benchmarks import CASES, benchmark
    from ..benchmarks.case import Conditions
    from ..benchmarks.volumes import engine

    if options.engine:
        print_figures(engine(), options.json)
        return
    names = options.cases or tuple(CASES)
    if unknown := sorted(set(names) - set(CASES)):
        raise BadRequest(f"unknown case {', '.join(unknown)}; known: {', '.join(CASES)}")
    conditions = Conditions(options.repeats or Conditions.repeats, pick_device(options.device or "cpu"))
    print_figures(benchmark(names, conditions), options.json)
