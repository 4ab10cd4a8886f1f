"""The paper's own numbers beside our rows: a row of experiments.yaml names its counterpart there,
`paper: [table, row]`."""

import pandas as pd

from dabook.analysis import means
from dabook.analysis.statistics import MEAN, Estimate, Results
from dabook.runs.experiments import tree
from dalib import paths


def paper(experiment: str) -> dict[str, float]:
    """The paper's mean AbsRel over its six test sets, geometric as ours (`dabook.analysis.means`),
    row by row; empty for a question it did not ask."""
    published = pd.read_csv(paths.published_tables(), dtype={"table": str})
    published = published[(published.metric == "abs_rel") & (published.dataset != MEAN)]
    sets = {key: part.to_numpy() for key, part in published.groupby(["table", "row"])["value"]}
    return {
        row: float(means.over_domains(sets[key], "abs_rel"))
        for row, key in counterparts(experiment).items()
        if key in sets
    }


def counterparts(experiment: str) -> dict[str, tuple[str, str]]:
    """Row -> (table, row) of the paper, for the rows that have a counterpart there."""
    rows = tree()["experiments"][experiment]["rows"]
    return {row: (str(v["paper"][0]), v["paper"][1]) for row, v in rows.items() if "paper" in v}


def paper_change(results: Results, row: str) -> float:
    """The paper's change from the row that this one is compared with, in percent of that row."""
    theirs = paper(results.experiment)
    other = results.against.get(row)
    if not {row, other} <= theirs.keys():
        return Estimate().mean
    return 100 * (theirs[row] / theirs[other] - 1)
