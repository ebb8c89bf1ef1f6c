"""The writes that run networks: checking a version, scoring a corpus, looking at one picture.

They are re-exported by ``models_zoo.services`` and called by jobs and commands. Torch is imported inside the functions:
importing this module is free.
"""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import structlog
from django.conf import settings
from django.utils import timezone

from accounts.errors import DomainError
from corpora.models import Corpus, CorpusState
from corpora.reading import manifest_of, opinions_of, reference_rows, row_source
from models_zoo.engine.scores import ScoreStore
from models_zoo.models import Scores, ScoresState, Task, Version, VersionKind, VersionState
from models_zoo.reading import class_names, ensemble_members, passes_of, version_spec
from models_zoo.summaries import REASONS_KEPT, opinion_summarise, quality_summarise, scale_words, scores_summarise

if TYPE_CHECKING:
    from jobs.context import JobContext
    from models_zoo.engine.work import Progress, ScoringReport


class HasName(Protocol):
    """One model of a predictions file."""

    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=HasName)

logger = structlog.get_logger(__name__)
LOCK_POLL_SECONDS = 0.5
SHARD_ROWS = 1024  # a killed worker loses at most this many images
N_GUESSES = 5


def version_verify(*, version: Version) -> Version:
    """Check a version: a dry forward for networks, the alignment with the corpus for predictions (which become scores).

    A version that does not pass is refused with the reason; one that was checked already stays as it is.

    Returns:
        The version, verified or refused.
    """
    if version.state != VersionState.CHECKING:
        return version
    try:
        found = _VERIFY.get(VersionKind(version.kind), _network_verify)(version)
    except (ValueError, DomainError) as error:
        version_refuse(version=version, reason=_reason(version, error))
    else:
        checking = Version.objects.filter(pk=version.pk, state=VersionState.CHECKING)
        if checking.update(state=VersionState.VERIFIED, verified_at=timezone.now(), **found):
            logger.info("version_verified", version=version.pk, **found)
    version.refresh_from_db()
    return version


def version_refuse(*, version: Version, reason: str) -> bool:
    """Refuse a version that is being checked; False when it no longer is."""
    checking = Version.objects.filter(pk=version.pk, state=VersionState.CHECKING)
    refused = bool(checking.update(state=VersionState.REFUSED, refusal=reason))
    if refused:
        logger.info("version_refused", version=version.pk, reason=reason)
    return refused


def _predictions_verify(version: Version) -> dict[str, Any]:
    """Align the file with its corpus and keep it as scores at once."""
    from models_zoo.engine.predictions import align, read_predictions, store_predictions

    corpus = version.corpus
    assert corpus is not None, "version_add requires a corpus of predictions"
    _require_unchanged(version)
    paths = pa.chunked_array([batch.column(0) for batch in manifest_of(corpus).batches(["path"])], pa.string())
    if version.model.task == Task.QUALITY:
        return _quality_predictions_verify(version, corpus, paths)
    taxonomy = version.model.taxonomy
    assert taxonomy is not None, "a classifier has a label space"
    chosen = _one_of(version, read_predictions(version.path))
    aligned = align(chosen, paths, n_classes=taxonomy.n_classes, class_names=class_names(taxonomy))
    store_predictions(
        aligned,
        _directory(version, corpus),
        n_classes=taxonomy.n_classes,
        version=f"{version.sha256}:{chosen.name}",
        corpus=corpus.digest,
    )
    scores_complete(version=version, corpus=corpus, has_confidence=aligned.confidences is not None)
    return {} if aligned.confidences is not None else {"notes": ["gives no confidences: filters by confidence are off"]}


def _quality_predictions_verify(version: Version, corpus: Corpus, paths: pa.ChunkedArray) -> dict[str, Any]:
    """Align a file of quality scores with its corpus and keep it as scores at once."""
    from models_zoo.engine.quality_predictions import align_scores, read_scores, store_scores

    chosen = _one_of(version, read_scores(version.path, len(paths)))
    values = align_scores(chosen, paths)
    store_scores(values, _directory(version, corpus), version=f"{version.sha256}:{chosen.name}", corpus=corpus.digest)
    scores = scores_complete(version=version, corpus=corpus)
    return {"notes": _notes_of_scores(scores)}


def _notes_of_scores(scores: Scores) -> list[str]:
    """What of the scores in a predictions file deserves a look."""
    summary, model = scores.summary, scores.version.model
    notes = []
    if summary["n_missing"]:
        notes.append(f"gives no score to {summary['n_missing']:,} of {scores.corpus.n_rows:,} images")
    if summary.get("n_outside"):
        ends = scale_words(model.score_low, model.score_high)
        notes.append(f"gives {summary['n_outside']:,} of its scores outside the range on the card ({ends})")
    if summary["n_scored"] and summary["low"] == summary["high"]:
        notes.append("gives the same score to every image: nothing can be selected by it")
    if scores.srcc is not None and scores.srcc < 0:
        notes.append(
            f"contradicts people's opinions (rank correlation {scores.srcc:.3f}): check whether its scores point the "
            "way that the card says"
        )
    return notes


def _one_of(version: Version, models: "Sequence[Named]") -> "Named":
    """The model of a predictions file that the version is: the only one, or the one that bears its name.

    Raises:
        DomainError: naming the models, when none does.
    """
    if len(models) == 1:
        return models[0]
    for name in (version.label, version.model.name):
        for model in models:
            if model.name == name:
                return model
    names = ", ".join(model.name for model in models[:8])
    raise DomainError(
        f'"{version.file_name}" holds {len(models)} models ({names}{", …" if len(models) > 8 else ""}): '
        "give the version the name of one of them as its label"
    )


def _require_unchanged(version: Version) -> None:
    """Raise DomainError when the stored file is not the one that was added."""
    from models_zoo.adapters.spec import file_sha256

    if file_sha256(version.path) != version.sha256:
        raise DomainError(f'the stored file of "{version}" was changed or damaged: add it again as another version')


def scores_require(*, versions: Sequence[Version], corpus: Corpus) -> None:
    """Check that versions can be scored on a corpus.

    Raises:
        DomainError: no versions, an unverified one, predictions for another corpus, classifiers and quality models
            together, or a corpus that is not ready.
    """
    if not versions:
        raise DomainError("No version was chosen: choose at least one.", field="versions")
    if corpus.state != CorpusState.READY:
        raise DomainError(
            f'Corpus "{corpus}" is {corpus.get_state_display().lower()}: wait for its import, or import it again.',
            field="corpus",
        )
    if len({version.model.task for version in versions}) > 1:
        raise DomainError("Classifiers and quality models are not scored together: choose one sort.", field="versions")
    for version in versions:
        if version.state != VersionState.VERIFIED:
            why = version.refusal or "its check has not ended yet"
            raise DomainError(f'"{version}" cannot score: it is {version.get_state_display().lower()} ({why}).')
        if version.kind == VersionKind.PREDICTIONS and version.corpus_id != corpus.pk:
            raise DomainError(
                f'"{version}" is a predictions file for corpus "{version.corpus}" and says nothing about "{corpus}": '
                "add the version's predictions for it, or its weights."
            )


def _network_verify(version: Version) -> dict[str, Any]:
    """What the dry run measured, as columns of the version."""
    from models_zoo.adapters.verify import verify
    from models_zoo.adapters.verify_quality import verify_quality

    taxonomy = version.model.taxonomy
    report = (
        verify_quality(version_spec(version))
        if taxonomy is None
        else verify(version_spec(version), n_classes=taxonomy.n_classes)
    )
    return {
        "parameters": report.parameters,
        "macs": report.macs,
        "milliseconds": report.seconds_per_image * 1e3,
        "megabytes": None if report.peak_bytes is None else report.peak_bytes / 1e6,
        "notes": list(report.notes),
    }


def _ensemble_verify(version: Version) -> dict[str, Any]:
    """What its members take together.

    Raises:
        DomainError: naming a member that is not verified.
    """
    members = [member.version for member in ensemble_members(version)]
    for member in members:
        if member.state != VersionState.VERIFIED:
            raise DomainError(f'its member "{member}" is {member.get_state_display().lower()}')
    measured = {name: [getattr(member, name) for member in members] for name in ("parameters", "macs", "milliseconds")}
    return {name: None if None in values else sum(values) for name, values in measured.items()}


_VERIFY = {VersionKind.PREDICTIONS: _predictions_verify, VersionKind.ENSEMBLE: _ensemble_verify}


def scores_ensure(*, versions: Sequence[Version], corpus: Corpus, context: "JobContext") -> list[Scores]:
    """Score what is not scored yet; runs inside a job, goes on where an earlier attempt stopped.

    An ensemble is mixed from its members' columns, which are scored first where they are not: it costs no pass of its
    own. Classifiers that prepare images alike share one decode, quality versions all do. Finished shards survive a
    kill; the columns are the same bytes however often the work was interrupted.

    Returns:
        Complete scores, in the order of ``versions`` (which need ``model__taxonomy``).

    Raises:
        DomainError: as ``scores_require``; and when a file of a version was changed since it was added.
    """
    scores_require(versions=versions, corpus=corpus)
    ensembles = [version for version in versions if version.kind == VersionKind.ENSEMBLE]
    networks = passes_of(versions)
    scores_require(versions=networks, corpus=corpus)
    for version in {version.pk: version for version in [*networks, *ensembles]}.values():
        Scores.objects.get_or_create(version=version, corpus=corpus)
    _directory(versions[0], corpus).parent.mkdir(parents=True, exist_ok=True)
    with _alone(networks, corpus, context):
        lacking = [version for version in networks if not _is_scored(version, corpus)]
        if lacking:
            _score(lacking, corpus, context)
    with _alone(ensembles, corpus, context):
        for number, version in enumerate(ensembles, start=1):
            context.report(done=number, total=len(ensembles), unit="ensembles", message="Mixing the ensembles")
            if not _is_scored(version, corpus):
                _mix(version, corpus)
    found = Scores.objects.filter(version__in=versions, corpus=corpus).select_related("corpus", "version__model")
    rows = {row.version_id: row for row in found}
    return [rows[version.pk] for version in versions]


@contextmanager
def _alone(versions: Sequence[Version], corpus: Corpus, context: "JobContext") -> Iterator[None]:
    """Hold the stores of all these versions, taken in the order of their numbers."""
    with ExitStack() as stack:
        for version in sorted(versions, key=lambda version: version.pk):
            stack.enter_context(_held(_directory(version, corpus).with_suffix(".lock"), context))
        yield


def _mix(version: Version, corpus: Corpus) -> None:
    """Mix an ensemble's columns from those of its members, which are complete."""
    from models_zoo.engine.ensembles import Member, mix

    members = [
        Member(ScoreStore.open(_directory(each.version, corpus)), each.weight, each.scale)
        for each in ensemble_members(version)
    ]
    sign = 1 if version.model.higher_is_better else -1
    store = mix(members, _directory(version, corpus), sign=sign)
    scores_complete(version=version, corpus=corpus, has_confidence=store.header.has_confidence)


def _score(versions: Sequence[Version], corpus: Corpus, context: "JobContext") -> None:
    """Run the engine over the corpus, then count and sign what came out."""
    n_rows, n = corpus.n_rows, len(versions)
    names = ", ".join(str(version) for version in versions)
    context.report(done=0, total=n_rows, unit="images", message=f"Loading {names}")
    is_quality = versions[0].model.task == Task.QUALITY
    report = (_score_quality if is_quality else _score_classes)(
        versions, corpus, lambda done, total: context.report(done=done // n, message=f"Scoring {names}")
    )
    context.report(done=n_rows, message="Counting")
    rate = report.n_scored / n / report.seconds if report.n_scored else None
    for version in versions:
        scores = scores_complete(version=version, corpus=corpus)
        if rate is not None:
            Scores.objects.filter(pk=scores.pk).update(images_per_second=rate)


def _score_classes(versions: Sequence[Version], corpus: Corpus, progress: "Progress") -> "ScoringReport":
    from models_zoo.engine.run import score

    return score(
        row_source(corpus),
        [version_spec(version) for version in versions],
        [_directory(version, corpus) for version in versions],
        shard_size=SHARD_ROWS,
        progress=progress,
        device=device(),
        cache_dir=Path(settings.VAR_DIR) / "exports",
    )


def _score_quality(versions: Sequence[Version], corpus: Corpus, progress: "Progress") -> "ScoringReport":
    from models_zoo.engine.quality import score_quality

    return score_quality(
        row_source(corpus),
        [version_spec(version) for version in versions],
        [_directory(version, corpus) for version in versions],
        references=reference_rows(corpus),
        progress=progress,
        device=device(),
        cache_dir=Path(settings.VAR_DIR) / "exports",
    )


def scores_complete(*, version: Version, corpus: Corpus, has_confidence: bool = True) -> Scores:
    """Count what an assembled store says, and mark its scores as complete.

    Returns:
        The scores, with accuracy where the corpus is labelled in the version's own label space, and with rank
        correlations where people rated the images and the version rates quality.
    """
    store = ScoreStore.open(_directory(version, corpus))
    found = (
        _quality_found(version, corpus, store)
        if version.model.task == Task.QUALITY
        else _classes_found(version, corpus, store, has_confidence)
    )
    scores, _ = Scores.objects.update_or_create(
        version=version,
        corpus=corpus,
        defaults={
            "state": ScoresState.COMPLETE,
            "n_missing": found["summary"]["n_missing"],
            "digest": store.digest(),
            "completed_at": timezone.now(),
            **found,
        },
    )
    logger.info("scores_completed", version=version.pk, corpus=corpus.pk, digest=scores.digest)
    return scores


def scores_correlate(*, corpus: Corpus) -> int:
    """Compare all complete quality scores of a corpus with its opinion scores anew, since those have changed.

    Returns:
        How many scores were compared.
    """
    rows = list(Scores.objects.complete().filter(corpus=corpus, version__model__task=Task.QUALITY))
    for scores in rows:
        scores.corpus = corpus
        scores.srcc, scores.krcc, scores.summary["opinions"] = _agreement(scores.version, corpus, scores.directory)
        scores.save(update_fields=["srcc", "krcc", "summary"])
    logger.info("scores_correlated", corpus=corpus.pk, n=len(rows))
    return len(rows)


def _classes_found(version: Version, corpus: Corpus, store: ScoreStore, has_confidence: bool) -> dict[str, Any]:
    """Columns of the scores of a classifier."""
    taxonomy = version.model.taxonomy
    assert taxonomy is not None, "a classifier has a label space"
    classes, confidences = store.read()
    labels = labels_of(corpus) if corpus.taxonomy_id == taxonomy.pk else None
    summary = scores_summarise(classes, confidences if has_confidence else None, labels, taxonomy.n_classes)
    labelled = summary.get("n_labelled", 0)
    accuracy = summary["n_correct"] / labelled if labelled else None
    return {"has_confidence": has_confidence, "accuracy": accuracy, "summary": summary}


def _quality_found(version: Version, corpus: Corpus, store: ScoreStore) -> dict[str, Any]:
    """Columns of the scores of a quality version."""
    (values,) = store.read()
    summary = quality_summarise(values, low=version.model.score_low, high=version.model.score_high)
    reasons = store.problems()
    summary["problems"] = [{"reason": why, **entry} for why, entry in list(reasons.items())[:REASONS_KEPT]]
    summary["n_reasons"] = len(reasons)
    srcc, krcc, summary["opinions"] = _agreement(version, corpus, store.folder)
    return {"has_confidence": False, "srcc": srcc, "krcc": krcc, "summary": summary}


def _agreement(
    version: Version, corpus: Corpus, directory: Path
) -> tuple[float | None, float | None, dict[str, Any] | None]:
    """SRCC, KRCC and the picture of both with the corpus's opinion scores; None throughout where it has none."""
    table = opinions_of(corpus)
    if table is None:
        return None, None, None
    (values,) = ScoreStore.open(directory).read()
    rated = np.asarray(values[table.rows])
    return opinion_summarise(
        rated if version.model.higher_is_better else -rated, table.mos, float(table.low), float(table.high)
    )


def labels_of(corpus: Corpus) -> np.ndarray | None:
    """(n_rows,) int32 class indices of the corpus's own labels, -1 where there is none; None without any label."""
    if not corpus.n_labelled:
        return None
    labels = manifest_of(corpus).column("label").astype(np.float64)
    return np.where(np.isnan(labels), -1, labels).astype(np.int32)


def device() -> str:
    """Where networks run on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def picture_try(*, versions: Sequence[Version], file: str, context: "JobContext") -> dict[str, Any]:
    """What versions see in an uploaded picture, which is removed whatever comes of it.

    Returns:
        JSON-ready: ``width``, ``height``, and ``answers``: per version its name and, of a classifier, ``top``, the five
        likeliest classes with ``index``, ``name`` and ``probability``; of a quality model ``quality``: ``score``, or
        ``reason`` why there is none, and the card's ``higher_is_better``, ``low``, ``high``.

    Raises:
        DomainError: when the file is no picture, has too many pixels, or is gone.
    """
    from corpora.imaging.decode import UndecodableImage, decode_rgb

    path = Path(settings.VAR_DIR) / "tries" / Path(file).name
    try:
        pixels = decode_rgb(path.read_bytes(), pixel_limit=settings.PIXEL_LIMIT)
    except FileNotFoundError:
        raise DomainError("The picture was removed already: upload it again.") from None
    except UndecodableImage as error:
        raise DomainError(f"The picture cannot be read: {error.reason}.") from error
    finally:
        path.unlink(missing_ok=True)
    answers = []
    for version in versions:
        context.report(message=f"Asking {version}")
        is_quality = version.model.task == Task.QUALITY
        said = {"quality": _judgement(version, pixels)} if is_quality else {"top": _guesses(version, pixels)}
        answers.append({"version": str(version), **said})
    return {"width": pixels.shape[1], "height": pixels.shape[0], "answers": answers}


def _guesses(version: Version, pixels: np.ndarray) -> list[dict[str, Any]]:
    from models_zoo.adapters.load import load
    from models_zoo.engine.single import top_classes

    spec = version_spec(version)
    names = class_names(version.model.taxonomy)
    best = top_classes(spec, load(spec, n_images=1), pixels, count=N_GUESSES)
    return [{"index": index, "name": names[index], "probability": probability} for index, probability in best]


def _judgement(version: Version, pixels: np.ndarray) -> dict[str, Any]:
    from models_zoo.engine.single import quality_of

    score = quality_of(version_spec(version), pixels)
    model = version.model
    said = {"score": None, "reason": score} if isinstance(score, str) else {"score": score, "reason": ""}
    return {
        **said,
        "higher_is_better": model.higher_is_better,
        "low": model.score_low,
        "high": model.score_high,
    }


def _directory(version: Version, corpus: Corpus) -> Path:
    return Scores(version=version, corpus=corpus).directory


def _is_scored(version: Version, corpus: Corpus) -> bool:
    """Complete in the database, and the columns are where they belong."""
    complete = Scores.objects.filter(version=version, corpus=corpus, state=ScoresState.COMPLETE).exists()
    return complete and ScoreStore.open(_directory(version, corpus)).is_complete()


@contextmanager
def _held(file: Path, context: "JobContext") -> Iterator[None]:
    """Only one process writes one store; the kernel lets go of the lock when its holder dies."""
    with file.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                context.report(message="Waiting for another job that scores the same")
                time.sleep(LOCK_POLL_SECONDS)
        yield


def _reason(version: Version, error: Exception) -> str:
    """An error as a sentence that calls the file what its owner calls it."""
    text = str(error).replace(version.path.name, version.file_name).replace(version.path.stem, version.file_name)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
