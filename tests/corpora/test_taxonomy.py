"""Class distances against published facts and a slow recomputation; the table with every mistake people make."""

import itertools
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora.taxonomy import (
    Taxonomy,
    TaxonomyClass,
    TaxonomyError,
    distance_matrix,
    flat,
    from_csv,
    imagenet1k,
    level_table,
    to_csv,
)
from corpora.taxonomy.distances import levels_of
from corpora.taxonomy.tables import IMAGENET1K
from corpora.taxonomy.wordnet import read_nouns, taxonomy_of

WORDNET = Path("/usr/share/wordnet")
SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
PETS = """child,parent,class,name,synonyms,gloss
animal,thing,,,,
cat,animal,0,cat,house cat;moggy,a small feline
dog,animal,1,,,
robot dog,machine,2,,,
robot dog,dog-like,,,,
dog-like,thing,,,,
machine,thing,,,,
"""


@pytest.fixture(scope="module")
def imagenet() -> np.ndarray:
    return distance_matrix(imagenet1k())


def slow_distance(taxonomy: Taxonomy, a: int, b: int) -> float:
    """The definition, word by word: minimum over all pairs of root-to-class paths."""

    def outside(path: tuple[str, ...], other: tuple[str, ...]) -> float:
        return sum(2.0 ** (1 - depth) for depth, node in enumerate(path) if node not in other)

    pairs = itertools.product(taxonomy.paths(a), taxonomy.paths(b))
    return min(outside(p, q) + outside(q, p) for p, q in pairs)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (281, 282, 0.0001220703125),
        (207, 208, 3.0517578125e-05),
        (1, 281, 0.015533447265625),
        (0, 872, 0.496063232421875),
        (444, 671, 0.00390625),
        (872, 444, 0.1171875),
        (151, 948, 0.49755859375),
        (281, 954, 0.494140625),
        (217, 218, 1.52587890625e-05),
        (345, 971, 3.9921722412109375),
    ],
)
def test_published_distances_are_exact(imagenet: np.ndarray, a: int, b: int, distance: float) -> None:
    assert imagenet[a, b] == imagenet[b, a] == distance


def test_imagenet_range_symmetry_and_identity(imagenet: np.ndarray) -> None:
    off_diagonal = imagenet[~np.eye(1000, dtype=bool)]
    assert imagenet.dtype == np.float64
    assert off_diagonal.min() == 2.0**-16
    assert off_diagonal.max() == 3.9921722412109375
    assert np.argwhere(np.triu(imagenet == 2.0**-16)).tolist() == [[217, 218]]
    assert not np.diag(imagenet).any()
    np.testing.assert_array_equal(imagenet, imagenet.T)


def test_imagenet_paths_are_those_of_wordnet() -> None:
    taxonomy = imagenet1k()
    paths = [taxonomy.paths(index) for index in range(1000)]
    lengths = [len(path) for some in paths for path in some]
    assert Counter(len(some) for some in paths) == {1: 696, 2: 278, 3: 17, 4: 5, 5: 4}
    assert (len(lengths), min(lengths), max(lengths)) == (1343, 5, 19)
    assert taxonomy.root == "n00001740"
    assert taxonomy.node_names is not None
    assert taxonomy.node_names[taxonomy.root] == "entity"


def test_imagenet_distances_equal_the_definition(imagenet: np.ndarray) -> None:
    taxonomy = imagenet1k()
    rng = np.random.default_rng(0)
    for a, b in rng.integers(0, 1000, (2000, 2)).tolist():
        assert imagenet[a, b] == slow_distance(taxonomy, a, b)


def test_imagenet_matrix_takes_about_a_second_at_most() -> None:
    start = time.process_time()
    distance_matrix(imagenet1k())
    assert time.process_time() - start < 2.0


def test_levels_give_every_distance_back(imagenet: np.ndarray) -> None:
    levels = level_table(imagenet1k())
    assert levels.n_levels == 597
    assert levels.ranks.dtype == np.uint16
    np.testing.assert_array_equal(levels.distances[levels.ranks], imagenet)
    assert (np.diff(levels.distances) > 0).all()
    assert levels.distance([1, 5], [281, 5]).tolist() == [0.015533447265625, 0.0]
    assert level_table(from_rows(PETS)).ranks.dtype == np.uint8


def test_flat_taxonomies_are_the_zero_one_distance() -> None:
    taxonomy = flat(["cat", "dog", "ship"])
    np.testing.assert_array_equal(distance_matrix(taxonomy), 1 - np.eye(3))
    assert level_table(taxonomy).distance([0, 1, 2], [0, 2, 1]).tolist() == [0, 1, 1]
    assert taxonomy.find("Ship") == 2
    assert level_table(flat(100_000)).ranks.strides == (0, 0)


@st.composite
def random_taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Nodes 1..n each hang under one to three earlier nodes; some of them are classes."""
    n_nodes = draw(st.integers(2, 12))
    parents = [draw(st.sets(st.integers(0, node - 1), min_size=1, max_size=3)) for node in range(1, n_nodes)]
    edges = tuple((str(node), str(parent)) for node, some in enumerate(parents, start=1) for parent in sorted(some))
    chosen = draw(st.permutations(range(n_nodes)))[: draw(st.integers(1, n_nodes))]
    return Taxonomy("random", tuple(TaxonomyClass(i, str(node), str(node)) for i, node in enumerate(chosen)), edges)


@settings(max_examples=100, deadline=None)
@given(random_taxonomies())
def test_distances_of_random_hierarchies_equal_the_definition(taxonomy: Taxonomy) -> None:
    matrix = distance_matrix(taxonomy)
    for a, b in itertools.product(range(taxonomy.n_classes), repeat=2):
        assert matrix[a, b] == slow_distance(taxonomy, a, b)


def test_blocks_of_classes_do_not_change_the_matrix(imagenet: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpora.taxonomy.distances._BLOCK_CELLS", 20_000)
    np.testing.assert_array_equal(distance_matrix(imagenet1k()), imagenet)


def test_matrix_is_cached_by_content_and_a_broken_cache_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taxonomy = from_rows(PETS)
    first = distance_matrix(taxonomy, tmp_path)
    (cached,) = tmp_path.iterdir()
    assert taxonomy.digest[:32] in cached.name
    cached.write_bytes(b"torn")
    np.testing.assert_array_equal(distance_matrix(taxonomy, tmp_path), first)
    monkeypatch.setattr("corpora.taxonomy.distances._compute", lambda _: pytest.fail("the cache was not used"))
    np.testing.assert_array_equal(distance_matrix(taxonomy, tmp_path), first)
    assert [path.name for path in tmp_path.iterdir()] == [cached.name]
    changed = from_rows(PETS.replace("machine,thing", "machine,dog-like"))
    assert changed.digest != taxonomy.digest


def test_classes_are_found_by_index_id_name_and_synonym() -> None:
    taxonomy = imagenet1k()
    assert [taxonomy.find(text) for text in ("281", "n02123045", "Tabby Cat", " tench ")] == [281, 281, 281, 0]
    assert taxonomy.find("maillot, tank suit") == 639
    with pytest.raises(TaxonomyError, match=r"ambiguous.*134 \(n02012849.*517 \(n03126707"):
        taxonomy.find("crane")
    with pytest.raises(TaxonomyError, match='"unicorn" is not in taxonomy "imagenet1k"'):
        taxonomy.find("unicorn")
    with pytest.raises(TaxonomyError, match="0 to 999"):
        taxonomy.find("1000")


def from_rows(text: str, tmp: Path | None = None) -> Taxonomy:
    path = (tmp or Path(os.environ.get("TMPDIR", "/tmp"))) / f"pets-{os.getpid()}.csv"
    path.write_text(text, encoding="utf-8")
    try:
        return from_csv(path, "pets")
    finally:
        path.unlink()


def test_a_table_with_words_and_two_parents_is_read_and_written_alike(tmp_path: Path) -> None:
    taxonomy = from_rows(PETS, tmp_path)
    assert taxonomy.classes[0] == TaxonomyClass(0, "cat", "cat", ("house cat", "moggy"), "a small feline")
    assert [item.name for item in taxonomy.classes] == ["cat", "dog", "robot dog"]
    assert len(taxonomy.paths(2)) == 2
    assert distance_matrix(taxonomy).tolist() == [[0, 1, 3], [1, 0, 3], [3, 3, 0]]
    to_csv(tmp_path / "again.csv", taxonomy)
    assert from_csv(tmp_path / "again.csv", "pets").digest == from_rows(PETS, tmp_path).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("child,parent\na,b\n", 'column "class" is missing'),
        ("", 'column "child" is missing'),
        ("child,parent,class\n,b,0\n", 'line 2: the column "child" is empty'),
        ("child,parent,class\na,b,0,9\n", "line 2: more cells than columns"),
        ("child,parent,class\na,b,x\n", 'line 2: "a" has class index "x"'),
        ("child,parent,class\na,b,-1\n", 'line 2: "a" has class index "-1"'),
        ("child,parent,class\na,r,0\na,s,1\ns,r,\n", 'line 3: "a" has two class indices, 0 and 1'),
        ("child,parent,class\na,r,0\nb,r,0\n", 'line 3: class index 0 is given to "b" and to "a"'),
        ("child,parent,class\na,r,0\nb,r,2\n", "class index 1 is missing"),
        ("child,parent,class\na,r,0\nb,,1\n", 'class 1 is leaf "b", which is in no'),
        ("child,parent,class\na,r,0\nb,s,1\n", r'2 roots \("r", "s"\)'),
        ("child,parent,class\na,b,0\nb,c,\nc,b,\nb,r,\n", "has a cycle, b -> c -> b$"),
        ("child,parent,class\na,b,0\nb,a,1\n", "has a cycle, a -> b -> a, and it has no root"),
        ("child,parent,class\na,a,0\n", "has a cycle, a -> a"),
        ("child,parent,class\na,r,\n", "no classes"),
        ("child,parent,class\na,,0\nb,,1\n", "no row has a parent"),
        ("child,parent,class\n" + "".join(f"{i},{i - 1},\n" for i in range(1, 60)) + "59,58,0\n", "59 levels deep"),
        (
            "child,parent,class\n"
            + "".join(f"{i}{a},{i - 1}{b},\n" for i in range(1, 12) for a in "xy" for b in "xy")
            + "0x,r,\n0y,r,\nleaf,11x,0\n",
            "2048 paths lead to class 0",
        ),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message):
        from_rows(text, tmp_path)


def test_unreadable_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"absent\.csv cannot be read"):
        from_csv(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaxonomyError, match=r"binary\.csv cannot be read"):
        from_csv(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), "square"),
        (np.array([[0, 1], [2, 0.0]]), "symmetric"),
        (np.array([[0, np.nan], [np.nan, 0.0]]), "finite"),
        (np.array([[1.0]]), "itself"),
    ],
)
def test_matrices_that_are_no_distances_are_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message):
        levels_of(matrix)


@pytest.mark.skipif(not (WORDNET / "data.noun").exists(), reason="the WordNet database (wordnet-base) is not installed")
def test_the_carried_table_is_what_wordnet_gives(tmp_path: Path) -> None:
    rebuilt = taxonomy_of("imagenet1k", [item.id for item in imagenet1k().classes], read_nouns(WORDNET))
    to_csv(tmp_path / "rebuilt.csv", rebuilt)
    assert (tmp_path / "rebuilt.csv").read_bytes() == IMAGENET1K.read_bytes()
    assert IMAGENET1K.stat().st_size < 400_000


def test_wordnet_problems_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="wordnet-base"):
        read_nouns(tmp_path)
    (tmp_path / "data.noun").write_text("  licence\nnot a synset\n")
    with pytest.raises(TaxonomyError, match="line 2"):
        read_nouns(tmp_path)
    with pytest.raises(TaxonomyError, match=r"no noun n99999999 \(1 of 1"):
        taxonomy_of("t", ["n99999999"], {})


def test_class_ids_are_those_of_the_class_list() -> None:
    path = SHARED / "imagenet1000" / "classes_wnid_gloss.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    lines = path.read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == [item.id for item in imagenet1k().classes]
