"""Quality models in the zoo: cards, measures, networks and prediction files, from entry to oriented scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from accounts.errors import DomainError
from accounts.models import User
from corpora.models import Corpus
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo.models import Model, Scores, Version
from models_zoo.reading import oriented, quality_column, score_columns
from models_zoo.services import label_space_require, model_create, model_update, scores_request, version_add
from tests.models_zoo.builders import checked, make_taxonomy
from tests.models_zoo.quality_builders import (
    N_PHOTOGRAPHS as N,
)
from tests.models_zoo.quality_builders import (
    measure_version,
    network_version,
    predicted,
    quality_model,
    rate,
    save_quality_weights,
    scored,
)


def test_a_quality_model_has_a_scale_and_no_label_space(admin: User) -> None:
    model = quality_model(admin, higher_is_better=False, score_low=0, score_high=100)
    assert (model.taxonomy, model.higher_is_better, model.score_low, model.score_high) == (None, False, 0, 100)
    model_update(model=model, by=admin, score_high=None)
    with pytest.raises(DomainError, match="label space: leave it empty"):
        model_create(name="b", task="quality", taxonomy=make_taxonomy(admin), by=admin)
    with pytest.raises(DomainError, match="choose which"):
        model_create(name="c", by=admin)
    with pytest.raises(DomainError, match="has to ascend"):
        quality_model(admin, "d", score_low=5, score_high=1)
    with pytest.raises(DomainError, match="Only a quality model"):
        model_create(name="e", taxonomy=make_taxonomy(admin), score_low=1, by=admin)
    with pytest.raises(IntegrityError), transaction.atomic():
        Model.objects.filter(pk=model.pk).update(taxonomy=make_taxonomy(admin))


def test_a_measure_is_checked_against_the_card(admin: User) -> None:
    version = measure_version(admin, "colourfulness")
    assert (version.state, version.file, version.parameters) == ("verified", "", None)
    assert version.milliseconds is not None
    model = version.model
    for name, said in (("blur_effect", "says the opposite"), ("niqee", "no measure"), ("", "Choose a measure")):
        with pytest.raises(DomainError, match=said):
            version_add(model=model, label="v2", kind="metric", architecture=name, by=admin)
    with pytest.raises(DomainError, match="needs a file of niqe parameters"):
        version_add(
            model=quality_model(admin, "n", higher_is_better=False),
            label="v1",
            kind="metric",
            architecture="niqe",
            by=admin,
        )
    with pytest.raises(DomainError, match="needs a file"):
        version_add(model=model, label="v2", kind="torch", architecture="unique_small", by=admin)
    with pytest.raises(DomainError, match="an architecture for classification"):
        version_add(model=model, label="v2", kind="torch", architecture="resnet18", by=admin, file=Path("x"))


def test_a_measure_without_file_is_deleted_like_any_other(admin: User) -> None:
    from models_zoo.services import version_delete

    version_delete(version=measure_version(admin, "colourfulness"), by=admin)
    assert not Version.objects.exists()


def test_from_versions_to_oriented_scores(photographs: Corpus, admin: User, tmp_path: Path) -> None:
    rising = np.linspace(1.2, 4.8, N).tolist()
    rate(photographs, rising, admin, tmp_path)
    versions = [
        network_version(admin, tmp_path),
        measure_version(admin, "colourfulness"),
        measure_version(admin, "blur_effect", higher=False),
        measure_version(admin, "psnr"),
    ]
    assert [version.state for version in versions] == ["verified"] * 4
    network, colour, blur, psnr = scored(versions, photographs, admin)
    assert (network.n_missing, colour.n_missing, psnr.n_missing) == (2, 0, N)
    assert np.array_equal(np.flatnonzero(np.isnan(quality_column(network))), [5, 12])
    assert network.summary["problems"][0]["rows"] == [5, 12]
    assert psnr.summary["problems"] == [{"reason": "has no reference", "n": N, "rows": list(range(N))}]
    assert np.array_equal(oriented(blur), -quality_column(blur))
    assert isinstance(oriented(colour), np.memmap)
    assert sum(colour.summary["histogram"]) == colour.summary["n_scored"] == N
    expected = _spearman(np.asarray(oriented(blur)), np.array(rising))
    assert blur.srcc == pytest.approx(expected)
    assert psnr.srcc is None
    with pytest.raises(DomainError, match="quality model"):
        score_columns(colour)
    with pytest.raises(DomainError, match="No classifier"):
        label_space_require(versions=versions)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation of ranks, for columns without ties."""
    rank = np.argsort(np.argsort(x)), np.argsort(np.argsort(y))
    return float(np.corrcoef(*rank)[0, 1])


def test_changed_opinions_are_compared_anew(
    photographs: Corpus, admin: User, tmp_path: Path, django_capture_on_commit_callbacks: Any
) -> None:
    (row,) = scored([measure_version(admin, "colourfulness")], photographs, admin)
    assert row.srcc is None
    values = np.asarray(quality_column(row))
    order = np.argsort(np.argsort(values))
    with django_capture_on_commit_callbacks(execute=True):
        rate(photographs, (1 + 4 * order / N).tolist(), admin, tmp_path)
    run_inline(Job.objects.get(kind="models_zoo.correlate"))
    row.refresh_from_db()
    assert row.srcc == pytest.approx(1)
    assert row.krcc == pytest.approx(1)
    assert sum(map(sum, row.summary["opinions"]["grid"])) == N


def test_a_file_of_scores_becomes_scores_at_once(photographs: Corpus, admin: User, tmp_path: Path) -> None:
    file = tmp_path / "given.csv"
    lines = ["path,score", *(f"{number:03d}.png,{number * 10}" for number in range(N - 2)), f"{N - 2:03d}.png,"]
    file.write_text("\n".join(lines))
    model = quality_model(admin, score_low=0, score_high=100)
    version = predicted(model, file, photographs, admin)
    assert version.state == "verified"
    assert version.notes == [
        "gives no score to 2 of 14 images",
        "gives 1 of its scores outside the range on the card (0 to 100)",
    ]
    row = Scores.objects.select_related("version__model").get(version=version)
    values = quality_column(row)
    assert values[:3].tolist() == [0, 10, 20]
    assert np.isnan(values[-2:]).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,score\n000.png,inf", "infinite scores"),
        ("path,score\n000.png,1\n000.png,2", "doubled rows"),
        ("path,score\nelse.png,1", "not in the corpus"),
        ("path,score\n000.png,high", "no number"),
        ("row,score\n99,1", "outside 0..13"),
        ("path\n000.png", 'no column "score"'),
        ("name,score\n000.png,1", 'no column "path" or "row"'),
        ("path,score\n000.png,nan", "not one row has a score"),
        ("row,score\n0,1e300", "beyond what 32 bits hold"),
    ],
)
def test_bad_files_of_scores_are_refused_in_words(
    photographs: Corpus, admin: User, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "bad.csv").write_text(content)
    version = predicted(quality_model(admin), tmp_path / "bad.csv", photographs, admin)
    assert version.state == "refused"
    assert said in version.refusal


def test_scores_come_as_npy_by_row_too(photographs: Corpus, admin: User, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(N, dtype=np.float32))
    np.save(tmp_path / "short.npy", np.arange(N - 1))
    model = quality_model(admin)
    versions = [predicted(model, tmp_path / name, photographs, admin) for name in ("s.npy", "short.npy")]
    assert [version.state for version in versions] == ["verified", "refused"]
    assert "14 rows" in versions[1].refusal


def test_classifiers_and_quality_models_are_not_scored_together(
    photographs: Corpus, version: Version, admin: User
) -> None:
    with pytest.raises(DomainError, match="not scored together"):
        scores_request(versions=[version, measure_version(admin, "colourfulness")], corpus=photographs, by=admin)


def test_networks_that_are_no_quality_networks_are_refused(admin: User, tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, : 3 * 64 * 64].reshape(x.shape[0], 3, 64, 64).mean((1, 2, 3))

    class Classes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    model = quality_model(admin)
    said = {}
    for name, module, free in (("fixed", Fixed(), False), ("classes", Classes(), True)):
        axes = {"x": {0: "n", 2: "h", 3: "w"}} if free else {"x": {0: "n"}}
        file = tmp_path / f"{name}.onnx"
        torch.onnx.export(
            module, (torch.zeros(1, 3, 64, 64),), file, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
        said[name] = checked(version_add(model=model, label=name, kind="onnx", file=file, by=admin)).refusal
    assert "takes images of 64 x 64 alone" in said["fixed"]
    assert "a quality network gives" in said["classes"]


def test_the_commands_enter_and_score_quality(photographs: Corpus, admin: User, tmp_path: Path, capsys: Any) -> None:
    call_command("version_add", "--model", "Blur", "--kind", "metric", "--architecture", "blur_effect", verbosity=0)
    model = Model.objects.get(name="Blur")
    assert (model.task, model.higher_is_better, model.score_low, model.score_high) == ("quality", False, 0, 1)
    weights = save_quality_weights(tmp_path / "w.pt")
    call_command(
        "version_add", str(weights), "--model", "UNIQUE", "--task", "quality", "--architecture", "unique_small",
        "--preprocessing", "whole-imagenet", "--score-low", "-10", verbosity=0,
    )  # fmt: skip
    assert Model.objects.get(name="UNIQUE").score_low == -10
    from_corpus, from_folder, no_database = (tmp_path / f"{name}.csv" for name in "abc")
    call_command("score", "--version", "Blur v1", "--corpus", "photographs", "--out", str(from_corpus), verbosity=0)
    folder = str(tmp_path / "photographs")
    call_command("score", "--version", "Blur v1", "--corpus", folder, "--out", str(from_folder), verbosity=0)
    call_command("score", "--metric", "blur_effect", "--corpus", folder, "--out", str(no_database), verbosity=0)
    assert from_corpus.read_text() == from_folder.read_text() == no_database.read_text()
    header, first, *rest = no_database.read_text().splitlines()
    assert header == "path,score"
    assert first.startswith("000.png,0.")
    assert len(rest) == N - 1
    call_command(
        "score", "--weights", str(weights), "--architecture", "unique_small", "--corpus", folder,
        "--out", str(tmp_path / "d.csv"), verbosity=0,
    )  # fmt: skip
    assert "2 images have no score" in capsys.readouterr().out
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 1 + N - 2
    with pytest.raises(CommandError, match="Give one of"):
        call_command("score", "--corpus", folder, "--out", "x.csv")
