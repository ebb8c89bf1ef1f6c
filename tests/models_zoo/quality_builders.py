"""Pictures of several sizes, quality weights and measures for the tests of quality versions."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from accounts.models import User
from corpora.models import Corpus
from corpora.services import corpus_create, corpus_opinions_import
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo.models import Model, Scores, Version, VersionKind
from models_zoo.services import model_create, scores_request, version_add
from tests.models_zoo.builders import checked

N_PHOTOGRAPHS = 14
SIZES = ((96, 64), (64, 96), (96, 64), (80, 80), (96, 64), (20, 90), (64, 96))  # width and height, in turn


def photograph(number: int, width: int, height: int) -> np.ndarray:
    """A smooth random picture with some noise: uint8 (height, width, 3)."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width] / 16
    waves = [np.sin(x * rng.uniform(0.2, 2) + y * rng.uniform(0.2, 2) + rng.uniform(0, 6)) for _ in range(3)]
    noise = rng.normal(0, 1 + 6 * (number % 5), (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def save_photographs(folder: Path, n: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[str]:
    """``n`` PNG files, sizes in turn; their names in order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}.png" for number in range(n)]
    for number, name in enumerate(names):
        Image.fromarray(photograph(number, *sizes[number % len(sizes)])).save(folder / name)
    return names


def save_quality_weights(file: Path, *, architecture: str = "unique_small", seed: int = 0, **kwargs: Any) -> Path:
    """A freshly initialised quality network whose scores differ well between pictures."""
    import torch

    from models_zoo.architectures import build

    torch.manual_seed(seed)
    module = build(architecture, **kwargs)
    for name, value in module.named_parameters():
        if name == "fc.weight":
            value.data.mul_(30)
    torch.save(module.state_dict(), file)
    return file


def photographs_corpus(by: User, folder: Path) -> Corpus:
    """Fourteen pictures of several sizes, without labels; rows 5 and 12 are too small for networks."""
    save_photographs(folder, N_PHOTOGRAPHS)
    made = corpus_create(name="photographs", source="folder", location=str(folder), by=by)
    run_inline(Job.objects.about(made).get())
    made.refresh_from_db()
    return made


def quality_model(by: User, name: str = "sharp", **values: Any) -> Model:
    return model_create(name=name, task="quality", by=by, **values)


def measure_version(by: User, measure: str, *, higher: bool = True, **values: Any) -> Version:
    model = quality_model(by, measure, higher_is_better=higher)
    return checked(version_add(model=model, label="v1", kind="metric", architecture=measure, by=by, **values))


def network_version(by: User, tmp_path: Path, **values: Any) -> Version:
    weights = save_quality_weights(tmp_path / "unique.pt")
    arguments: dict[str, Any] = {
        "kind": "torch",
        "file": weights,
        "architecture": "unique_small",
        "preprocessing": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    }
    return checked(version_add(model=quality_model(by, "unique"), label="v1", by=by, **(arguments | values)))


def predicted(model: Model, file: Path, corpus: Corpus, by: User) -> Version:
    """A version of a predictions file, labelled with the file's name and checked."""
    return checked(
        version_add(model=model, label=file.name, kind=VersionKind.PREDICTIONS, file=file, corpus=corpus, by=by)
    )


def scored(versions: list[Version], corpus: Corpus, by: User) -> list[Scores]:
    run_inline(scores_request(versions=versions, corpus=corpus, by=by))
    rows = {row.version_id: row for row in Scores.objects.select_related("version__model", "corpus")}
    return [rows[version.pk] for version in versions]


def rate(corpus: Corpus, mos: list[float], by: User, tmp_path: Path) -> None:
    lines = ["path,mos,std,count", *(f"{number:03d}.png,{value},0.5,20" for number, value in enumerate(mos))]
    (tmp_path / "mos.csv").write_text("\n".join(lines))
    corpus_opinions_import(corpus=corpus, file=tmp_path / "mos.csv", by=by, low=1, high=5)
