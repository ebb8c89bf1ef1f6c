"""Explorers as recipes write them and pages read them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.explorers import CONTENTS, IMAGES, SIDE, oat_content, rdi_content, sprites_of, tiles
from training.engine.explore import BadExplorer, check_explorer, read_explorer, write_explorer
from training.engine.registry import Method, MethodCard, MethodConfig


@pytest.fixture
def context(tmp_path: Path) -> Any:
    (tmp_path / "artifacts").mkdir()
    return SimpleNamespace(is_main=True, artifact=lambda name: tmp_path / "artifacts" / name)


@pytest.mark.parametrize("kind", CONTENTS)
def test_is_read_as_it_was_written(kind: str, context: Any, tmp_path: Path) -> None:
    content = CONTENTS[kind]()
    write_explorer(context, content, sprites_of(content))
    read = read_explorer(tmp_path)
    assert read is not None
    assert read["points"][0]["sa"] == content["points"][0]["sa"]
    assert {name: value for name, value in read.items() if name != "sprites"}.keys() >= content.keys()


def test_tiles_lie_in_rows_of_32(context: Any, tmp_path: Path) -> None:
    content = oat_content()
    given = sprites_of(content)
    write_explorer(context, content, given)
    read = read_explorer(tmp_path)
    assert read is not None
    assert read["sprites"]["attacked"] == {
        "file": "explore-attacked.png", "n": 96, "columns": 32, "width": SIDE, "height": SIDE,
    }  # fmt: skip
    whole = np.asarray(Image.open(tmp_path / "artifacts" / "explore-attacked.png"))
    assert whole.shape == (3 * SIDE, 32 * SIDE, 3)
    row, column = divmod(50, 32)
    np.testing.assert_array_equal(
        whole[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE], given["attacked"][50]
    )


def test_grey_tiles_and_plain_numbers_are_taken(context: Any, tmp_path: Path) -> None:
    content = rdi_content()
    content["points"][0]["sa"] = np.float32(0.5)
    grey = [tile[..., 0] for tile in tiles(IMAGES)]
    write_explorer(context, content, {"clean": grey, "attacked": grey})
    read = read_explorer(tmp_path)
    assert read is not None
    assert read["points"][0]["sa"] == {"value": 0.5, "low": None, "high": None}


def test_only_the_main_process_writes(context: Any, tmp_path: Path) -> None:
    context.is_main = False
    write_explorer(context, oat_content(), sprites_of(oat_content()))
    assert read_explorer(tmp_path) is None


def test_no_temporary_file_stays(context: Any, tmp_path: Path) -> None:
    write_explorer(context, oat_content(), sprites_of(oat_content()))
    assert sorted(file.name for file in (tmp_path / "artifacts").iterdir()) == [
        "explore-attacked.png", "explore-clean.png", "explore.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "gan"}, 'no kind "gan": choose from oat, rdi, atmc'),
        (oat_content(labels=[0]), "clean, point 0: 8 entries, 1 are needed: one per image"),
        (oat_content(clean=[]), "clean: 0 entries, 12 are needed: one per point"),
        (oat_content(points=[]), "points: List should have at least 1 item"),
        (oat_content(seconds=float("nan")), "seconds: Input should be a valid number"),
        (oat_content(seconds=object()), "content.seconds is a object"),
        (rdi_content(entropies=[[0.1]] * IMAGES), "entropies, image 0: 1 entries, 4 are needed: one per exit"),
        (CONTENTS["atmc"](points=CONTENTS["atmc"]()["points"][:1]), 'layers: there is no point "ATMC 0.05"'),
    ],
)
def test_what_does_not_fit_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(BadExplorer) as refused:
        check_explorer(content)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("sprites", "said"),
    [
        ({}, 'the sprite "clean" has 0 tiles, 8 are needed'),
        ({"clean": []}, 'the sprite "clean" has no tiles'),
        ({"clean": [np.zeros((4, 4)), np.zeros((4, 4))]}, "give uint8 arrays"),
        ({"clean": [np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)]}, "of one size"),
    ],
)
def test_sprites_that_do_not_fit_are_refused(sprites: Any, said: str, context: Any) -> None:
    with pytest.raises(BadExplorer) as refused:
        write_explorer(context, rdi_content(), sprites)
    assert said in str(refused.value)


def test_a_method_says_where_its_points_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.methods.prune import cuts

    def method_with(points: str) -> Method:
        return Method(MethodCard("prune", "", "", "", "recipe:train", None, points=points), MethodConfig)

    monkeypatch.setattr(cuts, "keep_best", lambda network, point: None, raising=False)
    assert method_with("").points() is None
    assert method_with("cuts:keep_best").points() is cuts.keep_best  # type: ignore[attr-defined]
