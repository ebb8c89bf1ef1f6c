"""Models and versions: what is let in, what is refused and why."""

import pickle  # noqa: TID251  # to make what must be refused
from pathlib import Path

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.errors import Conflict, DomainError
from accounts.models import User
from corpora.models import Corpus
from corpora.reading import manifest_of
from jobs.inline import run_inline
from models_zoo.models import Model, Scores, Version
from models_zoo.reading import score_columns
from models_zoo.services import (
    label_space_require,
    model_create,
    scores_request,
    version_add,
    version_delete,
    version_recheck,
)
from tests.models_zoo.builders import NAMES, SIDE, checked, make_model, make_taxonomy, make_version, save_weights


def test_a_version_is_stored_by_content_checked_and_measured(admin: User, model: Model, tmp_path: Path, var_dir: Path):
    weights = save_weights(tmp_path / "my weights.pt", prefix="module.")
    version = version_add(
        model=model,
        label="v1",
        kind="torch",
        by=admin,
        file=SimpleUploadedFile("my weights.pt", weights.read_bytes()),
        architecture="tiny_cnn",
        preprocessing={"resize": SIDE, "crop": SIDE},
    )
    assert version.state == "checking"
    assert (var_dir / version.file).read_bytes() == weights.read_bytes()
    assert version.path.name == f"{version.sha256}.pt"
    version = checked(version)
    assert version.state == "verified", version.refusal
    assert version.arch_kwargs["num_classes"] == len(NAMES)
    assert version.parameters > 20_000
    assert version.macs > 0
    assert version.milliseconds > 0


def test_scores_are_complete_and_accuracy_is_that_of_the_columns(admin: User, corpus: Corpus, version: Version):
    run_inline(scores_request(versions=[version], corpus=corpus, by=admin))
    scores = Scores.objects.get(version=version, corpus=corpus)
    classes, confidences = score_columns(scores)
    assert scores.state == "complete"
    assert len(classes) == len(confidences) == corpus.n_rows == 12
    labels = manifest_of(corpus).column("label")
    assert scores.accuracy == pytest.approx(float((classes == labels).mean()))
    assert sum(scores.summary["predicted"]) == 12
    assert scores.images_per_second > 0


def add(model: Model, by: User, file: Path, **values):
    """Add with the usual arguments of a tiny_cnn."""
    usual = {
        "label": "v1",
        "kind": "torch",
        "architecture": "tiny_cnn",
        "preprocessing": {"resize": SIDE, "crop": SIDE},
    }
    return version_add(model=model, by=by, file=file, **(usual | values))


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/falsify-was-here"),))


def test_a_pickle_posing_as_weights_is_refused_before_it_is_stored(
    admin: User, model: Model, tmp_path: Path, var_dir: Path
):
    file = tmp_path / "resnet.pt"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DomainError, match="plain pickle, which can run code"):
        add(model, admin, file)
    assert not list((var_dir / "weights").iterdir())
    assert not Version.objects.exists()


@pytest.mark.parametrize("old_layout", [True, False])
def test_a_checkpoint_that_wants_to_run_code_is_refused_and_not_run(
    admin: User, model: Model, tmp_path: Path, old_layout: bool
):
    import torch

    file = tmp_path / "resnet.pt"
    torch.save({"weights": Bomb()}, file, _use_new_zipfile_serialization=not old_layout)
    version = checked(add(model, admin, file))
    assert version.state == "refused"
    assert "resnet.pt" in version.refusal
    assert "not executed" in version.refusal
    assert not Path("/tmp/falsify-was-here").exists()


def test_weights_for_another_architecture_are_refused_with_the_first_tensors_that_differ(
    admin: User, model: Model, tmp_path: Path
):
    file = save_weights(tmp_path / "wide.pt", widths=[8, 8])
    version = checked(add(model, admin, file))
    assert version.state == "refused"
    assert "wide.pt" in version.refusal
    assert 'do not fit architecture "tiny_cnn"' in version.refusal
    assert "features" in version.refusal


def test_weights_with_another_number_of_classes_are_refused(admin: User, model: Model, tmp_path: Path):
    file = save_weights(tmp_path / "ten.pt", num_classes=10)
    version = checked(add(model, admin, file, arch_kwargs={"num_classes": 10}))
    assert version.state == "refused"
    assert "10 classes" in version.refusal
    assert "3" in version.refusal


def save_onnx(file: Path, n_outputs: int, *, flat: bool = True) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((3, n_outputs), np.float32), "weight")
    nodes = [helper.make_node("GlobalAveragePool", ["image"], ["pooled"])]
    if flat:
        nodes += [
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["out"]),
        ]
    else:
        nodes += [helper.make_node("Identity", ["pooled"], ["out"])]
    shape = ["n", n_outputs] if flat else ["n", 3, 1, 1]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [weight] if flat else [],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def test_an_onnx_file_is_accepted(admin: User, model: Model, tmp_path: Path):
    version = checked(add(model, admin, save_onnx(tmp_path / "net.onnx", 3), kind="onnx"))
    assert version.state == "verified", version.refusal


@pytest.mark.parametrize(("n_outputs", "flat", "words"), [(7, True, "7 classes"), (3, False, "output")])
def test_an_onnx_file_with_the_wrong_output_is_refused(
    admin: User, model: Model, tmp_path: Path, n_outputs: int, flat: bool, words: str
):
    version = checked(add(model, admin, save_onnx(tmp_path / "net.onnx", n_outputs, flat=flat), kind="onnx"))
    assert version.state == "refused"
    assert words in version.refusal


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "torch", "is empty"),
        (b"\x00\x01\x02 nonsense", "torch", "no known type"),
        (b"PK\x03\x04 cut off", "torch", "damaged or truncated zip"),
        (b"PAR1 cut off", "predictions", "truncated Parquet"),
        (b"path,class\n", "torch", "CSV table, not"),
        (b"\x89HDF\r\n\x1a\n", "torch", "HDF5"),
    ],
)
def test_files_that_are_something_else_say_what_they_are(
    admin: User, model: Model, corpus: Corpus, tmp_path: Path, content: bytes, kind: str, words: str
):
    file = tmp_path / "weights.bin"
    file.write_bytes(content)
    with pytest.raises(DomainError, match=words) as caught:
        add(model, admin, file, kind=kind, corpus=corpus)
    assert caught.value.field == "file"


def test_an_upload_over_the_limit_leaves_nothing_behind(
    admin: User, model: Model, tmp_path: Path, settings, var_dir: Path
):
    settings.UPLOAD_LIMIT_BYTES = 1000
    with pytest.raises(DomainError, match="larger than"):
        add(model, admin, save_weights(tmp_path / "w.pt"))
    assert not list((var_dir / "weights").iterdir())


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"architecture": "resnet5"}, "architecture", "did you mean"),
        ({"architecture": ""}, "architecture", "choose one"),
        ({"preprocessing": {"mean": [0, 0]}}, "preprocessing", "2 values for 3 channels"),
        ({"preprocessing": {"colour": 1}}, "preprocessing", "unknown entry 'colour'"),
        ({"label": "  "}, "label", "no label"),
        ({"kind": "predictions"}, "corpus", "choose which"),
    ],
)
def test_a_description_that_makes_no_sense_names_its_field(
    admin: User, model: Model, tmp_path: Path, values: dict, field: str, words: str
):
    with pytest.raises(DomainError, match=words) as caught:
        add(model, admin, save_weights(tmp_path / "w.pt"), **values)
    assert caught.value.field == field


def test_a_label_is_taken_once_and_names_are_unique(admin: User, model: Model, version: Version, tmp_path: Path):
    with pytest.raises(DomainError, match="already"):
        add(model, admin, save_weights(tmp_path / "w.pt"), label="v1")
    with pytest.raises(DomainError, match="already"):
        model_create(name=" tiny ", taxonomy=model.taxonomy, by=admin)


def test_a_stored_file_that_changed_is_never_used(admin: User, corpus: Corpus, version: Version):
    version.path.chmod(0o644)
    version.path.write_bytes(version.path.read_bytes() + b"!")
    with pytest.raises(DomainError, match="sha256"):
        run_inline(scores_request(versions=[version], corpus=corpus, by=admin))
    assert Scores.objects.get().state == "partial"


def test_a_check_that_breaks_off_refuses_the_version_and_can_be_repeated(
    admin: User, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jobs.models import Job
    from models_zoo import running

    with monkeypatch.context() as broken:
        broken.setattr(running, "_network_verify", lambda version: 1 / 0)
        version = add(model, admin, save_weights(tmp_path / "w.pt"))
        with pytest.raises(DomainError):
            run_inline(Job.objects.about(version).get())
    version.refresh_from_db()
    assert version.state == "refused"
    assert "Check it again" in version.refusal
    run_inline(version_recheck(version=version, by=admin))
    version.refresh_from_db()
    assert version.state == "verified"
    with pytest.raises(Conflict, match="was not refused"):
        version_recheck(version=version, by=admin)


def test_a_version_with_scores_stays_and_an_unused_one_goes_with_its_file(
    admin: User, corpus: Corpus, version: Version, model: Model, tmp_path: Path
):
    run_inline(scores_request(versions=[version], corpus=corpus, by=admin))
    with pytest.raises(Conflict, match="has scores"):
        version_delete(version=version, by=admin)
    assert version.path.exists()
    other = make_version(model, tmp_path, by=admin, label="v2", seed=1)
    file = other.path
    version_delete(version=other, by=admin)
    assert not file.exists()


def test_two_versions_of_one_file_share_it_until_both_are_gone(admin: User, model: Model, tmp_path: Path):
    file = save_weights(tmp_path / "w.pt")
    first, second = (checked(add(model, admin, file, label=label)) for label in "ab")
    assert first.path == second.path
    version_delete(version=first, by=admin)
    assert second.path.exists()


def test_different_label_spaces_are_named(admin: User, version: Version, tmp_path: Path):
    letters = make_model(admin, "letters", taxonomy=make_taxonomy(admin, ["a", "b", "c"]))
    other = make_version(letters, tmp_path, by=admin, label="v1")
    assert label_space_require(versions=[version]) == version.model.taxonomy
    with pytest.raises(DomainError, match="different label spaces") as caught:
        label_space_require(versions=[version, other])
    assert "tiny v1" in str(caught.value)
    assert "letters v1" in str(caught.value)


def test_scoring_twice_does_nothing_and_several_versions_share_a_job(
    admin: User, corpus: Corpus, version: Version, model: Model, tmp_path: Path
):
    other = make_version(model, tmp_path, by=admin, label="v2", seed=1)
    run_inline(scores_request(versions=[version, other], corpus=corpus, by=admin))
    before = {row.pk: (row.digest, row.completed_at) for row in Scores.objects.all()}
    assert len(before) == 2
    assert len({digest for digest, _ in before.values()}) == 2
    run_inline(scores_request(versions=[version, other], corpus=corpus, by=admin))
    assert {row.pk: (row.digest, row.completed_at) for row in Scores.objects.all()} == before


def test_an_unverified_version_cannot_score(admin: User, corpus: Corpus, model: Model, tmp_path: Path):
    version = add(model, admin, save_weights(tmp_path / "w.pt"))
    with pytest.raises(DomainError, match="being checked"):
        scores_request(versions=[version], corpus=corpus, by=admin)


def test_scores_say_what_a_slow_loop_over_the_pictures_says(
    admin: User, corpus: Corpus, version: Version, tmp_path: Path
):
    import torch
    from PIL import Image

    from models_zoo.architectures import build

    run_inline(scores_request(versions=[version], corpus=corpus, by=admin))
    classes, confidences = score_columns(Scores.objects.get())
    network = build("tiny_cnn", num_classes=len(NAMES))
    network.load_state_dict(torch.load(version.path, weights_only=True))
    for row, path in enumerate(manifest_of(corpus).column("path")):
        pixels = np.asarray(Image.open(Path(corpus.root) / path).convert("RGB"), dtype=np.float32) / 255
        with torch.no_grad():
            chances = network(torch.from_numpy(pixels).permute(2, 0, 1)[None]).softmax(1)[0]
        assert classes[row] == int(chances.argmax())
        assert confidences[row] == pytest.approx(float(chances.max()), abs=1e-4)
