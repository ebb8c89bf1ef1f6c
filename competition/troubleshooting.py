"""One button: a version is troubleshot, with settings that suit it.

It makes a competition of the kind for the version's task and launches it; everything else is the competition's own.
"""

import logging
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts.errors import DomainError
from accounts.permissions import require_researcher, require_view
from competition import services
from competition.kinds import KINDS
from competition.models import Competition
from competition.planning import Plan, Preview
from competition.querysets import LIVE_STATES
from corpora.models import Corpus
from models_zoo.models import Task, Version
from training.models import Edition

if TYPE_CHECKING:
    from accounts.models import User

logger = logging.getLogger(__name__)

KIND_OF = {Task.QUALITY: "self_gmad", Task.CLASSIFICATION: "self_mad"}
SECONDS_EACH = {"self_gmad": 6, "self_mad": 8}  # a rating with five adjectives; a question about two classes


def troubleshoot(
    *, version: Version, corpus: Corpus, edition: Edition, by: "User", name: str = "", **settings: Any
) -> Competition:
    """Troubleshoot a version over a corpus: make the competition and launch its first round.

    A second click finds the first one's: while a round of such a competition of this person is under way, it is
    returned and nothing new begins.

    Args:
        edition: the labels that the version was trained on.
        name: by default after the version.
        settings: other fields of ``Competition``; ``options``: those of its kind.

    Raises:
        Denied: for people who are no researchers, or may not see the version, corpus or labelled set.
        DomainError: the first thing that stands in the way, with its field and the remedy.
    """
    require_researcher(by, action="troubleshoot a version")
    require_view(by, version.model)
    require_can(version)
    kind = KIND_OF[Task(version.model.task)]
    with transaction.atomic():
        Version.objects.select_for_update().get(pk=version.pk)  # two clicks come one after the other
        under_way = _under_way(version, corpus, kind, by)
        if under_way is not None:
            return under_way
        options = {**(settings.pop("options", None) or {}), "edition": edition.pk}
        made = services.competition_create(
            name=name.strip() or name_for(version), corpus=corpus, versions=[version], kind=kind, by=by,
            options=options, **settings,
        )  # fmt: skip
        services.competition_launch(competition=made, by=by)
    logger.info("version %s is troubleshot by %s in competition %s", version.pk, by, made.pk)
    return made


def _under_way(version: Version, corpus: Corpus, kind: str, by: "User") -> Competition | None:
    found: Competition | None = Competition.objects.filter(
        kind=kind, corpus=corpus, created_by=by, entrants__version=version, rounds__state__in=LIVE_STATES
    ).first()
    return found


def name_for(version: Version) -> str:
    """A name that no competition has yet."""
    base = f"Troubleshooting {version}"[:110]
    taken = set(Competition.objects.filter(name__startswith=base).values_list("name", flat=True))
    return next(name for name in (base, *(f"{base} ({n})" for n in range(2, len(taken) + 3))) if name not in taken)


def kind_for(version: Version) -> str:
    return KIND_OF[Task(version.model.task)]


def can_troubleshoot(version: Version) -> bool:
    """Whether a version can be a target: a verified network with weights, made for use."""
    return version.kind == "torch" and version.state == "verified" and version.purpose == "use"


def people_minutes(preview: Preview, kind: str) -> int:
    """Minutes of people's time that a preview's judgements take, rounded up."""
    return -(-preview.n_judgements * SECONDS_EACH[kind] // 60)


def edition_for(version: Version) -> Edition | None:
    """What a version was trained on, as far as its lineage says."""
    seen, waiting = set[int](), [version]
    while waiting:
        each = waiting.pop(0)
        made_by = getattr(each, "run_output", None)
        if made_by is not None and made_by.run.edition_id:
            edition: Edition = made_by.run.edition
            return edition
        seen.add(each.pk)
        waiting += [parent for parent in each.parents.all() if parent.pk not in seen]
    return None


def corpus_of(edition: Edition | None) -> int | None:
    """The first corpus that a labelled set speaks of: its other images are the nearest ones to look for failures in."""
    corpora = [source["corpus"] for source in edition.sources if "corpus" in source] if edition else []
    return corpora[0] if corpora else None


def plan_for(version: Version, corpus: Corpus | None, **settings: Any) -> Plan:
    """The plan that ``troubleshoot`` would carry out."""
    kind = kind_for(version)
    options = KINDS[kind].Options(**settings.pop("options", {})).model_dump()
    return Plan(
        corpus=corpus, taxonomy=version.model.taxonomy, versions=[version], kind=kind, options=options, **settings
    )


def require_can(version: Version) -> None:
    if not can_troubleshoot(version):
        raise DomainError(
            f'"{version}" cannot be troubleshot: choose a verified version of a registered architecture with weights, '
            "made for use."
        )
