"""What upper rooms read of versions and scores: numpy and plain data, no torch."""

from collections.abc import Sequence

import numpy as np

from accounts.errors import DomainError
from corpora.models import Taxonomy
from models_zoo.adapters.spec import VersionSpec
from models_zoo.engine.scores import ScoreStore
from models_zoo.models import Scores, ScoresState, Version, VersionKind


def version_spec(version: Version) -> VersionSpec:
    """What the engine needs to know of a version; its file's hash is checked at every load.

    Raises:
        DomainError: for a predictions version, which is no network.
    """
    if version.kind == VersionKind.PREDICTIONS:
        raise DomainError(f'"{version}" is a predictions file: it holds no network to run.')
    return VersionSpec.from_dict(
        {
            "kind": version.kind,
            "architecture": version.architecture,
            "arch_kwargs": version.arch_kwargs,
            "weights": str(version.path),
            "sha256": version.sha256,
            "preprocessing": version.preprocessing,
            "num_classes": version.model.taxonomy.n_classes,
            "outputs": version.outputs,
        }
    )


def score_columns(scores: Scores) -> tuple[np.ndarray, np.ndarray | None]:
    """The two columns of complete scores, memory-mapped.

    Returns:
        classes: (n_rows,) uint16 or uint32; a row that could not be decoded holds the largest value of the type.
        confidences: (n_rows,) float32 in 0..1, or None where the version gave none.

    Raises:
        DomainError: while the scores are incomplete.
    """
    if scores.state != ScoresState.COMPLETE:
        raise DomainError(f'corpus "{scores.corpus}" has no complete scores of "{scores.version}": run "score" first.')
    classes, confidences = ScoreStore.open(scores.directory).read()
    return classes, confidences if scores.has_confidence else None


def label_space(versions: Sequence[Version]) -> dict[Taxonomy, list[Version]]:
    """Versions by the label space that they predict in, in the order given. Needs ``model__taxonomy``."""
    spaces: dict[Taxonomy, list[Version]] = {}
    for version in versions:
        spaces.setdefault(version.model.taxonomy, []).append(version)
    return spaces


def class_names(taxonomy: Taxonomy) -> list[str]:
    """Names by class index."""
    return [entry["name"] for entry in taxonomy.classes]
