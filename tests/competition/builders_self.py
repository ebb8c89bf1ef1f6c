"""A small quality network worth troubleshooting: pictures, a labelled set, and people who see what it does not."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from accounts.models import User
from competition.models import Competition
from corpora import locations
from corpora.models import Corpus
from corpora.services import corpus_create, corpus_opinions_import
from jobs.inline import run_inline
from jobs.models import Job
from labeling.models import Trial
from models_zoo.models import Version, VersionState
from models_zoo.services import model_create, version_add
from tests.competition.builders import committed
from training.labelled import edition_add, labelled_set_create
from training.models import Edition

N_ROWS, N_RATED, SIDE = 72, 40, 48
WIDTHS = {"widths": [4, 8]}
SETTINGS: dict[str, Any] = {"overlap": 3, "control_size": 4, "duplicate_distance": None}
OPTIONS: dict[str, Any] = {
    "variants": 3, "ensembles": 2, "levels": 2, "top": 2, "half_width": 30.0, "budget": 14, "finetune_steps": 4,
}  # fmt: skip


def picture(number: int) -> np.ndarray:
    """uint8 (SIDE, SIDE, 3): a pattern under noise; the later the picture, the more noise."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / 8
    waves = np.stack([np.sin(x * rng.uniform(0.3, 2) + y * rng.uniform(0.3, 2)) for _ in range(3)], axis=-1)
    return np.clip(128 + 90 * waves + rng.normal(0, 1 + 60 * quality(number), waves.shape), 0, 255).astype(np.uint8)


def quality(number: int) -> float:
    """How noisy a picture is, 0 … 1."""
    return float(np.random.default_rng(7).permutation(N_ROWS)[number] / (N_ROWS - 1))


def mos(number: int) -> float:
    """What people say of a picture, 0 … 100."""
    return 100 * (1 - quality(number))


def noisy_corpus(by: User, name: str = "noisy") -> Corpus:
    folder = locations.inbox() / name
    folder.mkdir(parents=True)
    for number in range(N_ROWS):
        Image.fromarray(picture(number)).save(folder / f"{number:03d}.png")
    made = corpus_create(name=name, source="folder", location=str(folder), by=by)
    run_inline(Job.objects.about(made).get())
    made.refresh_from_db()
    lines = ["path,mos,std,count", *(f"{number:03d}.png,{mos(number)},8,20" for number in range(N_RATED))]
    file = locations.inbox() / f"{name}.csv"
    file.write_text("\n".join(lines))
    corpus_opinions_import(corpus=made, file=file, by=by, low=0, high=100)
    made.refresh_from_db()
    return made


def noise_network(by: User, folder: Path) -> Version:
    """A verified little UNIQUE network whose score was fitted to noise, so that it is right about most pictures."""
    import torch

    from models_zoo.architectures import build

    torch.manual_seed(0)
    network = build("unique_small", **WIDTHS).eval()
    rows = torch.from_numpy(np.stack([picture(number) for number in range(N_RATED)])).permute(0, 3, 1, 2) / 255
    head = next(module for module in network.modules() if isinstance(module, torch.nn.Linear))
    seen: list[torch.Tensor] = []
    head.register_forward_hook(lambda module, given, said: seen.append(given[0].detach()))
    with torch.no_grad():
        network(rows)
        features = torch.cat([seen[0], torch.ones(len(rows), 1)], dim=1).double()
        wanted = torch.tensor([mos(number) / 25 - 2 for number in range(N_RATED)]).double()
        ridge = features.T @ features + 1e-3 * torch.eye(features.shape[1]).double()
        solved = torch.linalg.solve(ridge, features.T @ wanted).float()
        head.weight[0], head.bias[0] = solved[:-1], solved[-1]
    file = folder / "noise.pt"
    torch.save(network.state_dict(), file)
    model = model_create(name="noise", task="quality", by=by)
    made = version_add(model=model, label="v1", kind="torch", file=file, architecture="unique_small",
                       arch_kwargs=WIDTHS, by=by)  # fmt: skip
    Version.objects.filter(pk=made.pk).update(state=VersionState.VERIFIED, milliseconds=1.0)
    Job.objects.about(made).delete()
    made.refresh_from_db()
    return made


def labelled(corpus: Corpus, by: User) -> Edition:
    """Its opinions, split by picture: half of them to validate and to test on."""
    labelled_set = labelled_set_create(name=f"opinions of {corpus}", task="quality", by=by)
    sources = [{"kind": "corpus", "corpus": corpus.pk}]
    return edition_add(labelled_set=labelled_set, sources=sources, by=by, fractions=(0.5, 0.25, 0.25))


def begin(version: Version, corpus: Corpus, edition: Edition, *, by: User, **settings: Any) -> Competition:
    """Troubleshoot, as if the transaction had committed."""
    from competition.troubleshooting import troubleshoot

    options = settings.pop("options", OPTIONS)
    values = {**SETTINGS, **settings}
    return committed(troubleshoot, version=version, corpus=corpus, edition=edition, by=by, options=options, **values)


def seen(trial: Trial, person: int) -> tuple[str, dict[str, Any]]:
    """What a person says of a picture: how good it is, people differing a little."""
    return "answer", {"value": float(np.clip(mos(trial.item.row) + 2 * person - 2, 0, 100).round(1))}
