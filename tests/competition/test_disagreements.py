"""The explorer: bounded, and equal to the obvious way."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.models import User
from competition import exploring
from competition.disagreements import collect_disagreements
from corpora.models import Corpus
from corpora.taxonomy.distances import levels_of
from models_zoo.models import Version
from tests.competition.builders import committed, work

MATRIX = np.array([[0, 1, 2, 2], [1, 0, 2, 2], [2, 2, 0, 1], [2, 2, 1, 0]], dtype=float)


def slowly(
    a: np.ndarray, b: np.ndarray, ca: np.ndarray, cb: np.ndarray, per_label_pair: int, most: int
) -> tuple[list[int], int]:
    rows = [row for row in range(len(a)) if a[row] != b[row] and 65535 not in (a[row], b[row])]
    rows.sort(key=lambda row: (-MATRIX[a[row], b[row]], -min(ca[row], cb[row]), row))
    kept, seen = [], {}
    for row in rows:
        label = (a[row], b[row])
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= per_label_pair:
            kept.append(row)
    return kept[:most], len(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 4), st.integers(1, 30), st.integers(1, 20))
def test_equals_a_loop(seed: int, n: int, per_label_pair: int, most: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.choice([0, 1, 2, 3, 65535], n, p=[0.23, 0.23, 0.23, 0.23, 0.08]).astype(np.uint16) for _ in range(2))
    ca, cb = (rng.choice([0.5, 0.75, 1.0], n).astype(np.float32) for _ in range(2))
    rows, total = collect_disagreements(
        [a, b], [ca, cb], levels_of(MATRIX), per_label_pair=per_label_pair, most=most, block_rows=block
    )
    assert (rows["row"].tolist(), total) == slowly(a, b, ca, cb, per_label_pair, most)


def test_without_confidences_rows_decide() -> None:
    a, b = np.array([0, 0, 1], np.uint16), np.array([1, 1, 0], np.uint16)
    rows, total = collect_disagreements([a, b], [None, None], levels_of(MATRIX), per_label_pair=1, most=9)
    assert (rows["row"].tolist(), rows["confidence_a"].tolist(), total) == ([0, 2], [1.0, 1.0], 3)


def test_browsing_before_a_label_is_spent(
    corpus: Corpus, versions: list[Version], researcher: User, client: Any
) -> None:
    client.force_login(researcher)
    address = f"/competitions/explore/?corpus={corpus.pk}&first={versions[0].pk}&second={versions[2].pk}"
    assert "Find the disagreements" in client.get(address).content.decode()
    assert exploring.exploration_read(corpus=corpus, versions=versions[:2]) is None
    form = {"corpus": corpus.pk, "first": versions[0].pk, "second": versions[2].pk}
    committed(client.post, path="/competitions/explore/start/", data=form)
    work()
    found = exploring.exploration_read(corpus=corpus, versions=[versions[2], versions[0]])
    assert 0 < found.n_disagree == len(found.rows)
    page = client.get(address).content.decode()
    assert f"disagree on {found.n_disagree} of 60 images" in page
    label = int(found.rows["class_a"][0])
    fewer = found.filtered(label=label, least=0.9)
    page = client.get(f"{address}&label={label}&least=0.9")
    assert page.context["page"].paginator.count == len(fewer) < found.n_disagree
    assert all(label in (found.rows[at]["class_a"], found.rows[at]["class_b"]) for at in fewer)


def test_two_different_versions_of_one_label_space(
    corpus: Corpus, versions: list[Version], researcher: User, client: Any
) -> None:
    client.force_login(researcher)
    same = f"/competitions/explore/?corpus={corpus.pk}&first={versions[0].pk}&second={versions[0].pk}"
    assert "agrees with itself everywhere" in client.get(same).content.decode()
