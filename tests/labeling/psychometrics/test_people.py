"""The report on persons: every rule's figures in one line a person, and honest where there is nothing to measure."""

import numpy as np
import pytest

from labeling.psychometrics.intervals import PsychometricsError, wilson
from labeling.psychometrics.mos import maximum_likelihood_scores
from labeling.psychometrics.people import report
from labeling.psychometrics.screening import bt500, repeat_consistency, side_bias

PERSONS, ITEMS, REPEATS = 12, 40, 6


def campaign(seed=0):
    """Columns of a campaign: person 3 answers at random, 5 is fast, 7 always says 4 and takes the left side."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(PERSONS), ITEMS + REPEATS)
    item = np.tile(np.concatenate([np.arange(ITEMS), np.arange(REPEATS)]), PERSONS)
    value = rng.uniform(1, 5, ITEMS)[item] + rng.normal(0, 0.3, person.size)
    value[person == 3] = rng.uniform(-3, 9, ITEMS + REPEATS)
    value[person == 7] = 4
    start = person * (ITEMS + REPEATS)
    repeat_of = np.where(np.arange(person.size) - start >= ITEMS, start + item, -1)
    right = np.where(item < 5, rng.random(person.size) < 0.95, np.nan)
    right[(person == 3) & (item < 5)] = 0
    seconds = rng.uniform(1, 3, person.size)
    seconds[person == 5] = 0.2
    left = rng.integers(0, 2, person.size).astype(float)
    left[person == 7] = 1
    return {
        "person": np.array([f"p{k:02}" for k in range(PERSONS)])[person],
        "item": item,
        "value": value,
        "repeat_of": repeat_of,
        "right": right,
        "seconds": seconds,
        "order": np.arange(person.size),
        "chose_left": left,
    }


def test_planted_people_are_found_each_by_the_rule_for_it():
    found = report(**campaign())
    said = {line.person: " ".join(line.reasons) for line in found.people}
    assert "gold:" in said["p03"]
    assert "repeat consistency:" in said["p03"]
    assert "speed: 100 % of 46 answers came in under 0.5 s" in said["p05"]
    assert "straight-lining: gave one answer 46 times running" in said["p07"]
    assert "side bias: chose the left side in 46 of 46 pairs" in said["p07"]
    assert [who for who, text in said.items() if text] == ["p03", "p05", "p07"]


def test_figures_are_those_of_the_rules():
    columns = campaign(1)
    first = columns["repeat_of"] < 0
    three = [columns[name][first] for name in ("person", "item", "value")]
    found = report(**columns).people
    far, (_, people) = bt500(*three), maximum_likelihood_scores(*three)
    repeats = repeat_consistency(columns["person"], columns["value"], columns["repeat_of"])
    sides = side_bias(columns["person"], columns["chose_left"])
    for p, line in enumerate(found):
        assert line.person == far.persons[p]
        assert (line.above, line.below, line.judged) == (far.figures["above"][p], far.figures["below"][p], ITEMS)
        assert line.rejected == far.flagged[p]
        assert line.bias == pytest.approx(people.bias[p])
        assert line.inconsistency == pytest.approx(people.inconsistency[p])
        assert (line.repeat_error, line.repeats) == (pytest.approx(repeats.figures["difference"][p]), REPEATS)
        assert line.left_chance == pytest.approx(sides.figures["p"][p])
        low, high = wilson(line.gold_share * line.gold_judged, line.gold_judged)
        assert (line.gold_low, line.gold_high) == (pytest.approx(low), pytest.approx(high))


def test_what_was_not_recorded_is_none():
    columns = campaign()
    found = report(columns["person"], columns["item"], columns["value"], repeat_of=columns["repeat_of"])
    line = found.people[0]
    unknown = (line.gold_share, line.median_seconds, line.fast_share, line.left_share, line.left_chance, line.run)
    assert unknown == (None,) * 6
    assert found.people[7].run == ITEMS + REPEATS  # one answer all along needs no order to be seen
    without = report(columns["person"][:40], columns["item"][:40], columns["value"][:40])
    assert without.people[0].repeat_error is None
    assert without.people[0].repeats == 0


def test_one_person_is_reported_with_what_cannot_be_told():
    found = report(["x"] * 3, [1, 2, 3], [1.0, 2.0, 2.0])
    (line,) = found.people
    assert not line.rejected
    assert not line.rejectable
    assert line.inconsistency is None
    assert line.bias == pytest.approx(0)
    assert any("bt500" in note and "can reject nobody" in note for note in found.notes)


def test_a_person_who_leaves_in_the_middle_is_measured_by_what_they_did():
    columns = campaign()
    stays = ~((columns["person"] == "p02") & (columns["item"] >= 4))
    renumbered = np.cumsum(stays) - 1
    kept = {name: column[stays] for name, column in columns.items()}
    kept["repeat_of"] = np.where(kept["repeat_of"] >= 0, renumbered[kept["repeat_of"]], -1)
    line = report(**kept).people[2]
    assert (line.person, line.judged, line.repeats) == ("p02", 4, 4)
    assert line.reasons == ()


def test_everybody_in_perfect_agreement_is_above_suspicion():
    person, item = np.divmod(np.arange(60), 10)
    found = report(person, item, (item % 5).astype(float), repeat_of=np.full(60, -1))
    assert all(not line.reasons and line.inconsistency == pytest.approx(0, abs=1e-9) for line in found.people)


def test_no_judgements_are_refused():
    with pytest.raises(PsychometricsError, match="no judgements"):
        report([], [], [])
