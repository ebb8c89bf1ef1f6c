"""Files of parameters that cannot be used are refused with their name and what is wrong."""

import zipfile

import numpy as np
import pytest

from models_zoo.metrics import UnsuitableParams, get
from models_zoo.metrics import params as params_module
from models_zoo.metrics.brisque import BrisqueParams, brisque_load
from models_zoo.metrics.niqe import NiqeParams, niqe_load

HEADER = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.5\nnr_class 2\ntotal_sv 2\nrho -1.5\n"
VECTORS = "SV\n2 1:0.5 36:-1\n-3 2:0.25\n"
RANGES = "x\n-1 1\n" + "".join(f"{feature} 0 2\n" for feature in range(1, 37))


def write(tmp_path, text):
    path = tmp_path / "model.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [RANGES + HEADER + VECTORS, HEADER + VECTORS + RANGES], ids=["before", "after"])
def test_libsvm_text_with_its_ranges_before_or_after(tmp_path, text):
    params = brisque_load(write(tmp_path, text))
    features = np.zeros(36)
    features[1] = 2  # scaled: -1 everywhere, 1 there
    scaled = np.full(36, -1.0)
    scaled[1] = 1
    first, second = np.zeros(36), np.zeros(36)
    first[0], first[35], second[1] = 0.5, -1, 0.25
    kernel = [np.exp(-0.5 * ((scaled - vector) ** 2).sum()) for vector in (first, second)]
    assert params.score(features) == pytest.approx(2 * kernel[0] - 3 * kernel[1] + 1.5, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", r'must hold a libsvm model .* and the ranges'),
        (HEADER + VECTORS, "must hold a libsvm model"),
        (RANGES + HEADER, 'no line "SV"'),
        (RANGES + HEADER.replace("epsilon_svr", "c_svc") + VECTORS, "svm_type is c_svc, only epsilon_svr"),
        (RANGES + HEADER.replace("rbf", "linear") + VECTORS, "kernel_type is linear, only rbf"),
        (RANGES + HEADER.replace("gamma 0.5\n", "") + VECTORS, "cannot read"),
        (RANGES + HEADER.replace("total_sv 2", "total_sv 3") + VECTORS, "ends too early: line 48 is missing"),
        (RANGES + HEADER + VECTORS.replace("1:0.5", "1:a"), 'line 46: cannot read "1 a" as numbers'),
        (RANGES + HEADER + VECTORS.replace("36:", "37:"), "there is no feature 37 of 36"),
        (RANGES + HEADER + VECTORS.replace("0.5", "nan"), "line 46"),
        (RANGES.replace("7 0 2\n", "", 1) + HEADER + VECTORS, "line 38|no range of feature 7"),
        (RANGES.replace("-1 1", "-1") + HEADER + VECTORS, 'line 2: cannot read "-1"'),
    ],
)  # fmt: skip
def test_damaged_libsvm_text_names_the_line(tmp_path, text, words):
    with pytest.raises(UnsuitableParams, match=words):
        brisque_load(write(tmp_path, text))


def test_a_picture_is_no_file_of_parameters(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    with pytest.raises(UnsuitableParams, match=r'"a.png" is neither an .npz file nor libsvm text'):
        get("brisque").build(tmp_path / "a.png")
    with pytest.raises(UnsuitableParams, match=r'"a.png" cannot be read as an .npz file'):
        get("niqe").build(tmp_path / "a.png")


def test_the_parameters_of_another_measure_are_refused(tmp_path):
    NiqeParams(np.zeros(36), np.eye(36)).save(tmp_path / "niqe.npz")
    with pytest.raises(UnsuitableParams, match=r'"niqe\.npz" has no array "support": it has covariance, mean'):
        get("brisque").build(tmp_path / "niqe.npz")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mean": np.zeros(35), "covariance": np.eye(35)}, "a mean of 36 and a covariance of 36 x 36"),
        ({"mean": np.full(36, np.nan), "covariance": np.eye(36)}, '"mean": every value must be a finite number'),
        ({"mean": np.array(["a"] * 36), "covariance": np.eye(36)}, '"mean": every value must be a finite number'),
        ({"mean": np.zeros(36), "covariance": np.triu(np.ones((36, 36)))}, "must be symmetric"),
        ({}, "it has none"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "niqe.npz", **arrays)
    with pytest.raises(UnsuitableParams, match=words):
        niqe_load(tmp_path / "niqe.npz")


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "niqe.npz", mean=np.array([{}], dtype=object), covariance=np.eye(36))
    with pytest.raises(UnsuitableParams, match="cannot be read"):
        niqe_load(tmp_path / "niqe.npz")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(params_module, "SIZE_LIMIT", 10_000)
    NiqeParams(np.zeros(36), np.eye(36)).save(tmp_path / "niqe.npz")
    assert (tmp_path / "niqe.npz").stat().st_size < 10_000
    with pytest.raises(UnsuitableParams, match="unpacks to"):
        niqe_load(tmp_path / "niqe.npz")


def test_a_damaged_archive_is_refused_whatever_the_damage(tmp_path):
    path = tmp_path / "niqe.npz"
    NiqeParams(np.random.default_rng(2).normal(size=36), np.eye(36)).save(path)
    content = path.read_bytes()
    middle = len(content) // 4
    for damaged in (content[:middle], content[:middle] + b"garbage" + content[middle + 7 :], b"PK", b""):
        path.write_bytes(damaged)
        with pytest.raises(UnsuitableParams, match="cannot be read"):
            niqe_load(path)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "brisque.npz", "w") as archive:
        archive.writestr("support.npy", b"no array")
    with pytest.raises(UnsuitableParams, match='"support": every value must be a finite number'):
        brisque_load(tmp_path / "brisque.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"support": np.zeros((3, 35))},
        {"coefficients": np.zeros(2)},
        {"gamma": 0.0},
        {"scale": np.zeros(1)},
        {"coefficients": np.float64(1)},
        {"support": np.zeros((0, 36)), "coefficients": np.zeros(0)},
    ],
)
def test_brisque_parameters_that_do_not_fit_together_are_refused(change):
    fields = {
        "support": np.zeros((3, 36)), "coefficients": np.zeros(3), "intercept": 0.0, "gamma": 0.05,
        "scale": np.ones(36), "offset": np.zeros(36),
    }  # fmt: skip
    with pytest.raises(UnsuitableParams, match="BRISQUE parameters"):
        BrisqueParams(**{**fields, **change})
