"""How gMAD competitions are shown."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import F, Q, QuerySet
from django.urls import reverse

from accounts.option_fields import shown_options
from competition import attacks, charts, exploring, reading
from competition.forms import AttackFilterForm, AttackGalleryForm
from competition.kinds.gmad import GMAD, GmadOptions, preference_of
from competition.models import Competition, Entrant, Exhibit, ExhibitRole, Round, RoundState, Snapshot, Standing
from competition.showing.base import RELATED, Show
from corpora.models import Corpus
from labeling.models import Judgement, JudgementKind
from models_zoo.models import Scores, ScoresState, Version
from models_zoo.reading import quality_column

HELD_WITHIN = 20.0  # a mean preference this close to 0 is no clear difference: the zone of the slider (gMAD, section 4)
ALSO_SHOWN = 50  # cells that asked for the same pair, on its page
CONTROL_CASES = {
    "falsified": "The first is better",
    "held": "No clear difference",
    "attacker": "The second is better",
    "open": "Not decided yet",
    "dropped": "Dropped: people could not tell",
}


class GmadShow(Show):
    kind = GMAD
    about = (
        "Image-quality models: among images that one model finds equally good, another picks its best and its worst; "
        "people say whether they see the difference."
    )
    steps = {
        RoundState.SCORING: "Every entrant scores the corpus",
        RoundState.SELECTING: "The strongest counterexamples are found",
        RoundState.LABELLING: "People compare two images",
        RoundState.SETTLING: "Preferences become standings",
    }
    labels = {"control_size": "Control pairs"}
    helps = {
        "control_size": "Random pairs within levels, judged beside the selected ones",
        "overlap": "Each pair's mean preference rests on so many answers",
        "seed": "Of the control pairs, the order of questions and the intervals",
        "duplicate_distance": "Perceptual-hash bits below which two images are never paired; empty: off",
    }
    entrants_help = "Two or more image-quality models. More can be added after the launch."
    exploring = "The pairs of images with which each of two quality models would falsify the other, level by level."
    nothing = (
        "There was nothing to ask: no level of any defender holds two images. Wider levels, fewer of them, or a larger "
        "corpus may hold more; the table below says what was found."
    )
    cases = {
        "falsified": "Defender falsified",
        "held": "The defence holds",
        "attacker": "Attacker falsified",
        "open": "Not decided yet",
        "dropped": "Dropped: people could not tell",
    }
    GalleryForm = AttackGalleryForm
    gallery_field = "attacker"
    counted = "Pairs"

    def size(self, competition: Competition) -> str:
        return f"{self._options(competition).levels} levels"

    def entrant_cost(self, competition: Competition) -> str:
        options = self._options(competition)
        pairs = options.levels * options.top
        return f"It costs {2 * pairs} pairs per earlier entrant: {pairs} as attacker and as many as defender"

    def selects(self, competition: Competition) -> str:
        options = self._options(competition)
        pairs = "pair" if options.top == 1 else f"{options.top} pairs"
        return (
            f"Scores are brought to one scale, and each model's is cut into {options.levels} levels; in every level of "
            f"a defender, each other model attacks with the {pairs} of images that it finds farthest apart."
        )

    def settings(self, competition: Competition) -> list[tuple[str, Any]]:
        return shown_options(GmadOptions, competition.options)

    def _options(self, competition: Competition) -> GmadOptions:
        options: GmadOptions = GMAD.options(competition)
        return options

    def dashboard(self, competition: Competition, snapshot: Snapshot | None, round_: Round | None) -> dict[str, Any]:
        entrants = list(competition.entrants.select_related("version__model").order_by("number"))
        scales = calibrations(round_, entrants)
        return {
            "scatter": measures_plot(snapshot),
            "matrices": heat_maps(snapshot),
            "notes": snapshot.matrices.get("notes", []) if snapshot else [],
            "levels": levels_table(round_, entrants),
            "calibrations": scales,
            "has_logistic": any(scale["kind"] == "logistic" for scale in scales),
            "short": reading.duels_short(round_),
        }

    def exhibits(self, competition: Competition, filters: dict[str, Any]) -> QuerySet[Exhibit]:
        role = filters.get("role") or ExhibitRole.SELECTED
        wanted = {
            "duel__first": filters.get("attacker"),
            "duel__second": filters.get("defender"),
            "level": filters.get("level"),
            "round__number": filters.get("round"),
        }
        chosen = {name: value for name, value in wanted.items() if value}
        exhibits = Exhibit.objects.filter(round__competition=competition, role=role, **chosen)
        if filters.get("case"):
            exhibits = exhibits.filter(self.case_filter(filters["case"]))
        order = ["round__number", "duel__first__number", "duel__second__number", "level", "rank", "pk"]
        if filters.get("order") == "strongest":
            order = [F("preference").desc(nulls_last=True), *order]  # type: ignore[list-item]
        return exhibits.select_related(*RELATED).order_by(*order)

    def tiles(self, competition: Competition, exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
        protocol, shared = self._options(competition).protocol, _sharing(exhibits)
        return [
            {
                "exhibit": each,
                "case": self.case(each),
                "outcome": (self.cases if each.duel_id else CONTROL_CASES)[self.case(each)],
                "sides": sides(each),
                "said": people_said(each, protocol),
                "shared": len(shared[each.trial_id]) - 1 if each.trial_id else 0,
            }
            for each in exhibits
        ]

    def exhibit(self, competition: Competition, exhibit: Exhibit) -> dict[str, Any]:
        protocol, also = self._options(competition).protocol, []
        if exhibit.trial_id:
            others = Exhibit.objects.filter(trial=exhibit.trial_id, round=exhibit.round_id).exclude(pk=exhibit.pk)
            related = ("duel__first__version__model", "duel__second__version__model")
            also = list(others.select_related(*related).order_by("pk")[:ALSO_SHOWN])
        case = self.case(exhibit)
        return {
            "case": case,
            "outcome": (self.cases if exhibit.duel_id else CONTROL_CASES)[case],
            "sides": sides(exhibit),
            "said": people_said(exhibit, protocol),
            "answers": answers(exhibit, protocol),
            "scores": scores_of_all(competition, exhibit),
            "also": [{"exhibit": each, "is_turned": each.item_id != exhibit.item_id} for each in also],
            "trial_url": _trial_url(exhibit),
        }

    def explored(self, said: Mapping[str, Any], corpus: Corpus, pair: Sequence[Version]) -> dict[str, Any] | None:
        found = exploring.attacks_read(corpus=corpus, versions=pair)
        if found is None:
            return None
        filters = AttackFilterForm(said, pair=pair, levels=attacks.LEVELS)
        wanted = filters.cleaned_data if filters.is_valid() else {}
        return {
            "found": found,
            "filters": filters,
            "rows": found.filtered(attacker=wanted.get("attacker"), level=wanted.get("level")),
            "tiles": lambda rows: attacks.tiles(corpus, found, rows, pair),
            "half_width": attacks.HALF_WIDTH,
            "per_level": attacks.PER_LEVEL,
        }

    def case(self, exhibit: Exhibit) -> str:
        if exhibit.dropped:
            return "dropped"
        if exhibit.preference is None:
            return "open"
        if abs(exhibit.preference) <= HELD_WITHIN:
            return "held"
        return "falsified" if exhibit.preference > 0 else "attacker"

    def case_filter(self, case: str) -> Q:
        decided = Q(dropped=False, preference__isnull=False)
        filters = {
            "falsified": decided & Q(preference__gt=HELD_WITHIN),
            "held": decided & Q(preference__gte=-HELD_WITHIN, preference__lte=HELD_WITHIN),
            "attacker": decided & Q(preference__lt=-HELD_WITHIN),
            "open": Q(dropped=False, preference__isnull=True),
            "dropped": Q(dropped=True),
        }
        return filters[case]


def _trial_url(exhibit: Exhibit) -> str | None:
    if exhibit.trial is None:
        return None
    return reverse("labeling:trial", args=[exhibit.trial.campaign_id, exhibit.trial.pk])


def _sharing(exhibits: Iterable[Exhibit]) -> defaultdict[int, list[int]]:
    """Exhibits by the trial that they share; one query."""
    trials = {exhibit.trial_id for exhibit in exhibits if exhibit.trial_id}
    found: defaultdict[int, list[int]] = defaultdict(list)
    for trial, pk in Exhibit.objects.filter(trial__in=trials).values_list("trial", "pk"):
        found[trial].append(pk)
    return found


def sides(exhibit: Exhibit) -> list[dict[str, Any]]:
    """What attacker and defender say of the two images; none in the control arm."""
    duel = exhibit.duel
    if duel is None:
        return []
    return [
        {"role": role, "entrant": entrant, "best": best, "worst": worst, "gap": _gap(best, worst)}
        for role, entrant in (("attacker", duel.first), ("defender", duel.second))
        for best, worst in [exhibit.predictions.get(str(entrant.pk), (None, None))]
    ]


def _gap(best: float | None, worst: float | None) -> float | None:
    return None if best is None or worst is None else best - worst


def people_said(exhibit: Exhibit, protocol: str) -> dict[str, Any] | None:
    """The verdict as a preference for ``item``, -100 … 100: mean, its 95 % interval, standard deviation, counts."""
    trial = exhibit.trial
    verdict = getattr(trial, "verdict", None)
    if trial is None or verdict is None or "mean" not in verdict.value:
        return None
    value = verdict.value
    is_turned = exhibit.item_id != trial.item_id
    ends = [None if value[name] is None else preference_of(exhibit, trial.item_id, value[name], protocol)
            for name in ("low", "high")]  # fmt: skip
    low, high = reversed(ends) if is_turned else ends
    mean = preference_of(exhibit, trial.item_id, value["mean"], protocol)
    spread = None if value["std"] is None else abs(preference_of(exhibit, trial.item_id, value["std"], protocol))
    names = ("second", "neither", "first") if is_turned else ("first", "neither", "second")
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "spread": spread,
        "n": value["n"],
        "counts": [verdict.counts.get(name) for name in names],
        "bar": charts.preference(mean, low, high, HELD_WITHIN),
    }


def answers(exhibit: Exhibit, protocol: str) -> list[dict[str, Any]]:
    """Every answer that counts, as a preference for ``item``, lowest first, with its place on the bar."""
    trial = exhibit.trial
    if trial is None:
        return []
    found = Judgement.objects.counted().filter(trial=trial, kind=JudgementKind.ANSWER).values_list("value", flat=True)
    numbers = sorted(preference_of(exhibit, trial.item_id, value["value"], protocol) for value in found)
    return [{"value": number, "x": charts.preference_at(number)} for number in numbers]


def scores_of_all(competition: Competition, exhibit: Exhibit) -> list[dict[str, Any]]:
    """What every entrant says of the two images: raw scores, and on the common scale where that is known without
    reading the corpus (the two of the duel, control pairs, logistic calibrations)."""
    if exhibit.second_item is None:
        return []
    entrants = competition.entrants.select_related("version__model").order_by("number")
    known = Scores.objects.filter(corpus=competition.corpus_id, state=ScoresState.COMPLETE)
    scores = {each.version_id: each for each in known.select_related("version__model", "corpus").filter(
        version__entrants__competition=competition)}  # fmt: skip
    rows = (exhibit.item.row, exhibit.second_item.row)
    described = exhibit.round.facts.get("entrants", {})
    lines = []
    for entrant in entrants:
        raw = _raw(scores.get(entrant.version_id), rows)
        common = exhibit.predictions.get(str(entrant.pk)) or _calibrated(entrant, raw, described)
        lines.append({"entrant": entrant, "raw": raw, "common": common, "prefers": _prefers(entrant, raw)})
    return lines


def _raw(scores: Scores | None, rows: Sequence[int]) -> list[float | None]:
    if scores is None:
        return [None for _ in rows]
    column = quality_column(scores)
    values = [float(column[row]) for row in rows]
    return [None if value != value else value for value in values]  # NaN: not scored


def _calibrated(entrant: Entrant, raw: Sequence[float | None], described: Mapping[str, Any]) -> list[float] | None:
    """Raw scores on the common scale, from the logistic that the round recorded."""
    from labeling.psychometrics.logistic import Logistic

    facts = described.get(str(entrant.pk), {}).get("calibration", {})
    known = [value for value in raw if value is not None]
    if facts.get("kind") != "logistic" or len(known) < len(raw):
        return None
    sign = 1 if entrant.version.model.higher_is_better else -1
    fitted = Logistic(**{name: facts[name] for name in ("b1", "b2", "b3", "b4", "rmse", "explained", "n")},
                      converged=True, message="")  # fmt: skip
    return [float(value) for value in fitted.apply([sign * each for each in known])]


def _prefers(entrant: Entrant, raw: Sequence[float | None]) -> str:
    """Which of the two images an entrant finds better: "first", "second", "" where it is undecided."""
    best, worst = raw
    if best is None or worst is None or best == worst:
        return ""
    return "first" if (best > worst) == entrant.version.model.higher_is_better else "second"


def measures_plot(snapshot: Snapshot | None) -> dict[str, Any] | None:
    """Aggressiveness against resistance with their intervals."""
    if snapshot is None:
        return None
    found: dict[int, dict[str, Any]] = {}
    for standing in snapshot.standings.select_related("entrant__version__model").order_by("entrant__number"):
        found.setdefault(standing.entrant_id, {"name": str(standing.entrant)})[standing.measure] = standing
    points = [
        {
            "name": each["name"],
            **_ends("x", each["aggressiveness"]),
            **_ends("y", each["resistance"]),
        }
        for each in found.values()
        if {"aggressiveness", "resistance"} <= each.keys()
    ]
    return charts.scatter(points)


def _ends(coordinate: str, standing: Standing) -> dict[str, float]:
    """A point and its interval; a lone person's has none."""
    ends = {"": standing.score, "_low": standing.low, "_high": standing.high}
    return {f"{coordinate}{end}": standing.score if value is None else value for end, value in ends.items()}


def heat_maps(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """Both m×m tables, most aggressive entrants first. A cell leads to the pairs that it rests on."""
    if snapshot is None or not snapshot.standings.exists():
        return []
    order = reading.order_of(snapshot, "aggressiveness")
    return [_heat_map(snapshot.matrices, name, order) for name in ("aggressiveness", "resistance")]


def _heat_map(matrices: Mapping[str, Any], measure: str, order: Sequence[int]) -> dict[str, Any]:
    names = matrices["names"]
    return {
        "measure": measure,
        "columns": [names[j] for j in order],
        "rows": [{"name": names[i], "cells": [_heat_cell(matrices, measure, i, j) for j in order]} for i in order],
        "legend": LEGENDS[measure],
    }


def _heat_cell(matrices: Mapping[str, Any], measure: str, i: int, j: int) -> dict[str, Any] | None:
    value = matrices[measure][i][j]
    if i == j or value is None:
        return None
    attacker, defender = (i, j) if measure == "aggressiveness" else (j, i)
    return {
        **_colour(value),
        "value": value,
        "pairs": matrices["pairs"][attacker][defender],
        "attacker": matrices["entrants"][attacker],
        "defender": matrices["entrants"][defender],
        "names": (matrices["names"][attacker], matrices["names"][defender]),
    }


def _colour(value: float) -> dict[str, Any]:
    """How strong, and of which of the two colours, the field of a value from -100 to 100 is."""
    return {"alpha": round(0.03 + 0.55 * abs(value) / 100, 3), "is_minus": value < 0}


LEGENDS = {
    "aggressiveness": [{"label": str(value), **_colour(value)} for value in (-100, -50, 0, 50, 100)],
    "resistance": [{"label": str(value), **_colour(value)} for value in (0, 25, 50, 75, 100)],
}
"""The fields by which colours are explained."""


def levels_table(round_: Round | None, entrants: Sequence[Entrant]) -> dict[str, Any] | None:
    """Centre and number of images of each level of each defender, and the levels without a pair in words."""
    described = round_.facts.get("entrants", {}) if round_ else {}
    rows: list[dict[str, Any]] = [
        {"entrant": entrant, "cells": _level_cells(described[str(entrant.pk)])}
        for entrant in entrants
        if str(entrant.pk) in described
    ]
    if not rows or round_ is None:
        return None
    return {
        "numbers": range(1, max(len(row["cells"]) for row in rows) + 1),
        "rows": rows,
        "half_width": round_.facts.get("half_width"),
        "empty": [words for row in rows if (words := _empty_words(str(row["entrant"]), row["cells"]))],
    }


def _level_cells(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    most = max(1, *facts["count"])
    names = ("centre", "low", "high", "count")
    lines = zip(*(facts[name] for name in names), strict=True)
    return [{**dict(zip(names, line, strict=True)), "alpha": round(0.03 + 0.45 * line[-1] / most, 3)} for line in lines]


def _empty_words(name: str, cells: Sequence[Mapping[str, Any]]) -> str:
    """Which levels of a defender hold fewer than two images; empty where none does."""
    parts = []
    for count, words in ((0, "no image"), (1, "one image")):
        numbers = [str(number) for number, cell in enumerate(cells, start=1) if cell["count"] == count]
        if numbers:
            parts.append(f"{words} in level{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}")
    return f"{name}: {' and '.join(parts)}" if parts else ""


def calibrations(round_: Round | None, entrants: Sequence[Entrant]) -> list[dict[str, Any]]:
    """How each entrant's scores were brought to the common scale."""
    described = round_.facts.get("entrants", {}) if round_ else {}
    names = ("kind", "n", "rmse", "explained", "b1", "b2", "b3", "b4")
    return [
        {"entrant": entrant, **dict.fromkeys(names), **described[str(entrant.pk)]["calibration"]}
        for entrant in entrants
        if str(entrant.pk) in described
    ]


GMAD_SHOW = GmadShow()
