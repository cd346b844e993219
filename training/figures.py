"""Figures and tables of experiments, from their records alone: the same records make the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ScaleEquivSegLib.networks import BUILDERS, CLASSIFIERS
from ScaleEquivSegLib.whole_files import in_one_piece, write_csv, write_text

from .picture_metrics import figure_names
from .picture_tables import picture_csv, picture_markdown
from .records import BadRecords, Record, read_records
from .tables import Estimate, Group, csv_table, estimate, groups, labels_of, markdown

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by the colour-blind, too (Okabe and Ito)."""
DASHES = ("-", "--", ":", "-.")
MARKERS = "os^Dvph"

Styles = Mapping[str, Mapping[str, Any]]


def draw_all(records: Path, out: Path, reference: str = "") -> list[Path]:
    """Tables and figures of every experiment below a folder; returns the files.

    The other variants are compared with the experiment's reference, or with the one named here where there is such.
    """
    found = read_records(records)
    if not found:
        raise BadRecords(f"{records} holds no records of an experiment; see `python -m training experiment --help`")
    if reference:
        found = _compared_with(reference, found)
    written: list[Path] = []
    for name in dict.fromkeys(record.experiment for record in found):
        written += _draw_experiment([record for record in found if record.experiment == name], out / name)
    return written


def _compared_with(reference: str, records: Sequence[Record]) -> list[Record]:
    experiments = {record.experiment for record in records if record.variant == reference}
    if not experiments:
        variants = sorted({record.variant for record in records})
        raise BadRecords(f"no record is of a variant {reference!r}; there are {', '.join(variants)}")
    return [replace(record, reference=reference) if record.experiment in experiments else record for record in records]


def _draw_experiment(records: Sequence[Record], stem: Path) -> list[Path]:
    as_csv, as_text = (picture_csv, picture_markdown) if records[0].is_classification else (csv_table, markdown)
    write_csv(as_csv(records), table := stem.with_name(f"{stem.name}.csv"))
    write_text(as_text(records), text := stem.with_name(f"{stem.name}.md"))
    written, styles, of_size = [table, text], styles_of(records), groups(records)
    if records[0].is_classification or len(records[0].test["scales"]) > 1:
        draw = _draw_answers if records[0].is_classification else _draw_scales
        for group in of_size:
            picture = stem.with_name(f"{stem.name}_n{group.size or 'all'}.png")
            draw(group, styles, picture)
            written.append(picture)
    if len(of_size) > 1:
        picture = stem.with_name(f"{stem.name}_training_cases.png")
        _draw_sizes(of_size, styles, picture)
        written.append(picture)
    return written


def styles_of(records: Sequence[Record]) -> Styles:
    """A colour for each network and a dash for each of its variants; of one network, a colour for each variant."""
    variants = {record.variant: record.network for record in sorted(records, key=lambda record: record.variant)}
    is_alone = len(set(variants.values())) == 1
    styles = {}
    for number, (variant, network) in enumerate(variants.items()):
        siblings = [each for each, of in variants.items() if of == network]
        colour, dash = [*BUILDERS, *CLASSIFIERS].index(network), siblings.index(variant)
        if is_alone:
            colour, dash = number, number // len(COLOURS)
        styles[variant] = {
            "color": COLOURS[colour % len(COLOURS)],
            "marker": MARKERS[colour % len(MARKERS)],
            "linestyle": DASHES[dash % len(DASHES)],
        }
    return styles


def _draw_scales(group: Group, styles: Styles, path: Path) -> None:
    scales = group.records[0].test["scales"]
    curves = {
        variant: (scales, [estimate(records, "dice.mean", scale) for scale in scales])
        for variant, records in group.variants.items()
    }
    title = f"{group.records[0].experiment}: {group.title}"
    ticks = [f"{scale:g}" for scale in scales]
    _draw(curves, styles, title, "mean Dice", "size of the test cases (1: as they are)", ticks, path)


def _draw_sizes(of_size: Sequence[Group], styles: Styles, path: Path) -> None:
    curves = {}
    for variant in sorted({variant for group in of_size for variant in group.variants}):
        points = [group.variants[variant] for group in of_size if variant in group.variants]
        sizes = [float(records[0].training_cases) for records in points]
        means = [estimate(records, records[0].main_metric, records[0].main_scale) for records in points]
        curves[variant] = (sizes, means)
    ticks = [str(group.records[0].training_cases) for group in of_size]
    first = of_size[0].records[0]
    title = f"{first.experiment}: test at ×{first.main_scale:g}"
    what = first.main_metric.replace("dice.mean", "mean Dice")
    _draw(curves, styles, title, what, "training cases", ticks, path)


def _draw_answers(group: Group, styles: Styles, path: Path) -> None:
    """Accuracy and areas side by side: a mark for the mean of each variant, a bar for the deviation over seeds."""
    figure, axes = _axes(f"{group.records[0].experiment}: {group.title}", "", "bar: ± standard deviation over seeds")
    names = figure_names(labels_of(group.records))
    for number, (variant, records) in enumerate(group.variants.items()):
        estimates = [estimate(records, name, records[0].main_scale) for name in names]
        places = [place + 0.12 * (number - (len(group.variants) - 1) / 2) for place in range(len(names))]
        style = {**styles[variant], "linestyle": "none"}
        deviations = [each.deviation or 0.0 for each in estimates]
        axes.errorbar(places, [each.mean for each in estimates], deviations, label=variant, capsize=2, **style)
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    _finish(figure, axes, path)


def _axes(title: str, below: str, beside: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.8))
    axes.set(title=title, xlabel=below, ylabel=beside)
    return figure, axes


def _finish(figure: Any, axes: Any, path: Path) -> None:
    """Legend and frame, and the file."""
    import matplotlib.pyplot as plt

    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=3.5, fontsize=9)
    figure.tight_layout()
    with in_one_piece(path) as unfinished:
        figure.savefig(unfinished, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _draw(
    curves: Mapping[str, tuple[Sequence[float], Sequence[Estimate]]],
    styles: Styles,
    title: str,
    what: str,
    below: str,
    ticks: Sequence[str],
    path: Path,
) -> None:
    """Means with a band of a standard deviation over seeds to either side, where there are several."""
    figure, axes = _axes(title, below, f"{what} (band: ± standard deviation over seeds)")
    for variant, (places, estimates) in curves.items():
        means = [each.mean for each in estimates]
        axes.plot(places, means, label=variant, markersize=4, linewidth=1.6, **styles[variant])
        spread = [each.deviation or 0.0 for each in estimates]
        lower, upper = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(places, lower, upper, color=styles[variant]["color"], alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks([float(tick) for tick in ticks], ticks)
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))
    _finish(figure, axes, path)
