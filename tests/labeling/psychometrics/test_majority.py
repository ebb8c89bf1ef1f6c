"""Majority with veto, against the rule spelled out and on every possible count."""

import pytest

from labeling.psychometrics.intervals import PsychometricsError
from labeling.psychometrics.majority import decide


def test_majority_settles_each_question():
    decision = decide(yes=[3, 1], no=[2, 4], cannot_tell=0)
    assert decision.outcome == "settled"
    assert decision.answers == (True, False)


def test_too_few_judgements_wait_for_the_rest():
    decision = decide(yes=[3], no=[0], cannot_tell=0)
    assert (decision.outcome, decision.missing) == ("waiting", 2)


def test_tie_asks_for_one_more_and_gives_up_at_the_cap():
    assert decide(yes=[2, 4], no=[2, 0], cannot_tell=1).outcome == "more"
    assert decide(yes=[2, 4], no=[2, 0], cannot_tell=1).missing == 1
    assert "question 1" in decide(yes=[2, 4], no=[2, 0], cannot_tell=1).reason
    assert decide(yes=[3], no=[3], cannot_tell=0).outcome == "more"
    assert decide(yes=[2], no=[2], cannot_tell=3).outcome == "dropped"
    assert decide(yes=[3], no=[3], cannot_tell=1).outcome == "dropped"
    assert decide(yes=[3], no=[3], cannot_tell=1, cap=8).outcome == "more"


def test_three_of_five_drop_an_exhibit_even_before_all_have_answered():
    decision = decide(yes=[0, 0], no=[0, 0], cannot_tell=3)
    assert decision.outcome == "dropped"
    assert "3 of 3 could not tell" in decision.reason
    assert decide(yes=[3], no=[0], cannot_tell=2).outcome == "settled"


@pytest.mark.parametrize(("overlap", "enough"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (10, 6)])
def test_the_veto_scales_with_the_overlap(overlap, enough):
    yes = overlap - enough
    assert decide([yes], [0], enough, overlap=overlap).outcome == "dropped"
    if enough > 1:
        assert decide([yes + 1], [0], enough - 1, overlap=overlap).outcome == "settled"


def test_every_count_leads_to_an_end():
    """Whatever people answer, one judgement after another, each exhibit ends settled or dropped within its cap."""

    def walk(yes, no, hard):
        decision = decide([yes], [no], hard)
        if decision.outcome in ("waiting", "more"):
            assert yes + no + hard < 7
            walk(yes + 1, no, hard)
            walk(yes, no + 1, hard)
            walk(yes, no, hard + 1)
        elif decision.outcome == "settled":
            assert decision.answers == (yes > no,)
            assert yes != no
            assert 5 <= yes + no + hard <= 7

    walk(0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"yes": [1], "no": [1, 2], "cannot_tell": 0}, "one entry per question"),
        ({"yes": [1, 2], "no": [1, 2], "cannot_tell": 0}, "same number of answers"),
        ({"yes": [-1], "no": [1], "cannot_tell": 0}, "0 or more"),
        ({"yes": [1], "no": [1], "cannot_tell": 0, "overlap": 0}, "overlap >= 1"),
        ({"yes": [1], "no": [1], "cannot_tell": 0, "overlap": 5, "cap": 4}, "cap >= overlap"),
    ],
)
def test_contradicting_counts_are_refused(arguments, message):
    with pytest.raises(PsychometricsError, match=message):
        decide(**arguments)
