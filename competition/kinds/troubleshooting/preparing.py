"""Before a round scores: variants are there, brought to one scale with the target, and mixed into ensembles.

Everything follows from the competition's seed and the round's number; what is there is never made again, so a round
that is killed anywhere ends with the same variants, ensembles and entrants as one that was not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.db import transaction
from django.db.models import Max

from accounts.errors import DomainError
from competition.kinds.troubleshooting import SelfOptions, edition_require, round_before, target_of
from competition.models import Competition, Entrant, Round
from competition.numbers import plain
from corpora.models import Corpus
from models_zoo.models import Task, Version, VersionState
from models_zoo.reading import oriented, score_columns
from models_zoo.services import ensemble_add, scores_ensure, version_verify
from training.engine.measures import accuracy, agreement
from training.models import Edition, RunOutput

if TYPE_CHECKING:
    from competition.selection.ensembles import Ensemble
    from jobs.context import JobContext

Scale = tuple[float, float, float, float]
LEAST_VALIDATED = 8  # rated images that a scale of four numbers is fitted to


def round_prepare(*, round: Round, context: "JobContext") -> None:
    """Calibrate target and variants, and make the round's ensembles and entrants.

    Raises:
        DomainError: a variant was refused, or a network cannot be calibrated.
    """
    target, variants = target_of(round).version, variants_of(round)
    for variant in variants:
        context.check()
        _verified(variant)
    _verified(target)
    scales = _calibrated(round, [target, *variants], context) if target.model.task == Task.QUALITY else {}
    _tested(round, target, context)
    with transaction.atomic():
        locked = Round.objects.select_for_update().select_related("competition__created_by").get(pk=round.pk)
        if locked.own_entrants.count() < 2:
            _enter(locked, target, variants, scales)
    round.refresh_from_db()


def variants_of(round_: Round) -> list[Version]:
    """The variants that the round's ensembles are made of: pruned for it, or fine-tuned in the round before."""
    before = round_before(round_)
    run = round_.prepare_run_id or (before.learn_run_id if before else None)
    found = RunOutput.objects.filter(run=run, role="variant").select_related("version__model__taxonomy")
    variants = [output.version for output in found.order_by("number")]
    if len(variants) < 2:
        raise DomainError(
            f"Round {round_.number} has {len(variants)} variants of its target: pruning gave fewer than two. "
            "Choose another target, or a labelled set that it does better on."
        )
    return variants


def _verified(version: Version) -> None:
    checked = version_verify(version=version)
    if checked.state != VersionState.VERIFIED:
        raise DomainError(f'"{checked}" did not pass its check: {checked.refusal}')


def _calibrated(round_: Round, versions: Sequence[Version], context: "JobContext") -> dict[int, Scale]:
    """{version id: (b1, b2, b3, b4)}, fitted to validation images of the labelled set; kept in the round's facts."""
    known = round_.facts.get("calibration", {})
    if all(str(version.pk) in known for version in versions):
        return {int(pk): _scale(line) for pk, line in known.items()}
    options: SelfOptions = _options(round_.competition)
    mos, columns = _validated(edition_require(options), versions, context)
    lines = {str(version.pk): _fitted(version, column, mos) for version, column in zip(versions, columns, strict=True)}
    with transaction.atomic():
        locked = Round.objects.select_for_update().get(pk=round_.pk)
        locked.facts = {**locked.facts, "calibration": lines}
        locked.save(update_fields=["facts"])
    round_.refresh_from_db()
    return {int(pk): _scale(line) for pk, line in lines.items()}


def _scale(line: dict[str, Any]) -> Scale:
    return (line["b1"], line["b2"], line["b3"], line["b4"])


def _fitted(version: Version, column: np.ndarray, mos: np.ndarray) -> dict[str, Any]:
    from labeling.psychometrics.logistic import CalibrationError, fit_logistic

    try:
        found = fit_logistic(column, mos, model=str(version))
    except CalibrationError as error:
        raise DomainError(f"{str(error)[:1].upper()}{str(error)[1:]}.", field="edition") from error
    if not found.converged:
        raise DomainError(f"{found.message[:1].upper()}{found.message[1:]}.", field="edition")
    return {name: plain(getattr(found, name)) for name in ("b1", "b2", "b3", "b4", "rmse", "explained", "n")}


def _validated(
    edition: Edition, versions: Sequence[Version], context: "JobContext"
) -> tuple[np.ndarray, list[np.ndarray]]:
    """MOS (n,) of the validation images, and what each version says of them (n,), oriented."""
    corpora, rows, mos, _ = split_rows(edition, "val")
    if len(mos) < LEAST_VALIDATED:
        raise DomainError(
            f'"{edition}" has {len(mos)} rated images in its validation split; a scale needs at least '
            f"{LEAST_VALIDATED}: add labels, or choose another edition.",
            field="edition",
        )
    columns = [np.full(len(mos), np.nan) for _ in versions]
    for pk in np.unique(corpora).tolist():
        context.report(message="Bringing target and variants to one scale")
        scored = scores_ensure(versions=versions, corpus=Corpus.objects.get(pk=pk), context=context)
        here = corpora == pk
        for column, scores in zip(columns, scored, strict=True):
            column[here] = oriented(scores)[rows[here]]
    return mos, columns


def split_rows(edition: Edition, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, "pa.Table"]:
    """(corpus ids, rows, MOS) of the first labels of a split of the edition, each (n,), and their lines."""
    table = pq.read_table(edition.path)
    table = table.filter((pc.field("split") == split) & (pc.field("origin") == "base"))
    columns = [table[name].to_numpy() for name in ("corpus", "row", "mos")]
    return columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2].astype(np.float64), table


def _tested(round_: Round, target: Version, context: "JobContext") -> None:
    """How the round's target does on the labelled set's test split, kept in the round's facts: nothing forgotten?"""
    if "test" in round_.facts:
        return
    options: SelfOptions = _options(round_.competition)
    corpora, rows, mos, table = split_rows(edition_require(options), "test")
    is_quality = target.model.task == Task.QUALITY
    said = np.full(len(rows), np.nan)
    for pk in np.unique(corpora).tolist():
        context.report(message="Measuring the target on the test split")
        (scores,) = scores_ensure(versions=[target], corpus=Corpus.objects.get(pk=pk), context=context)
        here = corpora == pk
        column = oriented(scores) if is_quality else score_columns(scores)[0]
        said[here] = column[rows[here]]
    if is_quality:
        found = agreement(said, mos, scale=table["scale"].to_numpy(), groups=table["group"].to_pylist(),
                          seed=round_.competition.seed).plain()  # fmt: skip
    else:
        found = {"accuracy": accuracy(said == table["label"].to_numpy()).plain(), "n": len(said)}
    with transaction.atomic():
        locked = Round.objects.select_for_update().get(pk=round_.pk)
        locked.facts = {**locked.facts, "test": found}
        locked.save(update_fields=["facts"])
    round_.refresh_from_db()


def _enter(round_: Round, target: Version, variants: Sequence[Version], scales: dict[int, Scale]) -> None:
    """Make the ensembles and enter them, inside a transaction that holds the round."""
    from competition.selection.ensembles import random_ensembles

    competition = round_.competition
    options: SelfOptions = _options(competition)
    drawn = random_ensembles(len(variants), options.ensembles, seed=competition.seed + round_.number)
    last = competition.entrants.aggregate(last=Max("number"))["last"] or 0
    for number, ensemble in enumerate(drawn, start=1):
        version = _ensemble(round_, number, ensemble, target, variants, scales)
        Entrant.objects.create(competition=competition, version=version, round=round_, number=last + number)


def _ensemble(
    round_: Round, number: int, ensemble: "Ensemble", target: Version, variants: Sequence[Version],
    scales: dict[int, Scale],
) -> Version:  # fmt: skip
    members = [
        (variants[at], weight, scales.get(variants[at].pk))
        for at, weight in zip(ensemble.members, ensemble.weights, strict=True)
    ]
    return ensemble_add(
        model=variants[0].model,
        label=f"ensemble {number} of {target.pk}, competition {round_.competition_id}.{round_.number}",
        by=round_.competition.created_by,
        members=members,
        parents=[target],
    )


def _options(competition: Competition) -> Any:
    from competition.kinds import KINDS

    return KINDS[competition.kind].options(competition)
