"""The quality networks against slow recomputations, and CNNIQA's published weights on real ratings."""

import csv
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr

from models_zoo.adapters.rater import load_rater
from models_zoo.adapters.spec import Preprocessing, VersionSpec
from models_zoo.architectures import UnknownArchitecture, architecture_card, build
from models_zoo.architectures.cnniqa import cut, normalised
from models_zoo.architectures.unique import bilinear_pool
from tests.models_zoo.quality_builders import photograph

SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
WEIGHTS = SHARED / "biqa_params" / "cnniqa_live.pth"
FRAMES = SHARED / "iqa_uhd_frames"
HEIGHT = 448  # lines


def test_bilinear_pooling_is_the_rooted_and_normed_gram_matrix():
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pooled = bilinear_pool(features).numpy()
    for image, found in zip(features.numpy(), pooled, strict=True):
        rooted = []
        for one in image:
            for other in image:
                mean = sum(a * b for a, b in zip(one.ravel(), other.ravel(), strict=True)) / 20
                rooted.append(np.sign(mean) * np.sqrt(abs(mean) + 1e-8))
        length = np.sqrt(sum(value**2 for value in rooted))
        assert found == pytest.approx(np.array(rooted) / length)


@pytest.mark.parametrize("name", ["unique_small", "unique_resnet18", "unique_squeezenet"])
def test_unique_gives_a_score_and_a_positive_deviation_at_any_size(name):
    torch.manual_seed(0)
    network = build(name)
    for height, width in ((32, 32), (33, 70), (64, 48)):
        with torch.inference_mode():
            out = network(torch.randn(2, 3, height, width))
        assert out.shape == (2, 2)
        assert (out[:, 1] > 0).all()
    card = architecture_card(name)
    assert (card.task, card.min_side, card.higher_is_better) == ("quality", 32, True)


def test_unique_takes_torchvisions_backbone_weights():
    from torchvision.models import resnet18

    state = {f"backbone.{key}": value for key, value in resnet18().state_dict().items() if not key.startswith("fc.")}
    own = build("unique_resnet18").state_dict()
    assert {key: value.shape for key, value in own.items() if key.startswith("backbone.")} == {
        key: value.shape for key, value in state.items()
    }
    assert own["fc.weight"].shape == (2, 512 * 512)


def test_unique_takes_the_first_fires_of_torchvisions_squeezenet():
    from torchvision.models import squeezenet1_0

    published = squeezenet1_0().features.state_dict()
    own = build("unique_squeezenet", modules=5).state_dict()
    backbone = {key.removeprefix("backbone."): value.shape for key, value in own.items() if "backbone." in key}
    assert backbone == {key: published[key].shape for key in backbone}
    assert own["fc.weight"].shape == (2, 128 * 128)
    with pytest.raises(UnknownArchitecture, match=r"cannot end after module 7: choose from \[4, 5, 6, 8"):
        build("unique_squeezenet", modules=7)


def test_patches_are_cut_row_by_row_and_the_rest_is_left_over():
    x = torch.arange(70 * 100, dtype=torch.float32).reshape(1, 1, 70, 100)
    patches = cut(x)
    assert patches.shape == (6, 1, 32, 32)
    assert torch.equal(patches[4, 0], x[0, 0, 32:64, 32:64])


def test_local_normalisation_divides_by_local_deviation_plus_one():
    patch = np.random.default_rng(0).random((32, 32))
    mean = uniform_filter(patch, 3, mode="reflect")
    deviation = np.sqrt(np.maximum(uniform_filter(patch**2, 3, mode="reflect") - mean**2, 0))
    found = normalised(torch.from_numpy(patch)[None, None])[0, 0].numpy()
    assert found == pytest.approx((patch - mean) / (deviation + 1), abs=1e-10)


def test_an_images_score_is_the_mean_over_its_patches():
    torch.manual_seed(2)
    network = build("cnniqa")
    x = torch.rand(2, 1, 64, 96)
    with torch.inference_mode():
        whole = network(x)
        patches = [network(x[:, :, a : a + 32, b : b + 32]) for a in (0, 32) for b in (0, 32, 64)]
    assert whole.shape == (2,)
    assert whole.numpy() == pytest.approx(torch.stack(patches).mean(0).numpy(), rel=1e-5)


def test_cnniqas_export_agrees_with_eager(tmp_path):
    torch.manual_seed(2)
    torch.save(build("cnniqa").state_dict(), tmp_path / "w.pt")
    spec = VersionSpec(
        kind="torch",
        architecture="cnniqa",
        weights=str(tmp_path / "w.pt"),
        preprocessing=Preprocessing(channels="grey"),
        outputs="score",
    )
    fast, plain = load_rater(spec), load_rater(spec, n_images=1)
    assert fast.backend.startswith("onnxruntime")
    pixels = np.stack([photograph(number, 103, 70) for number in range(3)])
    assert fast(pixels) == pytest.approx(plain(pixels), rel=1e-4, abs=1e-6)


@pytest.mark.skipif(
    not (WEIGHTS.exists() and FRAMES.exists()), reason="needs ../shared/data (published weights, frames)"
)
def test_published_cnniqa_agrees_with_real_ratings():
    """Its weights give DMOS, so that worse frames score higher; on H.265 frames, which it was never trained for.

    People saw every frame at the full height of the screen, so all are enlarged to one height.
    """
    spec = VersionSpec(
        kind="torch",
        architecture="cnniqa",
        weights=str(WEIGHTS),
        preprocessing=Preprocessing(channels="grey"),
        outputs="score",
    )
    rater = load_rater(spec, n_images=1)
    with (FRAMES / "mos_ci.csv").open() as file:
        mos = {row["image_name"]: float(row["mos"]) for row in csv.DictReader(file)}
    scores, opinions = [], []
    with tarfile.open(FRAMES / "images.tar") as archive:
        for member in sorted((entry for entry in archive if entry.isfile()), key=lambda entry: entry.name)[::8]:
            content = archive.extractfile(member)
            assert content is not None
            frame = Image.open(io.BytesIO(content.read())).convert("RGB")
            pixels = np.array(frame.resize((round(frame.width * HEIGHT / frame.height), HEIGHT)))
            scores.append(float(rater(pixels[None])[0]))
            opinions.append(mos[Path(member.name).stem])
    assert 0 < min(scores) < max(scores) < 110
    assert -spearmanr(scores, opinions).statistic > 0.6
