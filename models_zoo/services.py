"""Writes: models, versions, and what they say about a corpus.

Every function checks that the person may do it, writes, logs. Those that run networks (``version_verify``,
``scores_ensure``, ``picture_try``) are for jobs and commands: they import torch through ``models_zoo.running``.
"""

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import structlog
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts.errors import Conflict, DomainError
from accounts.permissions import require_edit, require_researcher, require_view
from corpora.models import Corpus, CorpusState, Taxonomy
from jobs.models import Job
from jobs.services import job_enqueue
from models_zoo.adapters.spec import LONG_SIDE, Preprocessing, VersionRefused, VersionSpec
from models_zoo.architectures import UnknownArchitecture, architecture_card
from models_zoo.engine.ensembles import EnsembleError, check_members
from models_zoo.models import Model, Outputs, Purpose, Task, Version, VersionKind, VersionState
from models_zoo.reading import label_space
from models_zoo.running import picture_try, scores_ensure, scores_require, version_refuse, version_verify
from models_zoo.storage import StoredFile, file_discard_unused, file_store

if TYPE_CHECKING:
    from accounts.models import User

__all__ = [
    "ensemble_add",
    "label_space_require",
    "model_create",
    "model_update",
    "picture_try",
    "picture_try_request",
    "scores_ensure",
    "scores_request",
    "scores_require",
    "version_add",
    "version_delete",
    "version_recheck",
    "version_refuse",
    "version_verify",
]
logger = structlog.get_logger(__name__)
PICTURE_LIMIT_BYTES = 32 * 2**20
PICTURE_FORGOTTEN_SECONDS = 3600
MODEL_FIELDS = {"name", "description", "licence", "source_url", "is_public", "score_low", "score_high"}


def model_create(
    *,
    name: str,
    by: "User",
    taxonomy: Taxonomy | None = None,
    task: Task | str = Task.CLASSIFICATION,
    higher_is_better: bool = True,
    score_low: float | None = None,
    score_high: float | None = None,
    description: str = "",
    licence: str = "",
    source_url: str = "",
    is_public: bool = False,
) -> Model:
    """Enter a model, without versions yet.

    Args:
        taxonomy: the label space of a classifier; a quality model has none.
        higher_is_better, score_low, score_high: of a quality model: which way its scores point, and the ends of their
            scale where there are any.

    Raises:
        Denied: for people who are no researchers, or may not see the taxonomy.
        DomainError: for an empty or taken name, a source that is no web address, a classifier without label space, a
            quality model with one, or a scale that does not ascend.
    """
    require_researcher(by, action="add models")
    name = " ".join(name.split())
    if not name:
        raise DomainError("The model has no name: give one.", field="name")
    _require_web_address(source_url)
    _require_task(task, taxonomy)
    _require_scale(task, higher_is_better, score_low, score_high)
    try:
        with transaction.atomic():
            model: Model = Model.objects.create(
                name=name,
                task=task,
                taxonomy=taxonomy,
                higher_is_better=higher_is_better,
                score_low=score_low,
                score_high=score_high,
                description=description,
                licence=licence,
                source_url=source_url,
                is_public=is_public,
                created_by=by,
            )
    except IntegrityError:
        raise DomainError(f'There is a model "{name}" already: choose another name.', field="name") from None
    logger.info("model_created", model=model.pk, name=name, by=by.pk)
    return model


def model_update(*, model: Model, by: "User", **fields: Any) -> Model:
    """Change what the card says; task, label space and direction stay, since versions were checked against them.

    Raises:
        Denied: for people who may not edit the model.
        DomainError: for a taken name, a source that is no web address, or a scale that does not ascend.
    """
    require_edit(by, model, action="change the model")
    unknown = sorted(set(fields) - MODEL_FIELDS)
    if unknown:
        raise DomainError(f'A model\'s "{unknown[0]}" cannot be changed: {", ".join(sorted(MODEL_FIELDS))} can.')
    _require_web_address(fields.get("source_url", ""))
    for field, value in fields.items():
        setattr(model, field, value)
    _require_scale(model.task, model.higher_is_better, model.score_low, model.score_high)
    try:
        with transaction.atomic():
            model.save()
    except IntegrityError:
        raise DomainError(f'There is a model "{model.name}" already: choose another name.', field="name") from None
    logger.info("model_updated", model=model.pk, fields=sorted(fields), by=by.pk)
    return model


def version_add(
    *,
    model: Model,
    label: str,
    kind: VersionKind | str,
    by: "User",
    file: Path | UploadedFile | None = None,
    architecture: str = "",
    arch_kwargs: dict[str, Any] | None = None,
    preprocessing: Preprocessing | dict[str, Any] | None = None,
    outputs: Outputs | str = Outputs.LOGITS,
    corpus: Corpus | None = None,
    parents: Sequence[Version] = (),
    purpose: Purpose | str = Purpose.USE,
) -> Version:
    """Enter a set of weights (or predictions) and have a worker check it (job ``models_zoo.verify``).

    Args:
        file: copied into the store under its content hash; what it is, is told from its content. Only a measure may
            have none; there it holds the parameters.
        architecture, arch_kwargs: kind torch: a name of the registry and its builder's arguments; ``num_classes`` is
            filled in from a classifier's taxonomy. Kind metric: the measure's name.
        outputs: of a classifier; a quality model's versions give one score whatever is said here.
        preprocessing: how an image becomes the input; a dict has the fields of ``Preprocessing``.
        corpus: kind predictions: the corpus that the file speaks about.
        parents: versions that this one was made from.
        purpose: what it was made for; lists and choices show those for use.

    Raises:
        Denied: for people who may not edit the model, or not see the corpus or a parent.
        DomainError: for a taken label, a file of the wrong type or size, an unknown architecture, bad preprocessing.
    """
    label = _version_begin(model, label, by, parents)
    if kind == VersionKind.ENSEMBLE:
        raise DomainError("An ensemble is made of versions of the zoo, not added from a file.", field="kind")
    if kind == VersionKind.PREDICTIONS:
        corpus = _predicted_corpus(corpus, by)
        description: dict[str, Any] = {"corpus": corpus}
    else:
        description = _description(model, kind, architecture, arch_kwargs or {}, preprocessing, outputs, bool(file))
    if file is None and kind != VersionKind.METRIC:
        raise DomainError("A version needs a file: choose one.", field="file")
    description["purpose"] = Purpose(purpose)
    stored = StoredFile("", "", 0, "") if file is None else file_store(file, kind=kind)
    try:
        version = _version_insert(model, label, kind, by, stored, description, parents)
    except IntegrityError:
        file_discard_unused(stored)
        raise _label_taken(model, label) from None
    logger.info("version_added", version=version.pk, model=model.pk, kind=str(kind), sha256=stored.sha256, by=by.pk)
    return version


def ensemble_add(
    *,
    model: Model,
    label: str,
    by: "User",
    members: Sequence[tuple[Version, float, Sequence[float] | None]],
    parents: Sequence[Version] = (),
    purpose: Purpose | str = Purpose.ENSEMBLE,
) -> Version:
    """Enter an ensemble: its scores are mixed from those of its members, without a pass of its own.

    Args:
        members: (version, weight, scale): verified versions of the model's task that run or say something themselves;
            the weights sum to 1. scale: (b1, b2, b3, b4) of the logistic that maps the version's oriented scores to a
            common scale (gMAD, CVPR 2016), for all members or for none.
        parents: versions that it was made from beside its members.

    Returns:
        The version, verified at once: there is nothing to run.

    Raises:
        Denied: for people who may not edit the model, or not see a member.
        DomainError: for a taken label, or members that cannot be mixed.
    """
    label = _version_begin(model, label, by, [*parents, *(version for version, _, _ in members)])
    weights = [float(weight) for _, weight, _ in members]
    scales = [None if scale is None else tuple(float(number) for number in scale) for _, _, scale in members]
    try:
        check_members(weights, scales)  # type: ignore[arg-type]  # how many numbers a scale has is checked there
    except EnsembleError as error:
        raise DomainError(f'Ensemble "{label}": {error}.', field="members") from error
    versions = [version for version, _, _ in members]
    _require_members(model, versions, has_scales=scales[0] is not None)
    said = [
        {"version": version.pk, "weight": weight, "scale": None if scale is None else list(scale)}
        for version, weight, scale in zip(versions, weights, scales, strict=True)
    ]
    try:
        with transaction.atomic():
            made: Version = Version.objects.create(
                model=model,
                label=label,
                kind=VersionKind.ENSEMBLE,
                purpose=Purpose(purpose),
                arch_kwargs={"members": said},
                outputs=Outputs.SCORE if model.task == Task.QUALITY else Outputs.PROBABILITIES,
                created_by=by,
            )
            made.parents.set({each.pk for each in [*parents, *versions]})
    except IntegrityError:
        raise _label_taken(model, label) from None
    logger.info("ensemble_added", version=made.pk, model=model.pk, members=[each["version"] for each in said], by=by.pk)
    return version_verify(version=made)


def _version_begin(model: Model, label: str, by: "User", parents: Sequence[Version]) -> str:
    """What every new version has to pass; returns its label without spaces too many."""
    require_edit(by, model, action="add versions to")
    label = " ".join(label.split())
    if not label:
        raise DomainError('The version has no label: give one, such as "v1".', field="label")
    if model.versions.filter(label=label).exists():
        raise _label_taken(model, label)
    for parent in {parent.model for parent in parents}:
        require_view(by, parent)
    return label


def _require_members(model: Model, versions: Sequence[Version], *, has_scales: bool) -> None:
    for version in versions:
        if version.kind == VersionKind.ENSEMBLE:
            raise DomainError(f'"{version}" is an ensemble itself: choose its members instead.', field="members")
        if version.state != VersionState.VERIFIED:
            raise DomainError(f'"{version}" is not verified: it cannot be a member.', field="members")
        if version.model.task != model.task or version.model.taxonomy_id != model.taxonomy_id:
            raise DomainError(f'"{version}" is made for another task or label space than "{model}".', field="members")
        if version.model.higher_is_better != model.higher_is_better:
            raise DomainError(
                f'The scores of "{version}" point the other way than those of "{model}".', field="members"
            )
    if len({version.pk for version in versions}) < len(versions):
        raise DomainError("A version is a member twice: give it one weight.", field="members")
    if has_scales and model.task != Task.QUALITY:
        raise DomainError("Only quality scores have a scale: leave it out for classifiers.", field="members")


def version_recheck(*, version: Version, by: "User") -> Job:
    """Check a refused version again, after what stood in its way was changed on the server.

    Raises:
        Denied: for people who may not edit the model.
        Conflict: when it was not refused.
    """
    require_edit(by, version.model, action="check versions of")
    with transaction.atomic():
        refused = Version.objects.filter(pk=version.pk, state=VersionState.REFUSED)
        if not refused.update(state=VersionState.CHECKING, refusal=""):
            raise Conflict(f'"{version}" was not refused: there is nothing to check again.')
        version.refresh_from_db()
        return _verify_enqueue(version, by)


def version_delete(*, version: Version, by: "User") -> None:
    """Remove a version that nothing was made with; its file goes when no other version has it.

    Raises:
        Denied: for people who may not edit the model.
        Conflict: when it has scores, competes, or others were made from it.
    """
    require_edit(by, version.model, action="delete versions of")
    if version.children.exists():
        raise Conflict(f'"{version}" cannot be deleted: other versions were made from it.')
    stored = StoredFile(version.file, version.sha256, version.size_bytes, version.label)
    number, name = version.pk, str(version)
    try:
        version.delete()
    except ProtectedError:
        raise Conflict(
            f'"{name}" cannot be deleted: it has scores or competes. They would lose their meaning.'
        ) from None
    file_discard_unused(stored)
    logger.info("version_deleted", version=number, name=name, by=by.pk)


def scores_request(*, versions: Sequence[Version], corpus: Corpus, by: "User") -> Job:
    """Have a worker score versions on a corpus (job ``models_zoo.score``); the live job where there is one already.

    Raises:
        Denied: for people who are no researchers, or may not see the corpus or a version.
        DomainError: as ``scores_require``.
    """
    require_researcher(by, action="score models")
    require_view(by, corpus)
    for model in {version.model for version in versions}:
        require_view(by, model)
    scores_require(versions=versions, corpus=corpus)
    names = ", ".join(str(version) for version in versions)
    numbers = sorted(version.pk for version in versions)
    live = (
        Job.objects.live().filter(kind="models_zoo.score", payload={"versions": numbers, "corpus": corpus.pk}).first()
    )
    if live is not None:
        return live
    job = job_enqueue(
        kind="models_zoo.score",
        title=f"Score {names} on {corpus}",
        payload={"versions": numbers, "corpus": corpus.pk},
        by=by,
        subject=versions[0] if len(versions) == 1 else corpus,
    )
    logger.info("scores_requested", versions=numbers, corpus=corpus.pk, job=str(job.pk), by=by.pk)
    return job


def label_space_require(*, versions: Sequence[Version]) -> Taxonomy:
    """The label space that all versions share.

    Raises:
        DomainError: when they have several, naming who has which; when one of them is no classifier.
    """
    spaces = label_space(versions)
    others = spaces.pop(None, [])
    if others:
        names = ", ".join(f'"{version}"' for version in others)
        raise DomainError(f"No classifier: {names}. Choose versions that predict classes.", field="versions")
    found = [taxonomy for taxonomy in spaces if taxonomy is not None]
    if len(found) == 1:
        return found[0]
    said = "; ".join(
        f'"{taxonomy}" ({taxonomy.n_classes} classes): {", ".join(str(version) for version in spaces[taxonomy])}'
        for taxonomy in found
    )
    raise DomainError(
        f"These versions predict in different label spaces, so their answers cannot be compared: {said}. "
        "Choose versions of one label space.",
        field="versions",
    )


def picture_try_request(*, versions: Sequence[Version], picture: UploadedFile, by: "User") -> Job:
    """Have a worker look at a picture (job ``models_zoo.try``), which is removed when it has answered.

    Raises:
        Denied: for people who may not see a version.
        DomainError: for a version that cannot look at pictures, or a picture that is too large or empty.
    """
    for version in versions:
        require_view(by, version.model)
        if version.state != VersionState.VERIFIED or not version.runs:
            raise DomainError(
                f'"{version}" cannot look at a picture: choose a verified version that is neither a predictions file '
                "nor an ensemble."
            )
    if not picture.size:
        raise DomainError("The picture is empty: choose another file.", field="picture")
    if picture.size > PICTURE_LIMIT_BYTES:
        raise DomainError(
            f"The picture has {picture.size / 2**20:,.0f} MB; at most {PICTURE_LIMIT_BYTES // 2**20} MB are looked at.",
            field="picture",
        )
    folder = Path(settings.VAR_DIR) / "tries"
    folder.mkdir(parents=True, exist_ok=True)
    _forget_pictures(folder)
    file = folder / uuid.uuid4().hex
    with file.open("xb") as target:
        for block in picture.chunks():
            target.write(block)
    return job_enqueue(
        kind="models_zoo.try",
        title=f"Try {versions[0]} on a picture",
        payload={"versions": [version.pk for version in versions], "file": file.name},
        by=by,
    )


def _forget_pictures(folder: Path) -> None:
    """Remove pictures whose job never came to its end."""
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > PICTURE_FORGOTTEN_SECONDS:
            file.unlink(missing_ok=True)


def _description(
    model: Model,
    kind: VersionKind | str,
    architecture: str,
    arch_kwargs: dict[str, Any],
    preprocessing: Preprocessing | dict[str, Any] | None,
    outputs: Outputs | str,
    has_file: bool,
) -> dict[str, Any]:
    """The columns that say how a version is built and fed, checked as far as that goes without torch."""
    is_quality = model.task == Task.QUALITY
    if kind == VersionKind.METRIC:
        _require_measure(model, architecture, has_file)
        arch_kwargs = {}
    elif kind == VersionKind.TORCH:
        _require_architecture(architecture, model.task)
        if model.taxonomy is not None:
            arch_kwargs = {"num_classes": model.taxonomy.n_classes, **arch_kwargs}
    else:
        architecture, arch_kwargs = "", {}
    try:
        spec = VersionSpec(
            kind=str(kind),  # type: ignore[arg-type]  # checked by VersionSpec itself
            architecture=architecture,
            arch_kwargs=arch_kwargs,
            weights="weights",
            preprocessing=_prepared(preprocessing, is_quality),
            num_classes=None if model.taxonomy is None else model.taxonomy.n_classes,
            outputs="score" if is_quality else str(outputs),  # type: ignore[arg-type]
        ).to_dict()
    except VersionRefused as error:
        raise DomainError(str(error)) from error
    return {key: spec[key] for key in ("architecture", "arch_kwargs", "preprocessing", "outputs")}


def _prepared(preprocessing: Preprocessing | dict[str, Any] | None, is_quality: bool) -> Preprocessing:
    """What was said, or nothing at all; quality versions get a limit to the longer side where none was given."""
    try:
        said = (
            preprocessing if isinstance(preprocessing, Preprocessing) else Preprocessing.from_dict(preprocessing or {})
        )
    except VersionRefused as error:
        raise DomainError(str(error), field="preprocessing") from error
    return replace(said, long_side=said.long_side or LONG_SIDE) if is_quality else said


def _require_architecture(architecture: str, task: Task | str) -> None:
    if not architecture:
        raise DomainError("Weights need an architecture: choose one from the registry.", field="architecture")
    try:
        card = architecture_card(architecture)
    except UnknownArchitecture as error:
        raise DomainError(f"There is {error}.", field="architecture") from error
    if card.task != task:
        raise DomainError(
            f'"{architecture}" is an architecture for {Task(card.task).label.lower()}, the model is for '
            f"{Task(task).label.lower()}: choose another of the two.",
            field="architecture",
        )


def _require_measure(model: Model, name: str, has_file: bool) -> None:
    """The measure exists, suits the model's card, and gets the parameters that it needs."""
    from models_zoo.metrics import MissingPackage, UnknownMetric, get, list_metrics

    if model.task != Task.QUALITY:
        raise DomainError(f'A measure rates quality, but "{model}" is a classifier: add it to a quality model.')
    if not name:
        some = ", ".join(card.name for card in list_metrics())
        raise DomainError(f"Choose a measure: {some}.", field="architecture")
    try:
        card = get(name)
        card.require_available()
    except UnknownMetric as error:
        raise DomainError(f"There is {error}.", field="architecture") from error
    except MissingPackage as error:
        raise DomainError(f"The {error}.", field="architecture") from error
    if card.higher_is_better != model.higher_is_better:
        means = "higher" if card.higher_is_better else "lower"
        raise DomainError(
            f'Of "{name}" {means} scores are better, but the card of "{model}" says the opposite: add it to a model '
            f"that says so.",
            field="architecture",
        )
    if bool(card.params) != has_file:
        wanted = f"needs a file of {card.params} parameters" if card.params else "takes no file"
        raise DomainError(f'The measure "{name}" {wanted}.', field="file")


def _require_task(task: Task | str, taxonomy: Taxonomy | None) -> None:
    if task not in Task.values:
        raise DomainError(f'There is no task "{task}": choose one of {", ".join(Task.values)}.', field="task")
    if task == Task.CLASSIFICATION and taxonomy is None:
        raise DomainError("A classifier predicts in a label space: choose which.", field="taxonomy")
    if task == Task.QUALITY and taxonomy is not None:
        raise DomainError("A quality model has no label space: leave it empty.", field="taxonomy")


def _require_scale(task: Task | str, higher_is_better: bool, low: float | None, high: float | None) -> None:
    if task != Task.QUALITY and (not higher_is_better or low is not None or high is not None):
        raise DomainError("Only a quality model has a direction and a scale of scores.", field="task")
    for name, value in (("score_low", low), ("score_high", high)):
        if value is not None and not math.isfinite(value):
            raise DomainError(f"{value} is no end of a scale: leave it empty where there is none.", field=name)
    if low is not None and high is not None and low >= high:
        raise DomainError(
            f"The lowest score, {low:g}, is not below the highest, {high:g}: the scale has to ascend.",
            field="score_high",
        )


def _predicted_corpus(corpus: Corpus | None, by: "User") -> Corpus:
    if corpus is None:
        raise DomainError("A predictions file speaks about one corpus: choose which.", field="corpus")
    require_view(by, corpus)
    if corpus.state != CorpusState.READY:
        raise DomainError(f'Corpus "{corpus}" is not imported yet: wait until it is ready.', field="corpus")
    return corpus


def _label_taken(model: Model, label: str) -> DomainError:
    return DomainError(
        f'"{model}" has a version "{label}" already: versions never change, so choose another label.', field="label"
    )


def _require_web_address(url: str) -> None:
    if url and urlparse(url).scheme not in {"http", "https"}:
        raise DomainError(f'"{url}" is no web address: begin with https://.', field="source_url")


def _version_insert(
    model: Model,
    label: str,
    kind: VersionKind | str,
    by: "User",
    stored: StoredFile,
    description: dict[str, Any],
    parents: Sequence[Version],
) -> Version:
    with transaction.atomic():
        version: Version = Version.objects.create(
            model=model,
            label=label,
            kind=kind,
            file=stored.file,
            file_name=stored.name,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            created_by=by,
            **description,
        )
        version.parents.set(parents)
        _verify_enqueue(version, by)
    return version


def _verify_enqueue(version: Version, by: "User") -> Job:
    return job_enqueue(
        kind="models_zoo.verify",
        title=f"Check {version}",
        payload={"version": version.pk},
        by=by,
        subject=version,
        unique=True,
    )
