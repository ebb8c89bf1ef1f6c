"""The verify protocol: sides, values, rulings."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.errors import DomainError
from labeling.protocols import PROTOCOLS, verify
from labeling.services.assignment import is_scheduled

BALLOTS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.fixed_dictionaries({"3": st.booleans(), "7": st.booleans()})),
        st.tuples(st.sampled_from(["cannot_tell", "broken"]), st.just({})),
    ),
    max_size=7,
)


def test_sides_are_even_and_stay() -> None:
    orders = [verify.shown_order([3, 7], seed=1, person=person, trial=9) for person in range(2000)]
    assert orders == [verify.shown_order([3, 7], seed=1, person=person, trial=9) for person in range(2000)]
    assert 900 < sum(order == [3, 7] for order in orders) < 1100
    assert all(sorted(order) == [3, 7] for order in orders)


def test_every_default_key_is_used_once_per_trial() -> None:
    for count in (1, 2):
        codes = [action.code for action in verify.actions(count)]
        assert len(set(codes)) == len(codes)
    answers = {action.answer for action in verify.actions(2) if action.kind == "answer"}
    assert answers == set(product([True, False], repeat=2))


def test_synonyms_do_not_repeat_the_name() -> None:
    names = [{"name": "cat", "synonyms": ["cat", "feline"], "gloss": "g"}]
    assert verify.present([0], names) == [{"index": 0, "name": "cat", "synonyms": ["feline"], "gloss": "g"}]


@given(BALLOTS)
def test_ruling_equals_an_obvious_count(ballots: list[tuple[str, dict[str, bool]]]) -> None:
    ruling = verify.decide([3, 7], ballots, overlap=5, cap=7)
    answers = [value for kind, value in ballots if kind == "answer"]
    yes = {key: sum(value[key] for value in answers) for key in ("3", "7")}
    unable = len(ballots) - len(answers)
    assert ruling.counts == {key: [yes[key], len(answers) - yes[key]] for key in yes}
    assert ruling.n_cannot_tell + ruling.n_broken == unable
    if unable >= 3 and unable / max(5, len(ballots)) >= 0.6:
        assert ruling.outcome == "dropped"
    elif len(ballots) < 5:
        assert (ruling.outcome, ruling.missing) == ("waiting", 5 - len(ballots))
    elif any(2 * count == len(answers) for count in yes.values()):
        assert ruling.outcome == ("undecided" if len(ballots) >= 7 else "more")
    else:
        assert ruling.outcome == "settled"
        assert ruling.value == {key: 2 * count > len(answers) for key, count in yes.items()}


def test_values() -> None:
    assert verify.clean_value([3, 7], "answer", {"7": False, "3": True}) == {"3": True, "7": False}
    assert verify.clean_value([3], "cannot_tell", None) == {}
    for kind, value in [("answer", {"3": True}), ("answer", []), ("broken", {"3": True}), ("shrug", {})]:
        with pytest.raises(DomainError):
            verify.clean_value([3, 7], kind, value)


@given(st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5]), st.integers(0, 50), st.integers(1, 50))
def test_schedule_keeps_its_share_in_every_block(share: float, seed: int, person: int) -> None:
    length = round(1 / share)
    flags = [is_scheduled(share=share, served=n, seed=seed, person=person, what="gold") for n in range(4 * length)]
    assert [sum(flags[start : start + length]) for start in range(0, 4 * length, length)] == [1, 1, 1, 1]


def test_every_protocol_is_whole() -> None:
    needed = {"shown_order", "present", "actions", "clean_value", "clean_classes", "matches", "decide"}
    assert all(needed <= set(dir(protocol)) for protocol in PROTOCOLS.values())
