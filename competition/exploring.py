"""The explorer: where two versions differ, kept as a small file so that browsing reads no whole column.

Exploration of two classifiers: of every two classes, the images on which one version says the first and the other the
second, the most confident of them; ordered by distance, confidence, row. That of two quality models: see ``attacks``.
A worker makes it once per corpus and pair of score tables.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings
from django.urls import reverse

from accounts.errors import DomainError
from accounts.permissions import require_view
from competition.attacks import Attacks, attacks_find
from competition.disagreements import ROW, collect_disagreements
from corpora import taxonomies
from corpora.files import written_whole
from corpora.models import Corpus, Taxonomy
from corpora.reading import records_of
from jobs.models import Job
from jobs.services import job_enqueue
from models_zoo.models import Scores, ScoresState, Task, Version
from models_zoo.reading import score_columns

if TYPE_CHECKING:
    from accounts.models import User
    from jobs.context import JobContext

EXPLORE_JOB = "competition.explore"
PER_LABEL_PAIR = 100
MOST_ROWS = 200_000
TINY = 128  # pixels; smaller pictures are shown without smoothing


@dataclass(frozen=True)
class Exploration:
    """rows: (n,) structured as ``disagreements.ROW``, best first; distances: (levels,); n_rows, n_disagree: of all
    rows; has_confidence: whether both versions gave confidences."""

    rows: np.ndarray
    distances: np.ndarray
    n_rows: int
    n_disagree: int
    has_confidence: bool

    per_label_pair: int = PER_LABEL_PAIR

    @property
    def is_cut(self) -> bool:
        """Whether rows were left out beyond ``per_label_pair`` or ``MOST_ROWS``."""
        return len(self.rows) < self.n_disagree

    def levels_present(self) -> list[int]:
        """Levels that occur, farthest first."""
        return np.unique(self.rows["level"])[::-1].tolist()

    def filtered(self, *, label: int | None = None, level: int | None = None, least: float | None = None) -> np.ndarray:
        """Positions of the rows that pass: a version says ``label``, the classes are at ``level``, and both versions
        are at least ``least`` confident."""
        kept = np.ones(len(self.rows), dtype=np.bool_)
        if label is not None:
            kept &= (self.rows["class_a"] == label) | (self.rows["class_b"] == label)
        if level is not None:
            kept &= self.rows["level"] == level
        if least is not None:
            kept &= np.minimum(self.rows["confidence_a"], self.rows["confidence_b"]) >= least
        return np.flatnonzero(kept)


def pair_require(*, corpus: Corpus, versions: Sequence[Version]) -> None:
    """Check that two versions can be held against each other.

    Raises:
        DomainError: the same version twice, different tasks or label spaces.
    """
    first, second = versions
    if first == second:
        raise DomainError(f'"{first}" agrees with itself everywhere: choose two different versions.', field="second")
    if first.model.task != second.model.task:
        raise DomainError(
            f'"{first}" is made for {first.model.get_task_display().lower()}, "{second}" for '
            f"{second.model.get_task_display().lower()}: choose two versions of one task.",
            field="second",
        )
    if first.model.taxonomy_id != second.model.taxonomy_id:
        raise DomainError(
            f'"{first}" predicts in "{first.model.taxonomy}", "{second}" in "{second.model.taxonomy}": choose two '
            "versions of one label space.",
            field="second",
        )


def label_space(pair: Sequence[Version]) -> Taxonomy:
    """That of two classifiers.

    Raises:
        DomainError: for quality models, which have none.
    """
    space = pair[0].model.taxonomy
    if space is None:
        raise DomainError(f'"{pair[0]}" is a quality model: it predicts no classes.', field="first")
    return space


def exploration_request(*, corpus: Corpus, versions: Sequence[Version], by: "User") -> Job:
    """Have a worker explore two versions (scoring them first where needed); the live job where there is one.

    Raises:
        Denied: for people who may not see the corpus or a model.
        DomainError: as ``pair_require``.
    """
    require_view(by, corpus)
    for version in versions:
        require_view(by, version.model)
    pair_require(corpus=corpus, versions=versions)
    live = exploration_job(corpus=corpus, versions=versions)
    if live is not None and not live.is_ended:
        return live
    pair = pair_ordered(versions)
    return job_enqueue(
        kind=EXPLORE_JOB,
        title=f"Where {pair[0]} and {pair[1]} differ on {corpus}",
        payload={"corpus": corpus.pk, "versions": [version.pk for version in pair]},
        by=by,
        subject=corpus,
    )


def exploration_job(*, corpus: Corpus, versions: Sequence[Version]) -> Job | None:
    """The newest job that explores these two."""
    numbers = [version.pk for version in pair_ordered(versions)]
    jobs = Job.objects.about(corpus).filter(kind=EXPLORE_JOB, payload__versions=numbers)
    found: Job | None = jobs.order_by("-created_at").first()
    return found


def exploration_compute(*, corpus: int, versions: Sequence[int], context: "JobContext") -> dict[str, Any]:
    """Score what is missing, then keep the exploration as a file. Runs inside a job."""
    from models_zoo.services import scores_ensure

    place = Corpus.objects.get(pk=corpus)
    pair = sorted(Version.objects.filter(pk__in=versions).select_related("model__taxonomy"), key=lambda each: each.pk)
    scores = scores_ensure(versions=pair, corpus=place, context=context)
    if pair[0].model.task == Task.QUALITY:
        rows, facts = attacks_find(place, pair, scores, context)
    else:
        rows, facts = _disagreements(pair, scores, context)
    _write(_folder(scores), rows, facts)
    return {"kept": len(rows), **{name: facts[name] for name in ("n_disagree", "calibration") if name in facts}}


def _disagreements(
    pair: Sequence[Version], scores: Sequence[Scores], context: "JobContext"
) -> tuple[np.ndarray, dict[str, Any]]:
    columns = [score_columns(each) for each in scores]
    levels = taxonomies.levels(label_space(pair))
    rows, n_disagree = collect_disagreements(
        [classes for classes, _ in columns],
        [confidences for _, confidences in columns],
        levels,
        per_label_pair=PER_LABEL_PAIR,
        most=MOST_ROWS,
        progress=lambda done, total: context.report(done=done, total=total, unit="rows", message="Comparing"),
    )
    return rows.astype(ROW), {
        "n_rows": len(columns[0][0]),
        "n_disagree": n_disagree,
        "distances": levels.distances.tolist(),
        "has_confidence": all(confidences is not None for _, confidences in columns),
    }


def exploration_read(*, corpus: Corpus, versions: Sequence[Version]) -> Exploration | None:
    """The exploration of two classifiers; None until a worker has made it from their present scores."""
    kept = _read(corpus, versions)
    if kept is None:
        return None
    rows, facts = kept
    return Exploration(
        rows=rows,
        distances=np.array(facts["distances"]),
        n_rows=facts["n_rows"],
        n_disagree=facts["n_disagree"],
        has_confidence=facts["has_confidence"],
    )


def attacks_read(*, corpus: Corpus, versions: Sequence[Version]) -> Attacks | None:
    """The attacks of two quality models; None until a worker has found them from their present scores."""
    kept = _read(corpus, versions)
    if kept is None:
        return None
    rows, facts = kept
    return Attacks(rows=rows, counts=facts["counts"], calibration=facts["calibration"], n_rows=facts["n_rows"])


def _read(corpus: Corpus, versions: Sequence[Version]) -> tuple[np.ndarray, dict[str, Any]] | None:
    found = Scores.objects.filter(corpus=corpus, version__in=versions, state=ScoresState.COMPLETE)
    scores = sorted(found, key=lambda each: each.version_id)
    if len(scores) < 2 or not (_folder(scores) / "facts.json").exists():
        return None
    folder = _folder(scores)
    facts = json.loads((folder / "facts.json").read_bytes())
    return np.load(folder / "rows.npy", mmap_mode="r" if facts["kept"] else None, allow_pickle=False), facts


def tiles(
    corpus: Corpus, found: Exploration, positions: np.ndarray, names: Sequence[str], pair: Sequence[Version]
) -> list[dict[str, Any]]:
    """What the page and the API show of some rows."""
    chosen = found.rows[positions]
    records = records_of(corpus, [int(row) for row in chosen["row"]], ["path", "width"])
    return [
        {
            "row": int(line["row"]),
            "path": record["path"],
            "thumbnail": reverse("corpora:row_thumbnail", args=[corpus.pk, int(line["row"])]),
            "is_tiny": record["width"] < TINY,
            "distance": float(found.distances[line["level"]]),
            "said": [
                {
                    "version": version,
                    "label": int(line[f"class_{side}"]),
                    "class_name": names[int(line[f"class_{side}"])],
                    "confidence": float(line[f"confidence_{side}"]) if found.has_confidence else None,
                }
                for version, side in zip(pair, "ab", strict=True)
            ],
        }
        for line, record in zip(chosen, records, strict=True)
    ]


def pair_ordered(versions: Sequence[Version]) -> list[Version]:
    """The two in the order in which explorations keep them."""
    return sorted(versions, key=lambda version: version.pk)


def _folder(scores: Sequence[Scores]) -> Path:
    """Named by what the exploration was made from."""
    name = "-".join([str(scores[0].corpus_id), *(f"{each.version_id}.{each.digest[:12]}" for each in scores)])
    return Path(settings.VAR_DIR) / "explorations" / name


def _write(folder: Path, rows: np.ndarray, facts: dict[str, Any]) -> None:
    """The facts come last: where they are, the rows are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "rows.npy") as file:
        np.save(file, rows, allow_pickle=False)
    with written_whole(folder / "facts.json") as file:
        file.write(json.dumps({**facts, "kept": len(rows)}).encode())
