"""A competition from launch to leaderboard, with what people do on the way."""

from accounts.models import User
from competition.models import Competition, RoundState, Snapshot
from tests.competition.builders import label_all, launch, work


def test_from_launch_to_leaderboard(competition: Competition, researcher: User) -> None:
    round_ = launch(competition, by=researcher)
    assert round_.state == RoundState.LABELLING
    label_all(round_.campaign)
    work()
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    snapshot = Snapshot.objects.latest_of(competition)
    names = [str(standing.entrant) for standing in snapshot.standings.order_by("rank")]
    assert names == ["model 0 v1", "model 1 v1", "model 2 v1"]
