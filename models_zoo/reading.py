"""What upper rooms read of versions and scores: numpy and plain data, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accounts.errors import DomainError
from corpora.models import Taxonomy
from models_zoo.adapters.spec import VersionSpec
from models_zoo.engine.scores import ScoreStore
from models_zoo.models import Scores, ScoresState, Task, Version, VersionKind


def version_spec(version: Version) -> VersionSpec:
    """What the engine needs to know of a version; its file's hash is checked at every load.

    Raises:
        DomainError: for a predictions version and an ensemble, which are no networks.
    """
    if version.kind == VersionKind.PREDICTIONS:
        raise DomainError(f'"{version}" is a predictions file: it holds nothing to run.')
    if version.kind == VersionKind.ENSEMBLE:
        raise DomainError(f'"{version}" is an ensemble: it runs no network of its own, choose one of its members.')
    taxonomy = version.model.taxonomy
    return VersionSpec.from_dict(
        {
            "kind": version.kind,
            "architecture": version.architecture,
            "arch_kwargs": version.arch_kwargs,
            "weights": str(version.path) if version.file else None,
            "sha256": version.sha256 or None,
            "preprocessing": version.preprocessing,
            "num_classes": taxonomy.n_classes if taxonomy else None,
            "outputs": version.outputs,
        }
    )


def score_columns(scores: Scores) -> tuple[np.ndarray, np.ndarray | None]:
    """The two columns of complete scores, memory-mapped.

    Returns:
        classes: (n_rows,) uint16 or uint32; a row that could not be decoded holds the largest value of the type.
        confidences: (n_rows,) float32 in 0..1, or None where the version gave none.

    Raises:
        DomainError: while the scores are incomplete, and for quality scores.
    """
    if scores.version.model.task != Task.CLASSIFICATION:
        raise DomainError(f'"{scores.version}" is a quality model: it gives scores, not classes.')
    classes, confidences = _complete_store(scores).read()
    return classes, confidences if scores.has_confidence else None


def quality_column(scores: Scores) -> np.ndarray:
    """The quality scores as the version gives them: (n_rows,) float32, memory-mapped; NaN where a row has none.

    Raises:
        DomainError: while the scores are incomplete, and for those of a classifier.
    """
    if scores.version.model.task != Task.QUALITY:
        raise DomainError(f'"{scores.version}" is a classifier: it gives classes, no quality scores.')
    (values,) = _complete_store(scores).read()
    return values


def oriented(scores: Scores) -> np.ndarray:
    """The quality scores with higher = better: (n_rows,) float32; NaN where a row has none.

    The memory-mapped column itself, or its negative where the model's card says that lower is better.

    Raises:
        DomainError: as ``quality_column``.
    """
    values = quality_column(scores)
    return values if scores.version.model.higher_is_better else -values


def _complete_store(scores: Scores) -> ScoreStore:
    if scores.state != ScoresState.COMPLETE:
        raise DomainError(f'corpus "{scores.corpus}" has no complete scores of "{scores.version}": run "score" first.')
    return ScoreStore.open(scores.directory)


@dataclass(frozen=True)
class EnsembleMember:
    """A version's share of an ensemble; ``scale``: the four numbers of its calibration, None: scores as they are."""

    version: Version
    weight: float
    scale: tuple[float, float, float, float] | None


def ensemble_members(version: Version) -> list[EnsembleMember]:
    """The members of an ensemble in their order, with ``model__taxonomy``; none for other kinds."""
    if version.kind != VersionKind.ENSEMBLE:
        return []
    said = version.arch_kwargs["members"]
    found = Version.objects.select_related("model__taxonomy").in_bulk([line["version"] for line in said])
    return [
        EnsembleMember(found[line["version"]], line["weight"], tuple(line["scale"]) if line["scale"] else None)
        for line in said
    ]


def passes_of(versions: Sequence[Version]) -> list[Version]:
    """The versions that have to be run so that all of these have scores: ensembles give way to their members."""
    found: dict[int, Version] = {}
    for version in versions:
        for each in [member.version for member in ensemble_members(version)] or [version]:
            found.setdefault(each.pk, each)
    return list(found.values())


def label_space(versions: Sequence[Version]) -> dict[Taxonomy | None, list[Version]]:
    """Versions by the label space that they predict in, in the order given; None: quality models, which have none.

    Needs ``model__taxonomy``.
    """
    spaces: dict[Taxonomy | None, list[Version]] = {}
    for version in versions:
        spaces.setdefault(version.model.taxonomy, []).append(version)
    return spaces


def class_names(taxonomy: Taxonomy | None) -> list[str]:
    """Names by class index; none without a label space."""
    return [] if taxonomy is None else [entry["name"] for entry in taxonomy.classes]
