"""Small corpora, models and weights for the tests of the zoo and of the rooms above it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from accounts.models import User
from corpora.models import Corpus, Taxonomy
from corpora.services import corpus_create, taxonomy_ensure_flat
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo.models import Model, Version
from models_zoo.services import model_create, version_add

NAMES = ["cat", "dog", "ship"]
SIDE = 16


def make_taxonomy(by: User, names: list[str] | None = None) -> Taxonomy:
    return taxonomy_ensure_flat(names=names or NAMES, by=by)


def make_pictures(folder: Path, n: int, *, names: list[str] = NAMES) -> Path:
    """``n`` small PNG pictures in a folder per class, each class in turn."""
    rng = np.random.default_rng(5)
    for number in range(n):
        file = folder / names[number % len(names)] / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
    return folder


def make_corpus(
    by: User, folder: Path, *, n: int = 12, name: str = "pictures", taxonomy: Taxonomy | None = None
) -> Corpus:
    """An imported corpus of small labelled pictures."""
    made = corpus_create(
        name=name,
        source="folder",
        location=str(make_pictures(folder / name, n)),
        by=by,
        taxonomy=taxonomy or make_taxonomy(by),
        options={"labels_from": "folder"},
    )
    run_inline(Job.objects.about(made).get())
    made.refresh_from_db()
    return made


def make_model(by: User, name: str = "tiny", *, taxonomy: Taxonomy | None = None, **values: Any) -> Model:
    return model_create(name=name, taxonomy=taxonomy or make_taxonomy(by), by=by, **values)


def save_weights(file: Path, *, architecture: str = "tiny_cnn", seed: int = 0, prefix: str = "", **kwargs: Any) -> Path:
    """Freshly initialised weights, as a state dict of torch.save or safetensors by the ending."""
    import torch
    from safetensors.torch import save_file

    from models_zoo.architectures import build

    torch.manual_seed(seed)
    module = build(architecture, **{"num_classes": len(NAMES), **kwargs})
    state = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


def make_version(model: Model, folder: Path, *, by: User, label: str = "v1", seed: int = 0, **values: Any) -> Version:
    """A verified tiny_cnn with random weights."""
    file = save_weights(folder / f"{model.name}-{label}.pt".replace(" ", "_"), seed=seed)
    arguments: dict[str, Any] = {
        "kind": "torch",
        "file": file,
        "architecture": "tiny_cnn",
        "preprocessing": {"resize": SIDE, "crop": SIDE},
    }
    return checked(version_add(model=model, label=label, by=by, **(arguments | values)))


def checked(version: Version) -> Version:
    """Run the check of a version that was just added."""
    run_inline(Job.objects.about(version).get(kind="models_zoo.verify"))
    version.refresh_from_db()
    return version


def picture_bytes(size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 40, 90)).save(buffer, kind)
    return buffer.getvalue()
