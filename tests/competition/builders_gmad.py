"""Small gMAD competitions of predictions files, and people who compare pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from accounts.models import User
from competition import services
from competition.models import Competition
from corpora.models import Corpus
from labeling.models import Trial
from models_zoo.models import Task, Version
from models_zoo.services import model_create, version_add
from tests.models_zoo.builders import checked

N_ROWS = 60
NOISES = [2.0, 15.0, 40.0]  # of three models, in units of the scale
LEVELS = 3


def truth() -> np.ndarray:
    """How good each picture really is, 0 … 100."""
    return np.random.default_rng(7).permutation(np.linspace(0, 100, N_ROWS))


def make_scores(
    corpus: Corpus, folder: Path, *, by: User, name: str, noise: float, lower_is_better: bool = False
) -> Version:
    """A verified predictions version that says the truth with some noise."""
    said = truth() + np.random.default_rng(len(name) + ord(name[-1])).normal(0, noise, N_ROWS)
    return make_column(corpus, folder, -said if lower_is_better else said, by=by, name=name, lower=lower_is_better)


def make_column(
    corpus: Corpus, folder: Path, column: np.ndarray, *, by: User, name: str, lower: bool = False
) -> Version:
    file = folder / f"{name}.csv"
    lines = [f"{row},{value:.6f}" for row, value in enumerate(column.tolist())]
    file.write_text("row,score\n" + "\n".join(lines) + "\n")
    model = model_create(name=name, task=Task.QUALITY, by=by, higher_is_better=not lower)
    return checked(version_add(model=model, label="v1", kind="predictions", by=by, file=file, corpus=corpus))


def make_quality_versions(corpus: Corpus, folder: Path, *, by: User) -> list[Version]:
    """Three, from good to bad; of the second, lower is better."""
    return [
        make_scores(corpus, folder, by=by, name=f"q{at}", noise=noise, lower_is_better=at == 1)
        for at, noise in enumerate(NOISES)
    ]


def make_gmad(corpus: Corpus, versions: list[Version], *, by: User, **settings: Any) -> Competition:
    options = {"levels": LEVELS, "half_width": 12.0} | settings.pop("options", {})
    values: dict[str, Any] = {
        "name": "quality", "kind": "gmad", "control_size": 8, "overlap": 3, "duplicate_distance": None,
        "campaign_options": {"repeat_share": 0.0},
    }  # fmt: skip
    return services.competition_create(corpus=corpus, versions=versions, by=by, options=options, **(values | settings))


def truthful(trial: Trial, person: int) -> tuple[str, dict[str, Any]]:
    """Prefers what is better, by how much it is better; below 5 there is nothing to see. People differ a little."""
    assert trial.second is not None
    gap = truth()[trial.item.row] - truth()[trial.second.row]
    return "answer", {"value": 0 if abs(gap) < 5 else float(np.clip(gap + person, -100, 100).round(1))}
