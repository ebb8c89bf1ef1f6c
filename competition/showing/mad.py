"""How MAD competitions are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Q, QuerySet

from competition import charts, exploring, reading
from competition.forms import ExploreFilterForm, PairGalleryForm
from competition.kinds.mad import MAD
from competition.kinds.mad.selecting import answers_at
from competition.models import Competition, Duel, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.showing.base import RELATED, Show
from corpora.models import Corpus
from models_zoo.models import Version
from models_zoo.reading import class_names


class MadShow(Show):
    kind = MAD
    about = "Classifiers: people judge the few images on which two of them disagree most, and say who is right."
    steps = {
        RoundState.SCORING: "Every entrant runs over the corpus",
        RoundState.SELECTING: "The largest disagreements are found",
        RoundState.LABELLING: "People say who is right",
        RoundState.SETTLING: "Verdicts become standings",
    }
    labels = {
        "k": "Images per pair (k)",
        "reserve": "Reserve per pair",
        "threshold": "Confidence threshold",
        "per_class_cap": "Cap per predicted class",
        "control_size": "Control images",
    }
    helps = {
        "k": "On which the two disagree most; 30 is usual, rankings are stable from about 15",
        "reserve": "Take the place of images that people cannot label",
        "overlap": "5 is usual; an odd number ties less",
        "seed": "Of the control images, the order of questions and the intervals",
    }
    entrants_help = "Two or more versions that share a label space. More can be added after the launch."
    exploring = "The images on which two classifiers differ most, by class, confidence and distance."
    nothing = (
        "There was nothing to ask: no two entrants disagree confidently on any image. A lower confidence threshold or "
        "a larger corpus may find disagreements; the table of duels below says what was found."
    )
    cases = {
        "i": "Case I: both right",
        "ii": "Case II: exactly one right",
        "iii": "Case III: both wrong",
        "open": "Not decided yet",
        "dropped": "Dropped: people could not tell",
    }
    GalleryForm = PairGalleryForm
    gallery_field = "first"
    counted = "Images"

    def size(self, competition: Competition) -> str:
        return f"k = {competition.k}"

    def entrant_cost(self, competition: Competition) -> str:
        return f"It costs {competition.k} exhibits per earlier entrant"

    def selects(self, competition: Competition) -> str:
        return (
            f"For every pair, the {competition.k} images on which they disagree most are selected, with "
            f"{competition.reserve} in reserve."
        )

    def settings(self, competition: Competition) -> list[tuple[str, Any]]:
        space = competition.taxonomy
        lines: list[tuple[str, Any]] = [
            ("Images per pair (k)", f"{competition.k} and {competition.reserve} in reserve"),
            ("Confidence threshold", competition.threshold),
            ("Cap per predicted class", competition.per_class_cap),
        ]
        if space is None:
            return lines
        far = ", every two at distance 1" if space.kind == "flat" else ""
        return [("Label space", f"{space}, {space.n_classes:,} classes{far}"), *lines]

    def dashboard(self, competition: Competition, snapshot: Snapshot | None, round_: Round | None) -> dict[str, Any]:
        names = snapshot.matrices["names"] if snapshot else []
        return {
            "matrix": duel_matrix(snapshot),
            "cases": duel_cases(snapshot),
            "k_plot": charts.k_curve_plot(snapshot.k_curve) if snapshot else None,
            "rank_plot": charts.rank_plot(snapshot.k_curve, names) if snapshot else None,
            "short": reading.duels_short(round_),
            "names": names,
        }

    def exhibits(self, competition: Competition, filters: dict[str, Any]) -> QuerySet[Exhibit]:
        role = filters.get("role") or ExhibitRole.SELECTED
        exhibits = Exhibit.objects.filter(round__competition=competition, role=role)
        for entrant in (filters.get("first"), filters.get("second")):
            if entrant is not None:
                exhibits = exhibits.filter(Q(duel__first=entrant) | Q(duel__second=entrant))
        if filters.get("case"):
            exhibits = exhibits.filter(self.case_filter(filters["case"]))
        if filters.get("round"):
            exhibits = exhibits.filter(round__number=filters["round"])
        order = ("round__number", "duel__first__number", "duel__second__number", "rank", "pk")
        return exhibits.select_related(*RELATED).order_by(*order)

    def tiles(self, competition: Competition, exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
        names = class_names(competition.taxonomy)
        return [{"exhibit": each, "said": _said(each, names), "case": self.case(each)} for each in exhibits]

    def exhibit(self, competition: Competition, exhibit: Exhibit) -> dict[str, Any]:
        names, space = class_names(competition.taxonomy), competition.taxonomy
        said = _said(exhibit, names)
        for line in said:
            line["class"] = space.classes[line["label"]] if space else {}
        return {
            "said": said,
            "case": self.cases[self.case(exhibit)],
            "answers": answers_at(competition, exhibit.item.row),
            "names": names,
        }

    def explored(self, said: Mapping[str, Any], corpus: Corpus, pair: Sequence[Version]) -> dict[str, Any] | None:
        found = exploring.exploration_read(corpus=corpus, versions=pair)
        if found is None:
            return None
        space = exploring.label_space(pair)
        levels = [(level, f"{found.distances[level]:.6g}") for level in found.levels_present()]
        filters = ExploreFilterForm(said, taxonomy=space, levels=levels)
        wanted = filters.cleaned_data if filters.is_valid() else {}
        return {
            "found": found,
            "filters": filters,
            "rows": found.filtered(label=wanted.get("label"), level=wanted.get("level"), least=wanted.get("least")),
            "tiles": lambda rows: exploring.tiles(corpus, found, rows, class_names(space), pair),
        }

    def case(self, exhibit: Exhibit) -> str:
        if exhibit.dropped:
            return "dropped"
        right = [exhibit.right_first, exhibit.right_second]
        if None in right:
            return "open"
        return "i" if all(right) else "ii" if any(right) else "iii"

    def case_filter(self, case: str) -> Q:
        filters = {
            "i": Q(right_first=True, right_second=True),
            "ii": Q(right_first=True, right_second=False) | Q(right_first=False, right_second=True),
            "iii": Q(right_first=False, right_second=False),
            "open": Q(dropped=False) & (Q(right_first=None) | Q(right_second=None)),
            "dropped": Q(dropped=True),
        }
        return filters[case]


def _said(exhibit: Exhibit, names: Sequence[str]) -> list[dict[str, Any]]:
    """What each side of an exhibit said, and what people made of it: a line per class asked about."""
    verdict = getattr(exhibit.trial, "verdict", None) if exhibit.trial_id else None
    duel: Duel | None = exhibit.duel
    sides = [
        (exhibit.class_first, exhibit.confidence_first, duel.first if duel else None),
        (exhibit.class_second, exhibit.confidence_second, duel.second if duel else None),
    ]
    return [
        {
            "entrant": entrant,
            "label": label,
            "class_name": names[label],
            "confidence": confidence,
            "right": verdict.value.get(str(label)) if verdict else None,
            "counts": verdict.counts.get(str(label)) if verdict else None,
        }
        for label, confidence, entrant in sides
        if label is not None
    ]


def duel_matrix(snapshot: Snapshot | None) -> dict[str, Any] | None:
    """The m×m table of a_ij: share of the pair's images on which the row's model is right; rows best first."""
    if snapshot is None or not snapshot.matrices["images"]:
        return None
    matrices = snapshot.matrices
    order = reading.order_of(snapshot, "mad")
    names, entrants = matrices["names"], matrices["entrants"]
    rows = [{"name": names[i], "entrant": entrants[i], "cells": [_cell(matrices, i, j) for j in order]} for i in order]
    return {"columns": [names[j] for j in order], "rows": rows}


def _cell(matrices: dict[str, Any], i: int, j: int) -> dict[str, Any] | None:
    share = matrices["accuracy"][i][j]
    if i == j or share is None:
        return None
    return {
        "share": share,
        "alpha": round(0.05 + 0.5 * share, 3),
        "correct": matrices["correct"][i][j],
        "images": matrices["images"][i][j],
        "first": matrices["entrants"][i],
        "second": matrices["entrants"][j],
        "names": (matrices["names"][i], matrices["names"][j]),
    }


def duel_cases(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """Case I/II/III counts of each duel, with shares in percent for the bars."""
    if snapshot is None:
        return []
    names, entrants = snapshot.matrices["names"], snapshot.matrices["entrants"]
    return [
        {
            **case,
            "names": (names[case["first"]], names[case["second"]]),
            "entrants": (entrants[case["first"]], entrants[case["second"]]),
            "bars": _bars(case),
        }
        for case in snapshot.matrices["cases"]
    ]


def _bars(case: dict[str, int]) -> list[dict[str, Any]]:
    parts, start = [], 0.0
    for name in ("both_right", "only_first", "only_second", "both_wrong"):
        width = 100.0 * case[name] / case["images"]
        parts.append({"name": name, "x": round(start, 2), "width": round(width, 2), "count": case[name]})
        start += width
    return parts


MAD_SHOW = MadShow()
