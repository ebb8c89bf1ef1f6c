"""What the rounds of a competition that troubleshoots one version show together: three readings, failures, what was
forgotten.

Readings: (a) the labelled set's own test split, on which nothing may be forgotten; (b) a round's selection, labelled
before anything was trained on it, where its target should do better than the one before; (c) the control arm, random
images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from competition import charts
from competition.kinds.troubleshooting import targets
from competition.models import Competition, Round, Snapshot

FORGOTTEN_WITHIN = 0.01  # a test reading this much below the one before still counts as kept
MEASURE_TITLES = {"srcc": "SRCC", "plcc": "PLCC", "accuracy": "Accuracy"}
Reading = dict[str, Any]


def loop_read(competition: Competition) -> list[dict[str, Any]]:
    """A line per round, first to last: its target, its readings, its failures, and what training changed."""
    rounds = list(competition.rounds.select_related("learn_run", "edition", "campaign").order_by("number"))
    names = {entrant.round_id: entrant for entrant in targets(competition)}
    newest = _newest(competition)
    return [_line(round_, names.get(round_.pk), newest.get(round_.pk)) for round_ in rounds]


def _newest(competition: Competition) -> dict[int, Snapshot]:
    shots = Snapshot.objects.filter(competition=competition, counts_everyone=False).order_by("number")
    return {shot.round_id: shot for shot in shots}


def _line(round_: Round, target: Any, snapshot: Snapshot | None) -> dict[str, Any]:
    matrices: Mapping[str, Any] = snapshot.matrices if snapshot else {}
    return {
        "round": round_,
        "target": target,
        "snapshot": snapshot,
        "test": round_.facts.get("test"),
        "learnt": learnt(round_),
        "failures": matrices.get("failures"),
        "as_attacker": matrices.get("as_attacker"),
        "as_defender": matrices.get("as_defender"),
        "fresh": matrices.get("fresh") or None,
        "control": matrices.get("control") or None,
    }


def learnt(round_: Round) -> dict[str, Any] | None:
    """What fine-tuning did to the target on the test split: "before", "after", "change", each by measure, and the run;
    None until it has ended."""
    run = round_.learn_run
    if run is None or run.finished_at is None:
        return None
    told: dict[str, Any] = next(iter(run.report.get("networks", [])), {})
    found = told.get("cells", {}).get("test base", {})
    return {"run": run, **{name: found.get(name) for name in ("before", "after", "change")}}


def measures_of(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measures that the readings have, main one first."""
    test: dict[str, Any] = next((line["test"] for line in lines if line["test"]), {})
    return [name for name in MEASURE_TITLES if name in test]


def readings_plots(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A plot per measure: each reading over the rounds with its intervals; empty before there is one."""
    plots = []
    for measure in measures_of(lines):
        series: list[dict[str, Any]] = [
            {"name": "Test split", "points": _points(lines, measure, "test", "")},
            {"name": "Fresh selection, this round's target", "points": _points(lines, measure, "fresh", "new")},
            {"name": "Fresh selection, the target before", "points": _points(lines, measure, "fresh", "old")},
            {"name": "Control arm", "points": _points(lines, measure, "control", "new")},
        ]
        _add_learnt(series[0]["points"], lines, measure)
        plot = charts.rounds_plot([each for each in series if each["points"]])
        if plot is not None:
            plots.append({"measure": MEASURE_TITLES[measure], **plot})
    return plots


def _points(lines: Sequence[Mapping[str, Any]], measure: str, name: str, which: str) -> list[dict[str, Any]]:
    points = []
    for line in lines:
        reading = line[name]
        found = (reading or {}).get(which) if which else reading
        if found and found.get(measure, {}).get("value") is not None:
            points.append({"round": line["round"].number, **found[measure]})
    return points


def _add_learnt(points: list[dict[str, Any]], lines: Sequence[Mapping[str, Any]], measure: str) -> None:
    """The newest target's test reading, as its training reported it, where its round has not begun yet."""
    last = lines[-1]
    if last["learnt"] and last["learnt"]["after"] and measure in last["learnt"]["after"]:
        points.append({"round": last["round"].number + 1, **last["learnt"]["after"][measure]})


def failure_plot(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The failure rate over the rounds with its intervals."""
    points = [
        {"round": line["round"].number, "value": share["rate"], "low": share["low"], "high": share["high"]}
        for line in lines
        if (share := line["failures"]) and share["n"]
    ]
    return charts.rounds_plot([{"name": "Failure rate", "points": points}]) if points else None


def forgetting(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per learning round and measure: the test reading before and after, the difference, and whether it was kept."""
    found = []
    for line in lines:
        said = line["learnt"] or {}
        for measure in measures_of(lines) if said.get("change") else ():
            before, after, change = (said[name].get(measure, {}) for name in ("before", "after", "change"))
            if change.get("value") is not None:
                is_kept = change["value"] >= -FORGOTTEN_WITHIN
                found.append({"round": line["round"], "measure": MEASURE_TITLES[measure], "before": before,
                              "after": after, "change": change, "is_kept": is_kept})  # fmt: skip
    return found
