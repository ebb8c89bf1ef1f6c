"""The demo in which robust and plain classifiers compete."""

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from PIL import Image

from accounts.models import User
from competition.demo import cifar10, robust
from competition.models import Competition, RoundState
from training.models import Run

TINY = (
    "epochs=2", "dense_epochs=1", "prune_epochs=1", "factor_epochs=1", "bits_epochs=1", "standard_epochs=1",
    "most_test=20", "ratios=[0.2]", 'families=["ATMC"]', "lambdas=[0,1]", "exported=[1.0]",
)  # fmt: skip


def archive(path: Path, per_class: int) -> Path:
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for name in cifar10.CLASSES:
            for number in range(per_class):
                content = BytesIO()
                Image.fromarray(rng.integers(60, 200, (32, 32, 3)).astype(np.uint8)).save(content, "PNG")
                entry = tarfile.TarInfo(f"test/{name}/{number:04d}.png")
                entry.size = len(content.getvalue())
                tar.addfile(entry, BytesIO(content.getvalue()))
    return path


def test_every_image_comes_clean_and_under_every_corruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "IMAGES", 20)
    robust.write_corrupted(archive(tmp_path / "test.tar", 3), tmp_path / "out")
    files = sorted((tmp_path / "out" / "frog").iterdir())
    assert [file.name for file in files] == sorted(
        f"{number:04d}_{kind}.png" for number in range(2) for kind in ("clean", *robust.CORRUPTIONS)
    )
    pixels = {file.stem.split("_")[1]: np.asarray(Image.open(file), np.float64) for file in files[:5]}
    assert all(each.shape == (32, 32, 3) for each in pixels.values())
    assert pixels["faint"].std() < 0.5 * pixels["clean"].std()
    assert pixels["noisy"].std() > pixels["clean"].std()
    assert pixels["blurred"].std() < pixels["clean"].std()


@pytest.mark.django_db
def test_what_is_missing_or_wrong_is_said(admin: User, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"train_images_20k.tar is not there: --data must name"):
        call_command("demo", "robust", data=tmp_path)
    with pytest.raises(CommandError, match="--set takes FIELD=JSON"):
        call_command("demo", "robust", "--set", "epochs")


@pytest.mark.slow
@pytest.mark.timeout(900)  # five trainings; about ninety seconds of one core
@pytest.mark.django_db(transaction=True)
def test_versions_of_all_methods_are_asked_about(admin: User, tmp_path: Path, settings: LazySettings) -> None:
    settings.VAR_DIR = tmp_path / "var"
    arguments = ["--k", "1", *(word for pair in TINY for word in ("--set", pair))]
    call_command("demo", "robust", *arguments)
    competition = Competition.objects.get(name="Robust digits")
    round_ = competition.rounds.get()
    assert round_.state == RoundState.LABELLING
    assert round_.campaign is not None
    methods = {entrant.version.run_output.run.method for entrant in competition.entrants.select_related("version")}
    assert methods == {"pgdat", "oat", "rdi", "atmc"}
    call_command("demo", "robust", *arguments)
    assert Run.objects.count() == len(robust.TRAININGS), "what is there already is kept"
