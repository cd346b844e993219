"""What the records of an experiment on pictures say together, as tables: accuracy and areas under the ROC curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .picture_metrics import area_under_curve, figure_names, mean_area
from .records import Record
from .tables import (
    INTERVAL,
    Difference,
    Group,
    draws,
    estimate,
    figure_text,
    groups,
    labels_of,
    pairs_by_seed,
    revisions_of,
    table_text,
)


def picture_csv(records: Sequence[Record]) -> Iterator[Sequence[object]]:
    """Everything, a row for each variant, size and figure, its heading first."""
    yield "variant", "training_cases", "figure", "mean", "sd", "parameters", "seeds"
    for group in groups(records):
        for variant, of_variant in group.variants.items():
            first = of_variant[0]
            for name in figure_names(labels_of(records)):
                value = estimate(of_variant, name, first.main_scale)
                figures = figure_text(value.mean), figure_text(value.deviation)
                yield variant, first.training_cases, name, *figures, first.parameters, len(of_variant)


def picture_markdown(records: Sequence[Record]) -> str:
    """The tables to read."""
    first = records[0]
    parts = [
        f"# {first.experiment}",
        f"{len(first.cases)} pictures of the split `{first.test['split']}`. Mean ± standard deviation over seeds; one "
        f"seed has none. AUC: area under the ROC curve, of a class against all others. {revisions_of(records)}",
    ]
    for group in groups(records):
        parts += [f"## {group.title}", _overall(group)]
        if comparison := _against_reference(group):
            parts += [
                f"Mean AUC less that of {first.reference}, the same pictures and seeds side by side, with the "
                f"{INTERVAL.format(cases='pictures')}:",
                comparison,
            ]
    return "\n\n".join(parts) + "\n"


def _overall(group: Group) -> str:
    names = figure_names(labels_of(group.records))
    rows = [
        [
            variant,
            f"{records[0].parameters:,}",
            str(len(records)),
            *(estimate(records, name, records[0].main_scale).text() for name in names),
        ]
        for variant, records in group.variants.items()
    ]
    return table_text(
        ["", "parameters", "seeds", *(name.replace("_", " ").replace("auc.", "AUC ") for name in names)], rows
    )


def _against_reference(group: Group) -> str:
    """Nothing, if no variant can be compared."""
    reference = group.variants.get(group.records[0].reference, [])
    rows = []
    for variant, records in group.variants.items():
        difference = auc_difference(records, reference)
        if difference and variant != group.records[0].reference:
            rows.append([variant, str(difference.seeds), difference.text()])
    return table_text(["", "seeds", "AUC mean"], rows) if rows else ""


def auc_difference(ours: Sequence[Record], others: Sequence[Record]) -> Difference | None:
    """On the same pictures and seeds; None if there is no seed that both have.

    The bootstrap draws with replacement of each class as many pictures as there are, and takes the areas anew for each
    draw.
    """
    pairs = pairs_by_seed(ours, others)
    if not pairs:
        return None
    random = np.random.default_rng(0)
    of_class = [np.flatnonzero(row["true"]) for row in ours[0].rows]
    drawn = np.concatenate([those[draws(len(those), random)] for those in of_class if those.size], axis=1)
    everything = np.arange(len(ours[0].cases))
    # (draw, seed), the pictures as they are first
    each = np.array([[_mean_auc(one, n) - _mean_auc(other, n) for one, other in pairs] for n in (everything, *drawn)])
    return Difference.between(each[0], each[1:].mean(1))


def _mean_auc(record: Record, cases: np.ndarray) -> float:
    areas = [area_under_curve(np.array(row["probability"])[cases], np.array(row["true"])[cases]) for row in record.rows]
    return mean_area(areas)
