"""Adjustable networks in the application: versions, a point made on demand, entrants of a competition."""

import pytest

from accounts.models import User
from competition.models import RoundState
from jobs.inline import run_inline
from models_zoo.models import VersionState
from tests.competition.builders import launch, make_competition, make_pictures_corpus
from training.engine.explore import read_explorer
from training.points import is_adjustable, point_request
from training.services import edition_add, labelled_set_create, run_create

QUICK = {
    "widths": [6, 8], "blocks": [1, 1], "eps": 0.03, "steps": 1, "side": 16, "lambdas": [0, 1], "shares": [0.5, 1],
    "dedicated": [0], "exported": [1], "epochs": 1, "batch": 16, "pad": 1, "most_test": 10, "shown": 2, "code_size": 4,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.django_db
def test_an_adjustable_network_its_points_and_a_plain_one_compete(researcher: User) -> None:
    corpus = make_pictures_corpus(researcher, n=60)
    labels = labelled_set_create(name="pictures", task="classification", taxonomy=corpus.taxonomy, by=researcher)
    edition = edition_add(labelled_set=labels, sources=[{"kind": "corpus", "corpus": corpus.pk}], by=researcher)
    run = run_create(method="oat", by=researcher, inputs={}, edition=edition, config=QUICK, device="cpu")
    run_inline(run.job)
    versions = {output.role: output.version for output in run.outputs.all()}
    assert set(versions) == {"adjustable", "dedicated", "point"}
    assert {version.state for version in versions.values()} == {VersionState.VERIFIED}
    content = read_explorer(run.directory)
    assert content is not None
    assert len(content["points"]) == 4

    adjustable = versions["adjustable"]
    assert is_adjustable(adjustable)
    wanted = point_request(version=adjustable, point={"lam": 0, "width": 0.5}, by=researcher)
    run_inline(wanted.job)
    wanted.refresh_from_db()
    folded = wanted.made
    assert (folded.state, folded.architecture) == (VersionState.VERIFIED, "wide_resnet")
    assert folded.arch_kwargs["widths"] == [3, 4]
    assert list(folded.parents.all()) == [adjustable]
    assert wanted.facts["measured"]["bytes"] == pytest.approx(folded.size_bytes, abs=200)

    entrants = [adjustable, folded, versions["dedicated"], versions["point"]]
    round_ = launch(make_competition(corpus, entrants, by=researcher), by=researcher)
    assert round_.state == RoundState.LABELLING
