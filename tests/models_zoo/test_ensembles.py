"""Ensembles: mixed from what their members said, without a pass of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accounts.errors import DomainError
from accounts.models import User
from corpora.models import Corpus
from jobs.inline import run_inline
from models_zoo import running
from models_zoo.engine.ensembles import calibrate, mix_scores, mix_votes
from models_zoo.engine.scores import missing_class
from models_zoo.forms import CompareForm
from models_zoo.models import Model, Scores, Version, VersionState
from models_zoo.reading import oriented, passes_of, quality_column, score_columns, version_spec
from models_zoo.services import ensemble_add, scores_request, version_add, version_delete, version_recheck
from tests.models_zoo.builders import SIDE, make_corpus, make_model, save_weights
from tests.models_zoo.quality_builders import photographs_corpus, quality_model, save_quality_weights

pytestmark = pytest.mark.django_db
SCALE = (92.5, 4.25, 0.3, 0.7)


@pytest.fixture
def corpus(admin: User, tmp_path: Path) -> Corpus:
    return photographs_corpus(admin, tmp_path / "pictures")


@pytest.fixture
def networks(admin: User, tmp_path: Path) -> list[Version]:
    model = quality_model(admin, "unique")
    files = [save_quality_weights(tmp_path / f"{seed}.pt", seed=seed) for seed in range(3)]
    purposes = ("use", "variant", "variant")
    return [added(model, file, admin, purpose) for file, purpose in zip(files, purposes, strict=True)]


def added(model: Model, file: Path, by: User, purpose: str = "use", **how: Any) -> Version:
    """A network that counts as checked; checks have tests of their own."""
    how = {"architecture": "unique_small"} | how
    made = version_add(model=model, label=file.stem, kind="torch", file=file, by=by, purpose=purpose, **how)
    Version.objects.filter(pk=made.pk).update(state=VersionState.VERIFIED)
    made.refresh_from_db()
    return made


def ensemble(
    by: User, versions: list[Version], weights: list[float], scale: Any = SCALE, label: str = "mix"
) -> Version:
    members = [(version, weight, scale) for version, weight in zip(versions, weights, strict=True)]
    return ensemble_add(model=versions[0].model, label=label, by=by, members=members)


def score(versions: list[Version], corpus: Corpus, by: User) -> dict[int, Scores]:
    run_inline(scores_request(versions=versions, corpus=corpus, by=by))
    return {row.version_id: row for row in Scores.objects.select_related("version__model", "corpus")}


def test_one_member_with_weight_one_says_what_the_member_says(
    admin: User, corpus: Corpus, networks: list[Version]
) -> None:
    plain = ensemble(admin, networks[:1], [1.0], None, "plain")
    scaled = ensemble(admin, networks[:1], [1.0])
    rows = score([plain, scaled], corpus, admin)

    member = quality_column(rows[networks[0].pk])
    np.testing.assert_array_equal(quality_column(rows[plain.pk]), member)
    np.testing.assert_array_equal(quality_column(rows[scaled.pk]), calibrate(member, SCALE).astype(np.float32))


def test_ensembles_cost_no_pass_of_their_own(
    admin: User, corpus: Corpus, networks: list[Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []
    import models_zoo.engine.quality as engine

    original = engine.score_quality

    def counted(source: Any, specs: Any, *args: Any, **kwargs: Any) -> Any:
        passes.extend(spec.sha256 for spec in specs)
        return original(source, specs, *args, **kwargs)

    monkeypatch.setattr(engine, "score_quality", counted)
    mixed = [ensemble(admin, networks[1:], [0.25 + 0.1 * at, 0.75 - 0.1 * at], label=f"mix {at}") for at in range(4)]

    rows = score([networks[0], *mixed], corpus, admin)

    assert sorted(passes) == sorted(version.sha256 for version in networks), "target and two variants: three passes"
    assert len({rows[version.pk].digest for version in mixed}) == 4
    expected = 0.25 * calibrate(quality_column(rows[networks[1].pk]), SCALE) + 0.75 * calibrate(
        quality_column(rows[networks[2].pk]), SCALE
    )
    np.testing.assert_allclose(quality_column(rows[mixed[0].pk]), expected, rtol=1e-6)
    assert np.isnan(quality_column(rows[mixed[0].pk])[[5, 12]]).all(), "what a member could not score has no score"
    assert rows[mixed[0].pk].n_missing == 2


def test_members_that_point_down_make_an_ensemble_that_points_down(admin: User, corpus: Corpus, tmp_path: Path) -> None:
    down = quality_model(admin, "blur", higher_is_better=False)
    member = added(down, save_quality_weights(tmp_path / "down.pt", seed=4), admin)
    mixed = ensemble(admin, [member], [1.0])
    rows = score([mixed], corpus, admin)

    expected = calibrate(oriented(rows[member.pk]), SCALE).astype(np.float32)
    np.testing.assert_array_equal(oriented(rows[mixed.pk]), expected)


def test_a_vote_goes_to_the_class_with_most_confidence(admin: User, tmp_path: Path) -> None:
    corpus = make_corpus(admin, tmp_path)
    model = make_model(admin)
    files = [save_weights(tmp_path / f"{seed}.pt", seed=seed) for seed in range(3)]
    fed = {"architecture": "tiny_cnn", "preprocessing": {"resize": SIDE, "crop": SIDE}}
    versions = [added(model, file, admin, **fed) for file in files]
    mixed = ensemble(admin, versions, [0.5, 0.3, 0.2], None)
    rows = score([mixed], corpus, admin)

    said = [score_columns(rows[version.pk]) for version in versions]
    classes, confidences = score_columns(rows[mixed.pk])
    assert confidences is not None
    for row in range(corpus.n_rows):
        votes: dict[int, float] = {}
        for weight, (labels, sure) in zip((0.5, 0.3, 0.2), said, strict=True):
            assert sure is not None
            votes[int(labels[row])] = votes.get(int(labels[row]), 0.0) + weight * float(sure[row])
        assert classes[row] == max(votes, key=lambda label: votes[label])
        assert confidences[row] == np.float32(votes[int(classes[row])])


def test_a_row_that_a_voter_could_not_read_has_no_answer() -> None:
    none = missing_class(np.dtype(np.uint16))
    classes, sure = mix_votes(
        [np.array([1, none], np.uint16), np.array([2, 2], np.uint16)], [np.ones(2), np.ones(2)], [0.5, 0.5]
    )
    assert classes.tolist() == [1, none], "of equal votes the first member's"
    assert sure.tolist() == [0.5, 0.0]


def test_mixing_equals_a_slow_mean() -> None:
    rng = np.random.default_rng(3)
    columns = [rng.normal(size=50).astype(np.float32) for _ in range(3)]
    scales = [(90.0, 5.0, 0.1, 1.0), (80.0, 1.0, -0.4, 0.5), (99.0, 0.0, 0.0, 2.0)]
    mixed = mix_scores(columns, [0.2, 0.3, 0.5], scales)
    for row in range(50):
        expected = sum(
            weight * ((b1 - b2) / (1 + np.exp(-(float(column[row]) - b3) / b4)) + b2)
            for column, weight, (b1, b2, b3, b4) in zip(columns, (0.2, 0.3, 0.5), scales, strict=True)
        )
        assert mixed[row] == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_mixed_is_refused(admin: User, networks: list[Version]) -> None:
    with pytest.raises(DomainError, match=r"sum to 0\.9"):
        ensemble(admin, networks[:2], [0.5, 0.4])
    with pytest.raises(DomainError, match="above 0"):
        ensemble(admin, networks[:2], [1.5, -0.5])
    with pytest.raises(DomainError, match="twice"):
        ensemble(admin, [networks[0], networks[0]], [0.5, 0.5])
    with pytest.raises(DomainError, match="others have none"):
        ensemble_add(model=networks[0].model, label="half", by=admin,
                     members=[(networks[0], 0.5, SCALE), (networks[1], 0.5, None)])  # fmt: skip
    Version.objects.filter(pk=networks[1].pk).update(state=VersionState.CHECKING)
    networks[1].refresh_from_db()
    with pytest.raises(DomainError, match="not verified"):
        ensemble(admin, networks[:2], [0.5, 0.5])


def test_an_ensemble_is_verified_at_once_and_keeps_its_members(admin: User, networks: list[Version]) -> None:
    mixed = ensemble(admin, networks[:2], [0.5, 0.5])

    assert mixed.state == VersionState.VERIFIED
    assert mixed.purpose == "ensemble"
    assert set(mixed.parents.all()) == set(networks[:2])
    assert passes_of([mixed, networks[0]]) == networks[:2]
    with pytest.raises(DomainError, match="runs no network of its own"):
        version_spec(mixed)
    with pytest.raises(DomainError, match="made from it"):
        version_delete(version=networks[0], by=admin)
    with pytest.raises(DomainError, match="not refused"):
        version_recheck(version=mixed, by=admin)


def test_lists_leave_out_what_troubleshooting_made(client: Any, admin: User, networks: list[Version]) -> None:
    mixed = ensemble(admin, networks[:2], [0.5, 0.5])
    client.force_login(admin)

    listed = list(CompareForm(user=admin).fields["first"].queryset)  # type: ignore[attr-defined]
    assert listed == networks[:1]
    page = client.get(mixed.model.get_absolute_url()).content.decode()
    assert "3 versions made for troubleshooting" in page
    shown = client.get(mixed.get_absolute_url()).content.decode()
    assert "Ensemble of variants for troubleshooting" in shown
    assert "weight 0.500" in shown
    assert "Try it on a picture" not in shown
    assert client.get(networks[1].get_absolute_url()).content.decode().count("Pruned variant") >= 1


def test_mixing_goes_on_after_a_kill(
    admin: User, corpus: Corpus, networks: list[Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = ensemble(admin, networks, [0.5, 0.25, 0.25])
    with monkeypatch.context() as patch:
        patch.setattr(running, "scores_complete", lambda **_: (_ for _ in ()).throw(MemoryError("gone")))
        with pytest.raises(DomainError):
            score([mixed], corpus, admin)
    again = score([mixed], corpus, admin)[mixed.pk].digest
    other = ensemble(admin, networks, [0.5, 0.25, 0.25], label="undisturbed")
    assert np.array_equal(
        quality_column(score([other], corpus, admin)[other.pk]),
        quality_column(Scores.objects.select_related("version__model", "corpus").get(version=mixed)),
        equal_nan=True,
    )
    assert again
