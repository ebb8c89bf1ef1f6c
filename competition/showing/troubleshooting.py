"""How competitions that troubleshoot one version are shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db.models import F, Q, QuerySet

from competition import charts, loop, reading
from competition.forms import AttackGalleryForm, PairGalleryForm
from competition.kinds.self_gmad import SELF_GMAD, rated_of
from competition.kinds.self_mad import SELF_MAD
from competition.kinds.troubleshooting import SelfOptions, edition_of, targets
from competition.models import Competition, Entrant, Exhibit, ExhibitRole, Round, RoundState, Snapshot
from competition.showing.base import RELATED, Show
from competition.showing.gmad import GmadShow, sides
from competition.showing.mad import MadShow
from labeling.psychometrics.logistic import Logistic
from models_zoo.models import Purpose, Scores, ScoresState
from models_zoo.reading import oriented

SHOWN = 12  # failures on the dashboard
STEPS = {
    RoundState.PREPARING: "The target is pruned into variants, ensembles of them are formed",
    RoundState.SCORING: "Target and variants score the corpus; ensembles are mixed",
    RoundState.SELECTING: "Where target and ensembles differ most is found",
    RoundState.LABELLING: "People judge each image once",
    RoundState.SETTLING: "Judgements say where the target fails",
    RoundState.LEARNING: "Target and variants are fine-tuned on old and new labels",
}


class SelfShow(Show):
    """What both kinds share."""

    steps = STEPS
    entrants_help = "The one version to troubleshoot: a registered architecture with weights."
    nothing = (
        "There was nothing to ask: target and ensembles agree everywhere that is not labelled yet. Another corpus, or "
        "stronger pruning, may find more."
    )
    helps = {
        "control_size": "Random images beside the selected ones; never trained on",
        "overlap": "Each image's mean score rests on so many answers; fewer than 5 leave wide intervals",
        "seed": "Of pruning, ensembles, control images and intervals",
        "duplicate_distance": "Perceptual-hash bits below which two images count as one; labelled ones are left out",
    }
    counted = "Images"
    own_parts = frozenset[str]()

    def template(self, part: str) -> str:
        if part == "dashboard":
            return "competition/troubleshooting/dashboard.html"
        folder = "troubleshooting" if part in self.own_parts else self.kind.name.removeprefix("self_")
        return f"competition/{folder}/{part}.html"

    def _options(self, competition: Competition) -> Any:
        return self.kind.options(competition)

    def size(self, competition: Competition) -> str:
        return f"{self._options(competition).ensembles} ensembles"

    def entrant_cost(self, competition: Competition) -> str:
        return "It is about one version; its rounds make the competitors"

    def settings(self, competition: Competition) -> list[tuple[str, Any]]:
        from accounts.option_fields import shown_options

        options: SelfOptions = self._options(competition)
        lines = shown_options(self.kind.Options, competition.options)
        return [("Labelled set", str(edition_of(options) or "gone")), *lines[1:]]

    def dashboard(self, competition: Competition, snapshot: Snapshot | None, round_: Round | None) -> dict[str, Any]:
        lines = loop.loop_read(competition)
        failures = list(self.failures(competition, lines))
        return {
            "loop": lines,
            "plots": loop.readings_plots(lines),
            "failure_plot": loop.failure_plot(lines),
            "forgetting": loop.forgetting(lines),
            "measures": [(name, loop.MEASURE_TITLES[name]) for name in loop.measures_of(lines)],
            "by_ensemble": snapshot.matrices.get("by_ensemble", []) if snapshot else [],
            "failure_tiles": self.tiles(competition, failures),
            "failure_template": self.template("tiles"),
            "short": reading.duels_short(round_),
        }

    def failures(self, competition: Competition, lines: Sequence[dict[str, Any]]) -> QuerySet[Exhibit]:
        """The clearest failures that were found, newest round with some first."""
        found = Exhibit.objects.filter(round__competition=competition, role=ExhibitRole.SELECTED)
        newest = found.filter(self.case_filter("failure")).order_by("-round__number").values("round")[:1]
        return self._strongest(found.filter(self.case_filter("failure"), round__in=newest).select_related(*RELATED))[
            :SHOWN
        ]

    def _strongest(self, exhibits: QuerySet[Exhibit]) -> QuerySet[Exhibit]:
        return exhibits.order_by("rank", "pk")


class SelfGmadShow(SelfShow, GmadShow):
    kind = SELF_GMAD  # type: ignore[assignment]  # a show of gMAD is taken for what it draws alone
    about = (
        "Troubleshoot one image-quality model: pruned copies of it find the images on which it fails, people rate "
        "them, and the model learns from what they say."
    )
    labels = {"control_size": "Control images", "overlap": "People per image"}
    exploring = ""
    cases = {
        "failure": "People contradict the target",
        "held": "No clear contradiction",
        "open": "Not decided yet",
        "dropped": "Dropped: people could not rate an image",
    }
    GalleryForm = AttackGalleryForm
    gallery_field = "attacker"
    own_parts = frozenset({"tiles", "exhibit"})

    def selects(self, competition: Competition) -> str:
        options = self._options(competition)
        return (
            f"The target is pruned into {options.variants} variants, of which {options.ensembles} random ensembles are "
            f"formed. Target and ensembles attack each other in {options.levels} levels; at most {options.budget} "
            "images are shown, each once."
        )

    def _strongest(self, exhibits: QuerySet[Exhibit]) -> QuerySet[Exhibit]:
        return exhibits.order_by(F("preference").asc(nulls_last=True), "pk")

    def exhibits(self, competition: Competition, filters: dict[str, Any]) -> QuerySet[Exhibit]:
        return super().exhibits(competition, filters).select_related("second_trial__verdict")

    def tiles(self, competition: Competition, exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
        said = before_and_after(competition, exhibits)
        return [{**self._shown(each), "targets": said[each.pk]} for each in exhibits]

    def exhibit(self, competition: Competition, exhibit: Exhibit) -> dict[str, Any]:
        return {**self._shown(exhibit), "targets": before_and_after(competition, [exhibit])[exhibit.pk]}

    def _shown(self, exhibit: Exhibit) -> dict[str, Any]:
        case = self.case(exhibit)
        protocol = self._options(exhibit.round.competition).protocol
        is_pair = exhibit.second_item_id is not None
        return {
            "exhibit": exhibit,
            "case": case,
            "outcome": self.cases[case] if is_pair else "Random image",
            "sides": sides(exhibit),
            "rated": [_opinion(trial, protocol) for trial in (exhibit.trial, exhibit.second_trial)][: 1 + is_pair],
            "bar": charts.preference(exhibit.preference, exhibit.preference_low, exhibit.preference_high, 0.0)
            if exhibit.preference is not None
            else None,
        }

    def case(self, exhibit: Exhibit) -> str:
        if exhibit.dropped:
            return "dropped"
        if exhibit.preference is None or exhibit.duel is None:
            return "open"
        low, high = exhibit.preference_low, exhibit.preference_high
        if low is None or high is None:
            return "held"
        attacks = exhibit.duel.first.version.purpose == Purpose.USE
        return "failure" if high < 0 or (not attacks and low > 0) else "held"

    def case_filter(self, case: str) -> Q:
        below, above = Q(preference_high__lt=0), Q(preference_low__gt=0)
        failure = Q(duel__first__version__purpose=Purpose.USE) & below
        failure |= Q(duel__second__version__purpose=Purpose.USE) & (below | above)
        filters = {
            "failure": failure & Q(dropped=False),
            "held": ~failure & Q(dropped=False, preference__isnull=False),
            "open": Q(dropped=False, preference__isnull=True),
            "dropped": Q(dropped=True),
        }
        return filters[case]


def _opinion(trial: Any, protocol: str) -> dict[str, Any] | None:
    """The mean opinion score of one image on 0 … 100, where it has one."""
    verdict = getattr(trial, "verdict", None)
    if verdict is None or "mean" not in verdict.value:
        return None
    found = rated_of(verdict.value, protocol)
    return {"mean": found.mean, "std": found.std, "n": found.n}


def before_and_after(competition: Competition, exhibits: Sequence[Exhibit]) -> dict[int, list[dict[str, Any]]]:
    """By exhibit: what the target of its round and each later one say of its images, on 0 … 100.

    A later target that has not scored the corpus yet says nothing. Reads a few rows of a column each.
    """
    everyone = list(targets(competition))
    rounds = {round_.pk: round_ for round_ in competition.rounds.all()}
    columns = {entrant.pk: _column(entrant, rounds.get(entrant.round_id or 0), competition) for entrant in everyone}
    found = {}
    for exhibit in exhibits:
        rows = [item.row for item in (exhibit.item, exhibit.second_item) if item is not None]
        found[exhibit.pk] = [
            {"entrant": entrant, "is_new": entrant.round_id != exhibit.round_id, "scores": columns[entrant.pk](rows)}
            for entrant in everyone
            if entrant.round_id in rounds
            and rounds[entrant.round_id].number >= exhibit.round.number
            and columns[entrant.pk] is not None
        ]
    return found


def _column(entrant: Entrant, round_: Round | None, competition: Competition) -> Any:
    """A function from rows to calibrated scores; None where there are none."""
    facts = round_.facts.get("calibration", {}).get(str(entrant.version_id)) if round_ else None
    scores = Scores.objects.filter(version=entrant.version_id, corpus=competition.corpus_id, state=ScoresState.COMPLETE)
    known = scores.select_related("version__model", "corpus").first()
    if facts is None or known is None:
        return None
    scale, column = Logistic(converged=True, message="", **facts), oriented(known)

    def read(rows: Sequence[int]) -> list[float | None]:
        values = scale.apply(np.asarray([column[row] for row in rows], dtype=np.float64))
        return [None if value != value else float(value) for value in values]

    return read


class SelfMadShow(SelfShow, MadShow):
    kind = SELF_MAD  # type: ignore[assignment]  # as above, of MAD
    exploring = ""
    about = (
        "Troubleshoot one classifier: pruned copies of it find the images on which it is wrong, people say who is "
        "right, and the model learns from it."
    )
    helps = {**MadShow.helps, **SelfShow.helps, "k": "Images per ensemble, within the images per round"}
    cases = {
        "failure": "The target is wrong",
        "held": "The target is right",
        "open": "Not decided yet",
        "dropped": "Dropped: people could not tell",
    }
    GalleryForm = PairGalleryForm

    def selects(self, competition: Competition) -> str:
        options = self._options(competition)
        return (
            f"The target is pruned into {options.variants} variants, of which {options.ensembles} random ensembles are "
            f"formed; the images on which target and ensemble disagree most are selected, at most {options.budget}."
        )

    def settings(self, competition: Competition) -> list[tuple[str, Any]]:
        return [*MadShow.settings(self, competition), *SelfShow.settings(self, competition)]

    def case(self, exhibit: Exhibit) -> str:
        if exhibit.dropped:
            return "dropped"
        if exhibit.right_first is None:
            return "open"
        return "held" if exhibit.right_first else "failure"

    def case_filter(self, case: str) -> Q:
        filters = {
            "failure": Q(right_first=False, dropped=False),
            "held": Q(right_first=True, dropped=False),
            "open": Q(right_first=None, dropped=False),
            "dropped": Q(dropped=True),
        }
        return filters[case]


SELF_GMAD_SHOW = SelfGmadShow()
SELF_MAD_SHOW = SelfMadShow()
