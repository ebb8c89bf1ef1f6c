import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corpora.imaging.decode import decode_rgb
from models_zoo.adapters import Preprocessing, VersionSpec
from models_zoo.adapters.load import TorchClassifier, load, torch_module
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import IMAGENET_MEAN, IMAGENET_STD
from models_zoo.engine import run
from models_zoo.engine.decode import MixedSizes
from models_zoo.engine.rows import FolderRows, PackedRows
from models_zoo.engine.run import ScoringCancelled, classify, score, shard_size_for
from models_zoo.engine.scores import ScoreStore
from models_zoo.engine.single import top_classes

SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
N_ROWS = 37


def spec(seed: int = 0, **preprocessing) -> VersionSpec:
    return VersionSpec(
        "torch",
        "tiny_cnn",
        arch_kwargs={"widths": [4, 8], "num_classes": 6},
        preprocessing=Preprocessing(**{"resize": 16, "crop": 16, **preprocessing}),
        seed=seed,
    )


@pytest.fixture
def corpus(tmp_path) -> FolderRows:
    """37 JPEG files of many sizes; row 5 is truncated, row 11 is missing."""
    rng = np.random.default_rng(0)
    names = [f"bild {row} – ☃.jpg" for row in range(N_ROWS)]
    (tmp_path / "images").mkdir()
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize(tuple(rng.integers(20, 60, 2).tolist())).save(tmp_path / "images" / name, quality=90)
    broken = tmp_path / "images" / names[5]
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "images" / names[11]).unlink()
    return FolderRows(tmp_path / "images", names, digest="c")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def slowly(corpus: FolderRows, version: VersionSpec) -> tuple[np.ndarray, np.ndarray]:
    """One image at a time through the plain module."""
    module, _ = torch_module(version)
    classifier = TorchClassifier(Prepared(module, version.preprocessing))
    classes, confidences = [], []
    for row, image in enumerate(corpus.read(range(N_ROWS))):
        if row in {5, 11}:
            classes.append(np.iinfo(np.uint16).max)
            confidences.append(0.0)
            continue
        (best, chance), *_ = top_classes(version, classifier, decode_rgb(image), count=1)
        classes.append(best)
        confidences.append(chance)
    return np.array(classes), np.array(confidences)


def test_scores_equal_one_image_at_a_time(corpus, tmp_path):
    specs = [spec(1), spec(2), spec(1, resize=20, interpolation="bicubic"), spec(3, mean=(0.5,), channels="bgr")]
    folders = [tmp_path / str(i) for i in range(4)]
    seen = []
    report = score(corpus, specs, folders, shard_size=10, progress=lambda *now: seen.append(now))
    for version, folder in zip(specs, folders, strict=True):
        classes, confidences = ScoreStore.open(folder).read()
        slow_classes, slow_confidences = slowly(corpus, version)
        assert np.array_equal(classes, slow_classes)
        np.testing.assert_allclose(confidences, slow_confidences, atol=1e-5)
        assert ScoreStore.open(folder).missing_rows().tolist() == [5, 11]
    assert sorted(report.failures) == [5, 11]
    assert "damaged" in report.failures[5]
    assert "No such file" in report.failures[11]
    assert report.n_scored == 4 * N_ROWS
    assert seen[-1] == (4 * N_ROWS, 4 * N_ROWS)
    assert seen == sorted(seen)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_interrupted_and_resumed_gives_the_same_bytes(corpus, tmp_path, stop_after):
    specs = [spec(1), spec(2)]
    straight, resumed = ([tmp_path / name / str(i) for i in range(2)] for name in ("straight", "resumed"))
    score(corpus, specs, straight, shard_size=10, threads=1)
    calls = iter(range(100))
    with pytest.raises(ScoringCancelled, match="finished shards are kept"):
        score(corpus, specs, resumed, shard_size=10, cancelled=lambda: next(calls) >= stop_after - 1)
    assert ScoreStore.open(resumed[0]).finished_shards() == list(range(stop_after))
    report = score(corpus, specs, resumed, shard_size=10, threads=3)
    assert report.n_kept == 2 * 10 * stop_after
    assert contents(tmp_path / "straight") == contents(tmp_path / "resumed")


KILLED = """
import os, signal, sys
from pathlib import Path
from models_zoo.adapters import VersionSpec
from models_zoo.engine.rows import FolderRows
from models_zoo.engine.run import score
from models_zoo.engine.scores import ScoreStore
import json

images, names, spec, out = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]), Path(sys.argv[4])
write = ScoreStore.write_shard

def dying(store, shard, *columns):
    if shard == 2:
        (store.folder / "parts" / "000002.npy.1.tmp").write_bytes(b"half a shard")
        os.kill(os.getpid(), signal.SIGKILL)
    write(store, shard, *columns)

ScoreStore.write_shard = dying
score(FolderRows(Path(images), names, digest="c"), [VersionSpec.from_dict(spec)], [out], shard_size=10)
"""


def test_kill_minus_nine_costs_one_shard_and_no_byte(corpus, tmp_path):
    names = [f"bild {row} – ☃.jpg" for row in range(N_ROWS)]
    arguments = [str(corpus.root), json.dumps(names), json.dumps(spec(1).to_dict()), str(tmp_path / "killed")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert ScoreStore.open(tmp_path / "killed").finished_shards() == [0, 1]
    report = score(corpus, [spec(1)], [tmp_path / "killed"], shard_size=10)
    assert report.n_kept == 20
    score(corpus, [spec(1)], [tmp_path / "straight"], shard_size=10)
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")


def test_a_version_added_later_leaves_the_others_alone(corpus, tmp_path):
    score(corpus, [spec(1)], [tmp_path / "a"], shard_size=10)
    before = contents(tmp_path / "a")
    report = score(corpus, [spec(1), spec(2)], [tmp_path / "a", tmp_path / "b"], shard_size=10)
    assert (report.n_kept, report.n_scored) == (N_ROWS, N_ROWS)
    assert contents(tmp_path / "a") == before


def test_images_are_decoded_once_for_all_versions_of_a_geometry(corpus, tmp_path, monkeypatch):
    decoded = []
    original = run.decode_batch
    monkeypatch.setattr(run, "decode_batch", lambda images, p: decoded.append(len(images)) or original(images, p))
    specs = [spec(seed, mean=(seed / 10,)) for seed in range(5)]
    score(corpus, specs, [tmp_path / str(i) for i in range(5)], shard_size=10)
    assert sum(decoded) <= N_ROWS + 32


def test_driving_a_device_from_one_thread_gives_the_same_bytes(corpus, tmp_path):
    """What a GPU gets: threads decode ahead, the caller's thread runs the networks ("cpu:0" is such a device)."""
    score(corpus, [spec(1), spec(2)], [tmp_path / "a" / str(i) for i in range(2)], shard_size=10)
    score(corpus, [spec(1), spec(2)], [tmp_path / "b" / str(i) for i in range(2)], shard_size=10, device="cpu:0")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_packed_images_equal_files(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (50, 12, 12), dtype=np.uint8)
    np.save(tmp_path / "packed.npy", pixels)
    (tmp_path / "png").mkdir()
    for row, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "png" / f"{row}.png")
    version = spec(resize=None, crop=None)
    score(PackedRows.from_file(tmp_path / "packed.npy", digest="c"), [version], [tmp_path / "a"], shard_size=20)
    files = FolderRows(tmp_path / "png", [f"{row}.png" for row in range(50)], digest="c")
    score(files, [version], [tmp_path / "b"], shard_size=20)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_onnxruntime_and_eager_torch_agree(corpus, tmp_path, monkeypatch):
    score(corpus, [spec(1)], [tmp_path / "eager"], shard_size=10)
    monkeypatch.setattr("models_zoo.adapters.load._EXPORT_PAYS_OFF", 0)
    score(corpus, [spec(1)], [tmp_path / "fast"], shard_size=10, cache_dir=tmp_path / "cache")
    stores = [ScoreStore.open(tmp_path / name) for name in ("eager", "fast")]
    assert [store.header.backend.split()[0] for store in stores] == ["torch", "onnxruntime"]
    assert np.array_equal(stores[0].read()[0], stores[1].read()[0])
    np.testing.assert_allclose(stores[0].read()[1], stores[1].read()[1], atol=1e-5)


def test_images_of_many_sizes_cannot_be_seen_whole(corpus, tmp_path):
    with pytest.raises(MixedSizes, match="set resize and crop"):
        score(corpus, [spec(resize=None, crop=None)], [tmp_path / "a"])


def test_an_empty_corpus_is_scored_at_once(tmp_path):
    report = score(FolderRows(tmp_path, [], digest="c"), [spec()], [tmp_path / "a"])
    assert report.n_scored == 0
    assert len(ScoreStore.open(tmp_path / "a").read()[0]) == 0


def test_manifest_gives_the_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"row": [0, 1], "path": ["a.bin", "gone.bin"]}), tmp_path / "manifest.parquet")
    (tmp_path / "a.bin").write_bytes(b"x")
    rows = FolderRows.from_manifest(tmp_path / "manifest.parquet", tmp_path, digest="c")
    assert len(rows) == 2
    content, problem = rows.read(range(2))
    assert content == b"x"
    assert isinstance(problem, FileNotFoundError)


@pytest.mark.parametrize("pixels", [np.zeros((4, 8, 8, 2), np.uint8), np.zeros((4, 8, 8, 3), np.float32)])
def test_other_arrays_are_no_packed_images(pixels):
    with pytest.raises(ValueError, match="packed images are uint8"):
        PackedRows(pixels, digest="c")


def test_class_and_confidence_from_scores():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, -1000.0], [np.nan, 1.0]], np.float32)
    classes, confidences = classify(logits, "logits")
    assert classes.tolist() == [1, 0, 65_535]
    np.testing.assert_allclose(confidences, [0.75, 1.0, 0.0], atol=1e-6)
    assert classify(np.array([[0.2, 0.8]], np.float32), "probabilities")[1][0] == pytest.approx(0.8)


def test_shards_are_about_twenty_seconds_of_work():
    assert [shard_size_for(seconds) for seconds in (10.0, 0.05, 0.001, 1e-6, 0.0)] == [256, 256, 16_384, 65_536, 65_536]


def test_torch_threads_are_given_back(corpus, tmp_path):
    before = torch.get_num_threads()
    score(corpus, [spec()], [tmp_path / "a"])
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not (SHARED / "cifar10" / "weights").is_dir(), reason="the optional CIFAR-10 data is not here")
def test_published_cifar_resnet_reaches_its_accuracy(tmp_path):
    """500 test images, recompressed as JPEG: about 81 % for ResNet-20 (92 % on the lossless set)."""
    with (SHARED / "cifar10" / "labels.csv").open() as file:
        labels = [(row["path"], int(row["label"])) for row in csv.DictReader(file)][:500]
    with tarfile.open(SHARED / "cifar10" / "test_images.tar") as archive:
        for path, _ in labels:
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.extractfile(path).read())
    version = VersionSpec(
        "torch",
        "cifar_resnet20",
        weights=str(SHARED / "cifar10" / "weights" / "resnet20-12fca82f.th"),
        preprocessing=Preprocessing(crop=32, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    )
    score(FolderRows(tmp_path, [path for path, _ in labels], digest="c"), [version], [tmp_path / "scores"])
    classes, _ = ScoreStore.open(tmp_path / "scores").read()
    assert 0.76 <= (classes == [label for _, label in labels]).mean() <= 0.88


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "imagenet1000").is_dir(), reason="the optional ImageNet sample is not here")
def test_squeezenet_on_values_of_0_to_255_reaches_its_accuracy(tmp_path):
    """Every second of 1,000 photographs: about 61 % with RGB in 0..255, ImageNet's mean subtracted, 227 pixels."""
    folder = SHARED / "imagenet1000"
    with (folder / "labels.csv").open() as file:
        labels = [(row["path"], int(row["label"])) for row in csv.DictReader(file)][::2]
    with tarfile.open(folder / "images.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    version = VersionSpec(
        "torch",
        "squeezenet1_0",
        weights=str(folder / "squeezenet1_0_deepcompressed_rgb255.pth"),
        preprocessing=Preprocessing(resize=256, crop=227, mean=(123.68, 116.779, 103.939), range=255),
    )
    score(FolderRows(tmp_path, [path for path, _ in labels], digest="c"), [version], [tmp_path / "scores"])
    classes, _ = ScoreStore.open(tmp_path / "scores").read()
    assert 0.56 <= (classes == [label for _, label in labels]).mean() <= 0.68


def test_top_classes_are_sorted_probabilities():
    version = spec(1)
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "orange").save(buffer, "PNG")
    best = top_classes(version, load(version, n_images=1), decode_rgb(buffer.getvalue()))
    assert len(best) == 5
    assert [chance for _, chance in best] == sorted((chance for _, chance in best), reverse=True)
    everything = top_classes(version, load(version, n_images=1), decode_rgb(buffer.getvalue()), count=6)
    assert sum(chance for _, chance in everything) == pytest.approx(1)
