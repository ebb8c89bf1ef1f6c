"""Tables and plots of what several seeds measured."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from benchmarks.robust import Line, oat_points, plot, rdi_points, tables
from benchmarks.robust_data import DATA, cifar_data, digits_data
from benchmarks.scatter import Dot, Series, scatter
from tests.training import explorers


def line(group: str, sa: float, ra: float, size: int) -> Line:
    return Line("Points of the adjustable network", group, "ATMC", {"sa": sa, "ra": ra, "bytes": size, "name": "a"})


def test_groups_are_averaged_over_seeds() -> None:
    found = tables([[line("a", 0.5, 0.2, 1000), line("b", 0.7, 0.1, 9000)], [line("a", 0.6, 0.2, 1000)]])
    assert "| a | 55.0 ± 7.1 | 20.0 | 1.0 |" in found
    assert "| b | 70.0 | 10.0 | 9.0 |" in found
    assert found.startswith("### Points of the adjustable network\n\n|  | SA % | RA own % | kB |")


def test_the_plot_shows_every_group_and_seed() -> None:
    drawn = plot("atmc", [[line("a", 0.5, 0.2, 1000), line("b", 0.7, 0.1, 9000)], [line("a", 0.6, 0.3, 1100)]])
    root = ElementTree.fromstring(drawn)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "b", "ATMC"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3 + 2 + 1
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 1
    assert plot("atmc", [[]]) == ""


def test_a_plot_of_one_point_and_of_names_with_brackets() -> None:
    ElementTree.fromstring(scatter([Series("<a&b>", (Dot(0, 0, label="<"),))], title="t", x_title="x", y_title="y"))
    with pytest.raises(ValueError, match="no points"):
        scatter([], title="t", x_title="x", y_title="y")


def test_explorers_become_lines() -> None:
    oat = oat_points(explorers.oat_content())
    assert {entry.group for entry in oat} >= {oat[0].group}
    assert all(0 <= entry.values["sa"] <= 1 for entry in oat)
    rdi = rdi_points(explorers.rdi_content())
    assert all(0 <= entry.values["ra"] <= 1 for entry in rdi)


def test_digits_come_in_three_splits() -> None:
    data = digits_data()
    assert [len(data.rows(split)) for split in ("train", "val", "test")] == [1197, 200, 400]
    assert data.n_classes == 10
    assert data.pixels(0).shape == (8, 8, 3)


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason=f"no CIFAR-10 archives in {DATA}")
def test_cifar_images_of_all_classes() -> None:
    data = cifar_data(train=100, val=20, test=50)
    for split, each in (("train", 10), ("val", 2), ("test", 5)):
        assert np.bincount(data.rows(split).label).tolist() == [each] * 10
    assert data.pixels(0).shape == (32, 32, 3)
    with pytest.raises(FileNotFoundError):
        cifar_data(folder=Path("/nowhere"))
