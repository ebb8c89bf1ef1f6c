"""Compressed networks in the application: versions from compact files, and entrants of a competition."""

from pathlib import Path

import pytest

from accounts.models import User
from competition.models import RoundState
from jobs.inline import run_inline
from models_zoo.models import VersionState
from tests.competition.builders import launch, make_competition, make_pictures_corpus
from training.engine.explore import read_explorer
from training.services import edition_add, labelled_set_create, run_create

QUICK = {
    "architecture": "tiny_cnn", "widths": [6, 8], "eps": 0.03, "steps": 1, "side": 16, "ratios": [0.3], "bits": [3],
    "families": ["DA", "ATMC"], "dense_epochs": 1, "prune_epochs": 1, "factor_epochs": 1, "bits_epochs": 1, "batch": 16,
    "pad": 1, "most_test": 10,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.django_db
def test_a_compressed_network_and_its_teacher_compete(researcher: User, tmp_path: Path) -> None:
    corpus = make_pictures_corpus(researcher, n=60)
    labels = labelled_set_create(name="pictures", task="classification", taxonomy=corpus.taxonomy, by=researcher)
    edition = edition_add(labelled_set=labels, sources=[{"kind": "corpus", "corpus": corpus.pk}], by=researcher)
    run = run_create(method="atmc", by=researcher, inputs={}, edition=edition, config=QUICK, device="cpu")
    run_inline(run.job)
    versions = {output.version.label: output.version for output in run.outputs.all()}
    assert {version.state for version in versions.values()} == {VersionState.VERIFIED}
    small = next(version for label, version in versions.items() if "ATMC-3 0.3" in label)
    large = next(version for version in versions.values() if version != small)
    assert small.file.endswith(".compact")
    assert small.size_bytes == run.outputs.get(version=small).facts["measured"]["bytes"] < large.size_bytes / 2
    assert read_explorer(run.directory)["points"]
    round_ = launch(make_competition(corpus, [large, small], by=researcher), by=researcher)
    assert round_.state == RoundState.LABELLING
