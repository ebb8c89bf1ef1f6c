"""`manage.py metric_params`: BRISQUE and NIQE fitted to a folder of images, then used."""

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image
from scipy.stats import spearmanr

from models_zoo.metrics import get
from tests.models_zoo.metrics.pictures import blurred, noisy, photograph

NAMES = ("astronaut", "coffee", "rocket")


@pytest.fixture
def folder(tmp_path):
    """Three photographs in folders."""
    for number, name in enumerate(NAMES):
        file = tmp_path / "pristine" / str(number) / f"{name}.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(photograph(name)).save(file)
    return tmp_path / "pristine"


def test_niqe_is_fitted_to_a_folder_of_photographs(folder, tmp_path, capsys):
    out = tmp_path / "niqe.npz"
    call_command("metric_params", "niqe", "--images", str(folder), "--sharp", "0.25", "--out", str(out))
    assert f"version_add {out} --kind metric --architecture niqe" in capsys.readouterr().out
    measure, unseen = get("niqe").build(out), photograph("chelsea")
    assert measure(unseen) < measure(noisy(unseen, 30))


def test_brisque_is_fitted_to_rated_images(tmp_path):
    images = [
        (f"{name}_{sigma}.png", blurred(photograph(name)[:160, :160], sigma), 5 - sigma)
        for name in NAMES
        for sigma in (0.01, 1, 2, 4)
    ]
    for name, image, _ in images:
        Image.fromarray(image).save(tmp_path / name)
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("path,mos\n" + "".join(f"{name},{mos}\n" for name, _, mos in images))
    out = tmp_path / "brisque.npz"
    call_command(
        "metric_params", "brisque", "--images", str(tmp_path), "--ratings", str(ratings), "--scale", "1", "5",
        "--out", str(out),
    )  # fmt: skip
    measure = get("brisque").build(out)
    assert spearmanr([measure(image) for _, image, _ in images], [mos for *_, mos in images]).statistic < -0.9


def test_what_cannot_be_fitted_is_refused_in_words(folder, tmp_path):
    out = str(tmp_path / "niqe.npz")
    with pytest.raises(CommandError, match=r"does not end in \.npz"):
        call_command("metric_params", "niqe", "--images", str(folder), "--out", str(tmp_path / "niqe.txt"))
    with pytest.raises(CommandError, match="has no images"):
        call_command("metric_params", "niqe", "--images", str(tmp_path / "nowhere"), "--out", out)
    with pytest.raises(CommandError, match="more than 36 sharp blocks"):
        call_command("metric_params", "niqe", "--images", str(folder), "--out", out)
    (folder / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(CommandError, match=r'broken\.png"'):
        call_command("metric_params", "niqe", "--images", str(folder), "--out", out)


def test_a_rating_outside_its_scale_and_a_constant_image_are_refused(tmp_path):
    names = ["a.png", "b.png"]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    ratings = tmp_path / "r.csv"
    ratings.write_text("path,mos\na.png,3\nb.png,9\n")
    arguments = [
        "--images",
        str(tmp_path),
        "--ratings",
        str(ratings),
        "--scale",
        "1",
        "5",
        "--out",
        str(tmp_path / "b.npz"),
    ]
    with pytest.raises(CommandError, match="ratings from 3 to 9 do not fit the scale 1 to 5"):
        call_command("metric_params", "brisque", *arguments)
    Image.new("RGB", (60, 60)).save(tmp_path / "b.png")
    with pytest.raises(CommandError, match=r'b\.png": the image is constant'):
        call_command("metric_params", "brisque", *arguments)
