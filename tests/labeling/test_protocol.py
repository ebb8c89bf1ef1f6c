"""The verify protocol: sides, values, rulings."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accounts.errors import DomainError
from labeling.protocols import PROTOCOLS
from labeling.services.assignment import is_scheduled

verify = PROTOCOLS["verify"]
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
    for protocol in PROTOCOLS.values():
        for actions in protocol.variants().values():
            codes = [action.code for action in actions]
            assert len(set(codes)) == len(codes)
    answers = {action.answer for action in verify.variants()["two"] if action.kind == "answer"}
    assert answers == set(product([True, False], repeat=2))


def test_synonyms_do_not_repeat_the_name() -> None:
    names = [{"name": "cat", "synonyms": ["cat", "feline"], "gloss": "g"}]
    cards = [{"index": 0, "name": "cat", "synonyms": ["feline"], "gloss": "g"}]
    assert verify.present([0], names) == {"classes": cards}


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


ANSWERS = {
    "verify": ([3, 7], {"3": True, "7": False}),
    "compare": ([], {"value": 35.5}),
    "forced": ([], {"value": -1}),
    "ccr": ([], {"value": 2}),
    "acr": ([], {"value": 4}),
    "continuous": ([], {"value": 62}),
}


def _verdict(value: dict[str, Any]) -> dict[str, Any]:
    return {"mean": value["value"], "std": 1.0} if "value" in value else value


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_takes_an_answer_to_its_verdict(name: str) -> None:
    protocol = PROTOCOLS[name]
    classes, value = ANSWERS[name]
    order = protocol.shown_order(classes, seed=1, person=2, trial=3)
    kept = protocol.clean_value(classes, "answer", value)
    assert kept == value
    assert protocol.matches(kept, protocol.clean_expected(classes, protocol.expected_of(_verdict(kept))))
    assert protocol.pressed(kept, order)
    ruling = protocol.decide(classes, [("answer", kept)] * 3, overlap=3, cap=5)
    assert ruling.outcome == "settled"
    assert protocol.words(ruling.value)
    assert protocol.decide(classes, [("answer", kept)] * 2, overlap=3, cap=5).missing == 1
    assert protocol.decide(classes, [("broken", {})] * 2, overlap=3, cap=5).outcome == "dropped"


@pytest.mark.parametrize("name", ["compare", "forced", "ccr"])
def test_a_comparison_means_the_same_on_either_side(name: str) -> None:
    protocol = PROTOCOLS[name]
    better_first = {"value": protocol.clean_answer([], {"value": 1})["value"] * (60 if name == "compare" else 1)}
    for order in ([0, 1], [1, 0]):
        assert protocol.chose_left(better_first, order) is (order[0] == 0)
        assert protocol.pressed(better_first, order).startswith("-") is (order[0] == 0)
    assert protocol.mirrored(protocol.mirrored(better_first)) == better_first
    assert protocol.chose_left(protocol.mirrored(better_first), [0, 1]) is False


def test_the_zone_of_uncertainty_prefers_neither() -> None:
    compare = PROTOCOLS["compare"]
    assert [compare.chose_left({"value": value}, [0, 1]) for value in (21, 20, 0, -20, -21)] == [
        True, None, None, None, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compare", {"value": 101}), ("compare", {"value": float("nan")}), ("compare", {"value": True}),
        ("forced", {"value": 0.5}), ("ccr", {"value": 4}), ("acr", {"value": 0}), ("continuous", {"value": "60"}),
        ("continuous", {}), ("acr", {"value": 3, "more": 1}),
    ],
)  # fmt: skip
def test_numbers_off_the_scale_are_refused(name: str, value: dict[str, object]) -> None:
    with pytest.raises(DomainError):
        PROTOCOLS[name].clean_value([], "answer", value)


def test_a_mean_has_its_t_interval() -> None:
    values = [4.0, 5.0, 3.0, 4.0]
    ruling = PROTOCOLS["acr"].decide([], [("answer", {"value": value}) for value in values], overlap=4, cap=6)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert ruling.value == pytest.approx({"mean": 4.0, "std": np.std(values, ddof=1), "n": 4, "low": low, "high": high})
    assert ruling.counts == {"3": 1, "4": 2, "5": 1}
