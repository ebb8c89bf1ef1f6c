"""Scoring quality: whole images of any size, measures and networks in one pass, holes with their reasons."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corpora.imaging.decode import decode_rgb
from models_zoo.adapters.rater import load_rater
from models_zoo.adapters.spec import Preprocessing, VersionRefused, VersionSpec
from models_zoo.engine import quality
from models_zoo.engine.decode import fit
from models_zoo.engine.quality import score_quality
from models_zoo.engine.rows import FolderRows
from models_zoo.engine.scores import ScoreStore
from models_zoo.engine.work import ScoringCancelled
from models_zoo.metrics import get
from tests.models_zoo.quality_builders import photograph, save_photographs, save_quality_weights

N = 23
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), long_side=3840)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of four sizes, one of them too small for a network, one file broken."""
    made = tmp_path_factory.mktemp("photographs")
    save_photographs(made, N)
    (made / "011.png").write_bytes(b"not a picture")
    return made


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_quality_weights(tmp_path_factory.mktemp("weights") / "w.pt")


@pytest.fixture
def rows(folder):
    return FolderRows(folder, [f"{number:03d}.png" for number in range(N)], digest="photographs")


def network(weights: Path, **values) -> VersionSpec:
    return VersionSpec(
        kind="torch",
        architecture="unique_small",
        weights=str(weights),
        **{"outputs": "score", "preprocessing": IMAGENET, **values},
    )


def measure(name: str) -> VersionSpec:
    return VersionSpec(kind="metric", architecture=name, outputs="score")


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_scores_are_those_of_each_image_alone(rows, folder, weights, tmp_path):
    specs = [network(weights), measure("colourfulness")]
    report = score_quality(rows, specs, [tmp_path / "a", tmp_path / "b"], shard_size=10)
    assert (report.n_scored, report.n_kept) == (2 * N, 0)
    (by_network,), (by_measure,) = (ScoreStore.open(tmp_path / name).read() for name in "ab")
    alone = load_rater(specs[0], n_images=1)
    colourful = get("colourfulness").build()
    for number in range(N):
        if number == 11:
            assert np.isnan(by_network[number])
            assert np.isnan(by_measure[number])
            continue
        pixels = decode_rgb(folder / f"{number:03d}.png")
        assert by_measure[number] == np.float32(colourful(pixels))
        if min(pixels.shape[:2]) < 32:
            assert np.isnan(by_network[number])
        else:
            assert by_network[number] == pytest.approx(float(alone(pixels[None])[0]), rel=1e-4)
    assert np.nanstd(by_network) > 0.01


def test_holes_say_why(rows, weights, tmp_path):
    specs = [network(weights), measure("psnr")]
    score_quality(rows, specs, [tmp_path / "a", tmp_path / "b"], shard_size=10)
    stores = [ScoreStore.open(tmp_path / name) for name in "ab"]
    too_small = 'smaller than the 32 x 32 pixels that "unique_small" needs'
    small = [number for number in range(N) if number % 7 == 5]
    assert stores[0].problems()[too_small] == {"n": len(small), "rows": small}
    assert stores[0].problems()["not decoded: not an image in a known format"]["rows"] == [11]
    assert stores[0].missing_rows().tolist() == sorted([11, *small])
    assert stores[1].problems()["has no reference"]["n"] == N - 1
    assert np.isnan(stores[1].read()[0]).all()


def test_full_reference_measures_see_the_reference(tmp_path):
    pristine = photograph(1, 60, 40)
    noisy = np.clip(pristine.astype(int) + np.random.default_rng(0).normal(0, 9, pristine.shape), 0, 255)
    pictures = [pristine, noisy.astype(np.uint8), pristine[:30], photograph(4, 60, 40)]
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    rows = FolderRows(tmp_path, [f"{number}.png" for number in range(4)], digest="d")
    score_quality(rows, [measure("psnr")], [tmp_path / "s"], references=np.array([0, 0, 0, -1]))
    store = ScoreStore.open(tmp_path / "s")
    (values,) = store.read()
    error = np.mean((pictures[1].astype(float) - pristine) ** 2)
    assert values[0] == 100
    assert values[1] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-5)
    assert store.problems() == {
        "differs in size from its reference": {"n": 1, "rows": [2]},
        "has no reference": {"n": 1, "rows": [3]},
    }


def test_an_interrupted_scoring_gives_the_same_bytes(rows, weights, tmp_path):
    specs = [network(weights), network(weights, seed=1), measure("colourfulness")]
    straight = [tmp_path / "straight" / str(number) for number in range(3)]
    broken = [tmp_path / "broken" / str(number) for number in range(3)]
    score_quality(rows, specs, straight, shard_size=6, threads=3)
    calls = []

    def give_up() -> bool:
        calls.append(1)
        return len(calls) % 4 == 0

    score_quality(rows, specs[1:2], broken[1:2], shard_size=6, threads=1)  # one of them was finished before
    for attempt in range(20):
        try:
            report = score_quality(rows, specs, broken, shard_size=6, threads=1 + attempt % 2, cancelled=give_up)
            break
        except ScoringCancelled:
            continue
    assert report.n_kept > 0
    for one, other in zip(straight, broken, strict=True):
        assert files(one) == files(other)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from models_zoo.adapters import VersionSpec
from models_zoo.engine.quality import score_quality
from models_zoo.engine.rows import FolderRows
from models_zoo.engine.scores import ScoreStore

images, names, specs, out = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]), Path(sys.argv[4])
write = ScoreStore.write_shard

def dying(store, shard, *columns, problems):
    if shard == 2 and store.folder.name == "1":
        (store.folder / "parts" / "000002.npy.1.tmp").write_bytes(b"half a shard")
        os.kill(os.getpid(), signal.SIGKILL)
    write(store, shard, *columns, problems=problems)

ScoreStore.write_shard = dying
rows = FolderRows(Path(images), names, digest="photographs")
score_quality(rows, [VersionSpec.from_dict(spec) for spec in specs], [out / "0", out / "1"], shard_size=6, threads=2)
"""


def test_kill_minus_nine_costs_one_shard_and_no_byte(rows, weights, tmp_path):
    specs = [network(weights), measure("colourfulness")]
    names = [f"{number:03d}.png" for number in range(N)]
    described = json.dumps([spec.to_dict() for spec in specs])
    arguments = [str(rows.root), json.dumps(names), described, str(tmp_path / "killed")]
    dead = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[2])
    assert dead.returncode == -signal.SIGKILL
    killed, plain = ([tmp_path / name / str(number) for number in range(2)] for name in ("killed", "plain"))
    assert [ScoreStore.open(folder).finished_shards() for folder in killed] == [[0, 1, 2], [0, 1]]
    report = score_quality(rows, specs, killed, shard_size=6)
    assert report.n_kept == 18 + 12
    score_quality(rows, specs, plain, shard_size=6)
    assert files(tmp_path / "killed") == files(tmp_path / "plain")


def test_each_image_is_decoded_once_for_all(rows, weights, tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(quality, "pixels_of", lambda image: decoded.append(1) or decode_rgb(image))
    monkeypatch.setattr(quality, "_probe", lambda *_: None)
    resized = network(weights, preprocessing=Preprocessing(resize=48, long_side=3840))
    specs = [network(weights), resized, measure("colourfulness"), network(weights, seed=3)]
    rows = FolderRows(rows.root, ["000.png", "001.png", "002.png"], digest="three")
    score_quality(rows, specs, [tmp_path / str(number) for number in range(4)])
    assert len(decoded) == 3


def test_images_of_one_size_share_a_batch(rows, weights, tmp_path, monkeypatch):
    seen = []
    original = quality.rate
    monkeypatch.setattr(quality, "rate", lambda rater, pixels: seen.append(pixels.shape[:3]) or original(rater, pixels))
    score_quality(rows, [network(weights)], [tmp_path / "s"], threads=1)
    sizes = [shape[1:] for shape in seen]
    assert len(sizes) == len(set(sizes)) == 4
    assert sum(shape[0] for shape in seen) == N - 1


def test_many_waiting_pixels_run_early(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(quality._PIXELS_WAITING, True, 3 * 96 * 64)
    names = save_photographs(tmp_path / "p", 12, sizes=((96, 64), (64, 96), (80, 64), (64, 80)))
    seen = []
    original = quality.rate
    monkeypatch.setattr(quality, "rate", lambda rater, pixels: seen.append(len(pixels)) or original(rater, pixels))
    score_quality(FolderRows(tmp_path / "p", names, digest="d"), [network(weights)], [tmp_path / "s"])
    assert sum(seen) == 12
    assert len(seen) > 4
    assert not np.isnan(ScoreStore.open(tmp_path / "s").read()[0]).any()


def test_a_long_image_is_shrunk_to_the_limit_in_its_proportions():
    long = fit(photograph(0, 300, 60), Preprocessing(long_side=100))
    assert long.shape == (20, 100, 3)
    assert fit(photograph(0, 90, 60), Preprocessing(long_side=100)).shape == (60, 90, 3)
    both = fit(photograph(0, 300, 60), Preprocessing(resize=40, long_side=100))
    assert both.shape == (20, 100, 3)


def test_a_quality_version_is_never_squashed_or_cropped(weights):
    for bad in (Preprocessing(resize=64, resize_mode="stretch"), Preprocessing(crop=64)):
        with pytest.raises(VersionRefused, match="sees the whole image"):
            network(weights, preprocessing=bad)


def test_a_classifier_is_not_scored_as_quality(rows, weights, tmp_path):
    with pytest.raises(VersionRefused, match="gives classes"):
        score_quality(rows, [network(weights, outputs="logits", preprocessing=Preprocessing())], [tmp_path / "s"])


def test_the_export_takes_every_size_and_agrees_with_eager(weights, tmp_path):
    spec = network(weights)
    fast = load_rater(spec, cache_dir=tmp_path / "exports")
    plain = load_rater(spec, n_images=1)
    assert fast.backend.startswith("onnxruntime")
    assert plain.backend.startswith("torch")
    for width, height, n in ((64, 48, 1), (203, 129, 3), (48, 64, 2)):
        pixels = np.stack([photograph(number, width, height) for number in range(n)])
        assert fast(pixels) == pytest.approx(plain(pixels), rel=1e-4)
    assert len(list((tmp_path / "exports").iterdir())) == 1
    again = load_rater(spec, cache_dir=tmp_path / "exports", probe=photograph(3, 77, 50)[None])
    assert len(list((tmp_path / "exports").iterdir())) == 1
    assert again.backend == fast.backend


def test_scores_that_are_not_finite_become_holes(rows, tmp_path):
    from models_zoo.architectures import build

    state = build("unique_small").state_dict()
    state["fc.bias"] = torch.tensor([float("nan"), 0])
    torch.save(state, tmp_path / "nan.pt")
    score_quality(rows, [network(tmp_path / "nan.pt")], [tmp_path / "s"])
    store = ScoreStore.open(tmp_path / "s")
    assert np.isnan(store.read()[0]).all()
    assert '"unique_small" gives no finite score' in store.problems()
