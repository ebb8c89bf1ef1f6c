"""A round that breaks off at any step ends like one that did not: same ensembles, pairs, questions and figures."""

from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from competition import exports, learning, rounds, services
from competition.kinds.self_gmad import selecting
from competition.kinds.troubleshooting import preparing
from competition.models import Competition, Round, RoundState, Snapshot
from jobs.inline import run_all_inline
from labeling.models import Campaign
from models_zoo.reading import ensemble_members
from tests.competition.builders import committed, label_all, work
from tests.competition.builders_self import begin, labelled, noise_network, noisy_corpus, seen
from training.models import Edition, Run

pytestmark = pytest.mark.django_db
BREAKS = [(preparing, "_calibrated"), (preparing, "_enter"), (selecting, "_keep"), (rounds, "_ask")]


def broken_once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """The next work of the queue ends in an error just after this function."""
    original = getattr(module, name)

    def breaks(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        raise OSError("the power went off")

    with monkeypatch.context() as patch:
        patch.setattr(module, name, breaks)
        committed(run_all_inline)


def amounts_to(competition: Competition) -> tuple[Any, ...]:
    """What a competition is, without database ids, names that hold such, and times."""
    hidden = {"exhibit", "trial", "settled_at", "attacker", "defender", "predictions"}
    pairs = [
        {name: value for name, value in row.items() if name not in hidden} for row in exports.pair_rows(competition)
    ]
    campaign = Campaign.objects.get(rounds__competition=competition)
    trials = list(campaign.trials.order_by("position").values_list("position", "item__row", "kind"))
    ensembles = [
        [(member.version.sha256, member.weight, member.scale) for member in ensemble_members(entrant.version)]
        for entrant in competition.entrants.order_by("number")
    ]
    return pairs, trials, ensembles, Snapshot.objects.filter(competition=competition).latest("number").digest


@pytest.mark.slow
def test_breaking_off_anywhere_changes_nothing(
    var_dir: Path, researcher: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, target = noisy_corpus(researcher), noise_network(researcher, tmp_path)
    edition = labelled(corpus, researcher)
    outcomes = []
    for disturbed in (False, True):
        competition = begin(target, corpus, edition, by=researcher, name=f"disturbed: {disturbed}")
        for module, name in BREAKS if disturbed else ():
            broken_once(monkeypatch, module, name)
            round_ = competition.rounds.get()
            assert (round_.state, round_.error) == (RoundState.FAILED, "the power went off"), name
            committed(services.round_retry, round=round_, by=researcher)
        work()
        label_all(Campaign.objects.get(rounds__competition=competition), judge=seen)
        work()
        round_ = competition.rounds.get()
        assert round_.state == RoundState.COMPLETE
        outcomes.append(amounts_to(competition))
    assert outcomes[0] == outcomes[1]
    assert Run.objects.filter(method="prune").count() == 2, "one for each competition"

    _break_learning(round_, researcher, monkeypatch)


def _break_learning(round_: Round, researcher: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning that breaks off is asked for again, and neither labels nor trains twice."""
    committed(learning.round_learn, round=round_, by=researcher)
    broken_once(monkeypatch, learning, "_learning_run")
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    assert "power" in round_.error
    committed(learning.round_learn, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    assert learning.has_learnt(round_)
    assert round_.error == ""
    assert Run.objects.filter(method="finetune").count() == 1
    assert Edition.objects.exclude(labelled_set__name__startswith="opinions").count() == 1
