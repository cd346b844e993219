"""Figures and tables of experiments, from their records alone: the same records make the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ScaleEquivSegLib.networks import BUILDERS
from ScaleEquivSegLib.whole_files import in_one_piece, write_csv, write_text

from .records import Record, read_records
from .tables import Estimate, Group, csv_table, estimate, groups, markdown

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by the colour-blind, too (Okabe and Ito)."""
DASHES = ("-", "--", ":", "-.")
MARKERS = "os^Dvph"

Styles = Mapping[str, Mapping[str, Any]]


def draw_all(records: Path, out: Path) -> list[Path]:
    """Tables and figures of every experiment below a folder; returns the files."""
    found = read_records(records)
    if not found:
        raise ValueError(f"{records} holds no records")
    written: list[Path] = []
    for name in dict.fromkeys(record.experiment for record in found):
        written += _draw_experiment([record for record in found if record.experiment == name], out / name)
    return written


def _draw_experiment(records: Sequence[Record], stem: Path) -> list[Path]:
    write_csv(csv_table(records), table := stem.with_name(f"{stem.name}.csv"))
    write_text(markdown(records), text := stem.with_name(f"{stem.name}.md"))
    written, styles, of_size = [table, text], styles_of(records), groups(records)
    if len(records[0].test["scales"]) > 1:
        for group in of_size:
            picture = stem.with_name(f"{stem.name}_n{group.size or 'all'}.png")
            _draw_scales(group, styles, picture)
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
        colour, dash = list(BUILDERS).index(network), siblings.index(variant)
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
    _draw(curves, styles, title, "size of the test cases (1: as they are)", [f"{scale:g}" for scale in scales], path)


def _draw_sizes(of_size: Sequence[Group], styles: Styles, path: Path) -> None:
    curves = {}
    for variant in sorted({variant for group in of_size for variant in group.variants}):
        points = [group.variants[variant] for group in of_size if variant in group.variants]
        sizes = [float(records[0].training_cases) for records in points]
        curves[variant] = (sizes, [estimate(records, "dice.mean", records[0].main_scale) for records in points])
    ticks = [str(group.records[0].training_cases) for group in of_size]
    first = of_size[0].records[0]
    _draw(curves, styles, f"{first.experiment}: test at ×{first.main_scale:g}", "training cases", ticks, path)


def _draw(
    curves: Mapping[str, tuple[Sequence[float], Sequence[Estimate]]],
    styles: Styles,
    title: str,
    below: str,
    ticks: Sequence[str],
    path: Path,
) -> None:
    """Mean Dice with a band of a standard deviation over seeds to either side, where there are several."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.8))
    for variant, (places, estimates) in curves.items():
        means = [each.mean for each in estimates]
        axes.plot(places, means, label=variant, markersize=4, linewidth=1.6, **styles[variant])
        spread = [each.deviation or 0.0 for each in estimates]
        lower, upper = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(places, lower, upper, color=styles[variant]["color"], alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks([float(tick) for tick in ticks], ticks)
    axes.minorticks_off()
    axes.set(title=title, xlabel=below, ylabel="mean Dice (band: ± standard deviation over seeds)")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=3.5, fontsize=9)
    figure.tight_layout()
    with in_one_piece(path) as unfinished:
        figure.savefig(unfinished, dpi=120, metadata={"Software": None})
    plt.close(figure)
