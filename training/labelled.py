"""Writes of labelled sets: the sets themselves, and their editions, which never change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max

from accounts.errors import Conflict, DomainError
from accounts.permissions import require_edit, require_researcher, require_view
from corpora.files import written_whole
from corpora.models import Taxonomy
from models_zoo.models import Task
from training.engine.labels import SPLITS, table_digest
from training.models import Edition, LabelledSet
from training.sets import FRACTIONS, edition_table

if TYPE_CHECKING:
    from accounts.models import User

logger = structlog.get_logger(__name__)
FOLDER = "labelled"


def labelled_set_create(
    *,
    name: str,
    task: Task | str,
    by: "User",
    taxonomy: Taxonomy | None = None,
    description: str = "",
    is_public: bool = False,
) -> LabelledSet:
    """Enter a labelled set, without an edition yet.

    Args:
        taxonomy: the label space of class labels; quality labels have none.

    Raises:
        Denied: for people who are no researchers, or may not see the taxonomy.
        DomainError: for an empty or taken name, or a label space that does not suit the task.
    """
    require_researcher(by, action="make labelled sets")
    name = " ".join(name.split())
    if not name:
        raise DomainError("The labelled set has no name: give one.", field="name")
    if task not in Task.values:
        raise DomainError(f'There is no task "{task}": choose one of {", ".join(Task.values)}.', field="task")
    if (task == Task.CLASSIFICATION) != (taxonomy is not None):
        needs = "need a label space: choose which" if taxonomy is None else "have no label space: leave it empty"
        raise DomainError(f"{Task(task).label} labels {needs}.", field="taxonomy")
    if taxonomy is not None:
        require_view(by, taxonomy)
    try:
        with transaction.atomic():
            made: LabelledSet = LabelledSet.objects.create(
                name=name, task=task, taxonomy=taxonomy, description=description, is_public=is_public, created_by=by
            )
    except IntegrityError:
        raise DomainError(f'There is a labelled set "{name}" already: choose another name.', field="name") from None
    logger.info("labelled_set_created", labelled_set=made.pk, name=name, by=by.pk)
    return made


def edition_add(
    *,
    labelled_set: LabelledSet,
    sources: Sequence[Mapping[str, Any]],
    by: "User",
    seed: int = 0,
    fractions: Sequence[float] | None = None,
    based_on: Edition | None = None,
) -> Edition:
    """Make the next edition of a labelled set from its sources (`training.sets`).

    Args:
        sources: all of them; an edition that goes on from another repeats those of that one.
        seed: of the split by content.
        fractions: of groups, in train, val and test; None: those of the edition it is based on, else 0.6, 0.2, 0.2.
        based_on: an edition whose splits are kept; what is new of its contents joins them there.

    Returns:
        The edition; the newest one itself where it has the very same rows and sources.

    Raises:
        Denied: for people who may not edit the set, or not see a source.
        DomainError: as `training.sets.edition_table`.
    """
    require_edit(by, labelled_set, action="add editions to")
    if based_on is not None:
        require_view(by, based_on.labelled_set)
        if based_on.labelled_set.task != labelled_set.task:
            raise DomainError(
                f'"{based_on}" is for another task than "{labelled_set}": base the edition on one of its own.',
                field="based_on",
            )
    if not 0 <= seed < 2**63:
        raise DomainError(f"The seed is {seed}: give a whole number from 0 to 2^63 - 1.", field="seed")
    if fractions is None:
        fractions = [based_on.counts["fractions"][name] for name in SPLITS] if based_on else FRACTIONS
    given = [dict(source) for source in sources]
    table, counts = edition_table(
        labelled_set=labelled_set, sources=given, by=by, seed=seed, fractions=fractions, based_on=based_on
    )
    digest = table_digest(table)
    newest = labelled_set.editions.first()
    if newest is not None and newest.digest == digest and newest.sources == given:
        return newest
    file = Path(FOLDER) / f"{digest}.parquet"
    target = Path(settings.VAR_DIR) / file
    if not target.exists():
        with written_whole(target) as out:
            pq.write_table(table, out, compression="zstd")
    counts |= {
        "fractions": dict(zip(SPLITS, fractions, strict=True)),
        "based_on": based_on.number if based_on else None,
    }
    try:
        with transaction.atomic():
            LabelledSet.objects.select_for_update().get(pk=labelled_set.pk)
            number = 1 + (labelled_set.editions.aggregate(last=Max("number"))["last"] or 0)
            edition: Edition = Edition.objects.create(
                labelled_set=labelled_set,
                number=number,
                sources=given,
                seed=seed,
                file=str(file),
                digest=digest,
                n_rows=len(table),
                counts=counts,
                created_by=by,
            )
    except IntegrityError:
        raise Conflict(
            f'Somebody else made an edition of "{labelled_set}" just now: look at it, or try again.'
        ) from None
    logger.info("edition_added", labelled_set=labelled_set.pk, edition=number, rows=len(table), by=by.pk)
    return edition
