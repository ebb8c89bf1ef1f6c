"""Troubleshooting a classifier: one round, from pruning to the new target."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accounts.models import User
from competition import learning, services
from competition.models import Competition, Duel, Exhibit, ExhibitRole, RoundState, Snapshot
from corpora import locations
from corpora.models import Corpus
from models_zoo.models import Version, VersionState
from models_zoo.services import version_add
from tests.competition.builders import NAMES, committed, label_all, make_pictures_corpus, work
from tests.competition.builders_self import begin
from tests.models_zoo.builders import SIDE, make_model
from training.labelled import edition_add, labelled_set_create
from training.models import Edition

pytestmark = pytest.mark.django_db
N_LABELLED = 36
OPTIONS: dict[str, Any] = {"variants": 2, "ensembles": 2, "budget": 10, "finetune_steps": 2}


@pytest.fixture
def corpus(var_dir: Path, researcher: User) -> Corpus:
    return make_pictures_corpus(researcher)


@pytest.fixture
def target(corpus: Corpus, researcher: User, tmp_path: Path) -> Version:
    """A little network with random weights, its answers spread over the classes, so that pruning changes some."""
    model = make_model(researcher, taxonomy=corpus.taxonomy)
    file = spread_weights(tmp_path / "tiny.pt", locations.inbox() / corpus.name)
    made = version_add(model=model, label="v1", kind="torch", file=file, architecture="tiny_cnn", by=researcher,
                       preprocessing={"resize": SIDE, "crop": SIDE})  # fmt: skip
    Version.objects.filter(pk=made.pk).update(state=VersionState.VERIFIED, milliseconds=1.0)
    made.refresh_from_db()
    return made


@pytest.fixture
def edition(corpus: Corpus, researcher: User) -> Edition:
    labelled_set = labelled_set_create(name="labels", task="classification", by=researcher, taxonomy=corpus.taxonomy)
    source = {"kind": "corpus", "corpus": corpus.pk, "rows": list(range(N_LABELLED))}
    return edition_add(labelled_set=labelled_set, sources=[source], by=researcher, fractions=(0.5, 0.25, 0.25))


def spread_weights(file: Path, pictures: Path) -> Path:
    """Random weights whose last layer takes away the mean of what it sees of the pictures."""
    import torch
    from PIL import Image

    from models_zoo.architectures import build

    torch.manual_seed(0)
    network = build("tiny_cnn", num_classes=len(NAMES)).eval()
    rows = np.stack([np.asarray(Image.open(each).convert("RGB")) for each in sorted(pictures.rglob("*.png"))])
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    head.register_forward_hook(lambda module, given, said: seen.append(given[0]))
    with torch.no_grad():
        network(torch.from_numpy(rows).permute(0, 3, 1, 2) / 255)
        spread = (seen[0] - seen[0].mean(dim=0)).std(dim=0).clamp(min=1e-4)
        head.weight.copy_(torch.randn_like(head.weight) / spread)
        head.bias.copy_(-head.weight @ seen[0].mean(dim=0))
    torch.save(network.state_dict(), file)
    return file


def test_a_classifier_is_troubleshot_and_learns(
    target: Version, corpus: Corpus, edition: Edition, researcher: User, client: Any
) -> None:
    competition = begin(target, corpus, edition, by=researcher, options=OPTIONS, k=5, threshold=0.0)
    work()
    round_ = competition.rounds.select_related("campaign").get()
    assert (round_.state, round_.error) == (RoundState.LABELLING, "")
    duels = list(Duel.objects.filter(round=round_).select_related("first__version", "second__version"))
    assert {duel.first.version for duel in duels} == {target}, "the target meets every ensemble, and nobody else meets"
    assert {duel.second.version.purpose for duel in duels} == {"ensemble"}
    asked = Exhibit.objects.filter(round=round_).values_list("item__row", flat=True)
    assert min(asked) >= N_LABELLED, "nothing that is labelled already is asked about"

    label_all(round_.campaign)
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    found = Snapshot.objects.filter(round=round_).order_by("-number")[0].matrices
    selected = Exhibit.objects.filter(round=round_, role=ExhibitRole.SELECTED, right_first__isnull=False)
    assert found["failures"]["n"] == selected.count()
    assert found["failures"]["k"] == selected.filter(right_first=False).count()
    assert 0 <= found["control"]["new"]["accuracy"]["value"] <= 1

    committed(learning.round_learn, round=round_, by=researcher)
    work()
    round_.refresh_from_db()
    assert (round_.state, round_.error) == (RoundState.COMPLETE, "")
    committed(services.round_start, competition=competition, by=researcher)
    work()
    second = competition.rounds.get(number=2)
    assert second.state in {RoundState.LABELLING, RoundState.SETTLING, RoundState.COMPLETE}
    client.force_login(researcher)
    page = client.get(competition.get_absolute_url()).content.decode()
    assert "Accuracy over the rounds" in page
    assert client.get(f"{competition.get_absolute_url()}exhibits/").status_code == 200
    assert client.get(f"{competition.get_absolute_url()}setup/").status_code == 200
    assert np.isfinite(found["failures"]["rate"])
    assert Competition.objects.get().kind == "self_mad"
