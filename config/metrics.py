"""`/metrics` for Prometheus: what the database knows, read at the scrape, so that every process says the same."""

from collections.abc import Iterator

from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accounts.authentication import TokenAuthentication
from accounts.errors import Denied
from accounts.models import Scope, User
from jobs.models import Job, JobState
from labeling.models import Judgement, Slot, SlotState


class DatabaseCollector(Collector):
    """Jobs by state and queue, the longest wait, slots by state, judgements in force."""

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("falsify_jobs", "Jobs by state and queue", labels=["state", "queue"])
        for row in Job.objects.order_by().values("state", "queue").annotate(n=Count("pk")):
            jobs.add_metric([row["state"], row["queue"]], row["n"])
        yield jobs
        oldest = Job.objects.filter(state=JobState.QUEUED).aggregate(at=Min("created_at"))["at"]
        waited = (timezone.now() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("falsify_job_wait_seconds", "Age of the oldest queued job", value=waited)
        slots = GaugeMetricFamily("falsify_slots", "Slots by state", labels=["state"])
        counts = dict(Slot.objects.order_by().values_list("state").annotate(n=Count("pk")))
        for state in SlotState.values:
            slots.add_metric([state], counts.get(state, 0))
        yield slots
        in_force = Judgement.objects.filter(superseded_at=None).count()
        yield GaugeMetricFamily("falsify_judgements", "Judgements in force", value=in_force)


def metrics(request: HttpRequest) -> HttpResponse:
    """For admins: a session, or a token with the scope ``read``.

    Raises:
        Denied: for everybody else.
    """
    found = TokenAuthentication().authenticate(request)  # type: ignore[arg-type]
    user, scopes = (found[0], found[1].scopes) if found else (request.user, [Scope.READ])
    if not (isinstance(user, User) and user.is_admin and Scope.READ in scopes):
        raise Denied("Metrics are for admins: send an admin's token with the scope read.")
    registry = CollectorRegistry()
    registry.register(DatabaseCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
