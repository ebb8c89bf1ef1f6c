"""Labels to target, target to variants, found labels to better ones: the chain of one round, through the services."""

from pathlib import Path

import pytest

from accounts.models import User
from jobs.inline import run_inline
from jobs.models import JobState
from models_zoo.models import Purpose
from tests.training.builders import LEVELS, blur_corpus
from tests.training.test_sets import rating_campaign
from training.models import Run
from training.services import edition_add, labelled_set_create, run_create


def carried_out(run: Run) -> Run:
    job = run_inline(run.job)
    run.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, job.error
    return run


@pytest.mark.django_db
def test_a_target_its_variants_and_their_next_generation(admin: User, tmp_path: Path) -> None:
    corpus = blur_corpus(admin, tmp_path)
    labelled_set = labelled_set_create(name="blur", task="quality", by=admin)
    known = {"kind": "corpus", "corpus": corpus.pk, "contents": [f"t{number}" for number in range(9)]}
    first = edition_add(labelled_set=labelled_set, sources=[known], by=admin, seed=3)
    quick = {"epochs": 8, "crop": 40, "rate": 5e-3}
    trained = carried_out(run_create(method="unique", by=admin, edition=first, config=quick, name="Blur"))
    target = trained.outputs.get().version
    assert (target.state, target.model.task, target.purpose) == ("verified", "quality", Purpose.USE)
    assert trained.report["measures"]["val"]["srcc"]["value"] > 0

    config = {"variants": 2, "tolerance": 0.5}
    pruned = carried_out(run_create(method="prune", by=admin, edition=first, inputs={"target": target}, config=config))
    variants = [output.version for output in pruned.outputs.all()]
    assert [version.purpose for version in variants] == [Purpose.VARIANT] * 2
    assert all(list(version.parents.all()) == [target] for version in variants)

    campaign = rating_campaign(corpus, list(range(9 * LEVELS, 12 * LEVELS)), admin)
    found = {"kind": "campaign", "campaign": campaign.pk, "origin": "found", "split": "train"}
    second = edition_add(labelled_set=labelled_set, sources=[known, found], by=admin, seed=3, based_on=first)
    tuned = carried_out(
        run_create(
            method="finetune",
            by=admin,
            edition=second,
            inputs={"target": target, "variant": variants},
            config={"steps": 4, "crop": 40},
        )
    )
    outputs = {(output.role, output.number): output for output in tuned.outputs.all()}
    assert set(outputs) == {("target", 0), ("variant", 0), ("variant", 1)}
    assert list(outputs["target", 0].version.parents.all()) == [target]
    for number, variant in enumerate(variants):
        output = outputs["variant", number]
        assert list(output.version.parents.all()) == [variant]
        assert output.facts["masks_sha256"] == variant.run_output.facts["masks_sha256"]
        assert output.version.sha256 != variant.sha256
    assert tuned.report["labels"]["found"] == 3 * LEVELS
    assert tuned.report["forgetting"]["cell"] == "test base"
