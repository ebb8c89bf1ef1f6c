"""Pages of competitions. Nothing here runs a network or reads a whole corpus."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_researcher
from competition import exploring, exports, learning, planning, reading, services, troubleshooting
from competition.forms import EntrantForm, ExploreForm, ListForm, TroubleshootForm, form_of
from competition.models import Competition, Exhibit, Round, RoundState, Snapshot
from competition.showing import SHOWS, show_of
from competition.showing.base import RELATED, Show
from models_zoo.models import Version

PAGE = 50
TILES = 48
ROUND_ACTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "learn": (learning.round_learn, "The target learns from what people said."),
    "close": (learning.round_close, "The campaign is closed; what was judged is settled."),
    "cancel": (services.round_cancel, "The round is cancelled; nothing is lost."),
    "retry": (services.round_retry, "The round goes on."),
    "settle": (services.round_settle_now, "The leaderboard is being computed."),
}


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


def _competition(request: HttpRequest, pk: int) -> Competition:
    """One that the person may look at, as researchers do: model names and answers are not for annotators."""
    require_researcher(_user(request), action="look at competitions")
    visible = Competition.objects.visible_to(_user(request)).for_lists()
    found: Competition = get_object_or_404(visible, pk=pk)
    return found


def _may_edit(request: HttpRequest, competition: Competition) -> bool:
    return Competition.objects.editable_by(_user(request)).filter(pk=competition.pk).exists()


def _blame(form: BaseForm, error: DomainError) -> None:
    form.add_error(error.field if error.field in form.fields else None, str(error))


def _latest_round(competition: Competition) -> Round | None:
    found: Round | None = competition.rounds.select_related("job", "campaign", "learn_run").order_by("-number").first()
    return found


def _frame(request: HttpRequest, competition: Competition, tab: str) -> dict[str, Any]:
    """What every tab of a competition shows."""
    return {
        "competition": competition,
        "show": show_of(competition),
        "tab": tab,
        "round": _latest_round(competition),
        "may_edit": _may_edit(request, competition),
    }


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The competitions that the person may see, newest first, by kind and name."""
    require_researcher(_user(request), action="look at competitions")
    form = ListForm(request.GET)
    wanted = form.cleaned_data if form.is_valid() else {}
    visible = Competition.objects.visible_to(_user(request)).select_related("corpus", "created_by").with_round()
    if wanted.get("kind"):
        visible = visible.filter(kind=wanted["kind"])
    if wanted.get("q"):
        visible = visible.filter(Q(name__icontains=wanted["q"]) | Q(description__icontains=wanted["q"]))
    page = Paginator(visible.order_by("-id"), PAGE).get_page(request.GET.get("page"))
    states = dict(RoundState.choices)
    for competition in page.object_list:
        competition.state_label = states.get(competition.round_state, "Not launched").split(":")[0]
        competition.size = show_of(competition).size(competition)
    context = {"page": page, "form": form, "query": _query(request), "is_filtered": any(wanted.values())}
    return render(request, "competition/list.html", context)


def _query(request: HttpRequest) -> str:
    """The address's query without its page, for links to other pages."""
    query = request.GET.copy()
    query.pop("page", None)
    return query.urlencode()


def _show_asked(request: HttpRequest) -> Show:
    """The kind that the address or the form names; MAD where neither does."""
    name = request.POST.get("kind") or request.GET.get("kind") or "mad"
    if name not in SHOWS:
        raise Http404(f'There is no kind of competition "{name}".')
    return SHOWS[name]


@login_required
def create(request: HttpRequest) -> HttpResponse:
    """A form for a new competition of one kind; what it would take is shown while it is filled in."""
    user, show = _user(request), _show_asked(request)
    require_researcher(user, action="make a competition")
    form = form_of(show)(request.POST or None, user=user, initial=request.GET.dict())
    if request.method == "POST" and form.is_valid():
        versions = list(form.cleaned_data["versions"])
        try:
            made = services.competition_create(by=user, versions=versions, kind=show.kind.name, **form.values())
        except DomainError as error:
            _blame(form, error)
        else:
            return redirect("competition:launch", pk=made.pk)
    preview = form.preview() if form.is_bound else None
    query = request.GET.copy()
    query.pop("kind", None)
    context = {"form": form, "preview": preview, "show": show, "shows": SHOWS.values(), "query": query.urlencode()}
    return render(request, "competition/form.html", context)


@login_required
@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """What the form would take, as a fragment."""
    user, show = _user(request), _show_asked(request)
    require_researcher(user, action="make a competition")
    form = form_of(show)(request.POST, user=user)
    return render(request, "competition/_preview.html", {"preview": form.preview()})


@login_required
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Settings before the launch; afterwards the description and who may look."""
    competition, user = _competition(request, pk), _user(request)
    show = show_of(competition)
    form = form_of(show)(request.POST or None, user=user, instance=competition)
    if request.method == "POST" and form.is_valid():
        try:
            services.competition_configure(
                competition=Competition.objects.get(pk=pk),
                by=user,
                versions=list(form.cleaned_data["versions"]),
                **form.values(),
            )
        except DomainError as error:
            _blame(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("competition:setup", pk=pk)
    shown = Competition.objects.get(pk=pk)
    preview = form.preview() if form.is_bound else services.competition_preview(plan=planning.Plan.of(shown))
    context = {"form": form, "competition": shown, "preview": preview, "show": show}
    return render(request, "competition/form.html", context)


@login_required
def launch(request: HttpRequest, pk: int) -> HttpResponse:
    """What the launch will take, and the button."""
    competition = _competition(request, pk)
    if request.method == "POST":
        try:
            services.competition_launch(competition=competition, by=_user(request))
        except DomainError as error:
            messages.error(request, str(error))
            return redirect("competition:launch", pk=pk)
        messages.success(request, f'"{competition}" is launched: its entrants are being scored.')
        return redirect(competition)
    shown = services.competition_preview(plan=planning.Plan.of(competition))
    selects = show_of(competition).selects(competition)
    context = {**_frame(request, competition, "launch"), "preview": shown, "selects": selects}
    return render(request, "competition/launch.html", context)


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """The dashboard: the round as steps, the leaderboards, and what the kind shows beneath them."""
    competition = _competition(request, pk)
    context = _frame(request, competition, "leaderboard")
    show, round_ = context["show"], context["round"]
    everyone = request.GET.get("people") == "everyone"
    snapshot = _chosen_snapshot(request, competition, everyone)
    measures = show.kind.measures
    context |= {
        **_round_context(round_, show),
        **show.dashboard(competition, snapshot, round_),
        "dashboard": show.template("dashboard"),
        "snapshot": snapshot,
        "everyone": everyone,
        "has_everyone": Snapshot.objects.filter(competition=competition, counts_everyone=True).exists(),
        "boards": reading.leaderboards(snapshot, measures, reading.snapshot_before(snapshot)),
        "control": reading.control_arm(snapshot, measures[0].name),
        "n_entrants": competition.entrants.count(),
    }
    return render(request, "competition/detail.html", context)


def _chosen_snapshot(request: HttpRequest, competition: Competition, everyone: bool) -> Snapshot | None:
    """The snapshot whose number the address names, else the newest of the view."""
    number = request.GET.get("snapshot", "")
    if number.isdecimal():
        chosen: Snapshot = get_object_or_404(
            Snapshot.objects.select_related("round"), competition=competition, number=int(number)
        )
        return chosen
    return Snapshot.objects.select_related("round").latest_of(competition, counts_everyone=everyone)


def _round_context(round_: Round | None, show: Show) -> dict[str, Any]:
    labelled = reading.labelled_counts(round_)
    return {
        "steps": reading.round_steps(round_, labelled, show.steps),
        "labelled": labelled,
        "nothing_to_ask": bool(round_ and round_.labelling_at and not labelled["trials"]),
        "has_learnt": bool(round_ and learning.has_learnt(round_)),
    }


@login_required
@require_GET
def state(request: HttpRequest, pk: int) -> HttpResponse:
    """The round's steps, as a fragment; the page is asked to reload when the round has moved on."""
    competition = _competition(request, pk)
    context = _frame(request, competition, "leaderboard")
    context |= _round_context(context["round"], context["show"])
    response = render(request, "competition/_round.html", context)
    if context["round"] and context["round"].state != request.GET.get("was"):
        response["HX-Refresh"] = "true"
    return response


@login_required
@require_GET
def gallery(request: HttpRequest, pk: int) -> HttpResponse:
    """Exhibits with what each model said and what people made of it."""
    competition = _competition(request, pk)
    show = show_of(competition)
    form = show.GalleryForm(request.GET, competition=competition, cases=show.cases)
    filters = form.cleaned_data if form.is_valid() else {}
    page = Paginator(show.exhibits(competition, filters), TILES).get_page(request.GET.get("page"))
    query = _query(request)
    context = {
        **_frame(request, competition, "exhibits"),
        "form": form,
        "page": page,
        "tiles": show.tiles(competition, list(page.object_list)),
        "tiles_template": show.template("tiles"),
        "query": query,
        "is_filtered": any(request.GET.get(name) for name in form.fields),
    }
    return render(request, "competition/gallery.html", context)


@login_required
@require_GET
def exhibit(request: HttpRequest, pk: int, exhibit_pk: int) -> HttpResponse:
    """One exhibit: its pictures, what every entrant said, what people answered."""
    competition = _competition(request, pk)
    show = show_of(competition)
    found = get_object_or_404(
        Exhibit.objects.select_related(*RELATED, "item__corpus"), pk=exhibit_pk, round__competition=competition
    )
    context = {
        **_frame(request, competition, "exhibits"),
        "exhibit": found,
        **show.exhibit(competition, found),
    }
    return render(request, show.template("exhibit"), context)


@login_required
@require_GET
def people(request: HttpRequest, pk: int) -> HttpResponse:
    """Who labelled how much, how fast, and how far they agree with the majority."""
    competition = _competition(request, pk)
    snapshot = Snapshot.objects.latest_of(competition)
    rounds = competition.rounds.select_related("campaign").exclude(campaign=None).order_by("number")
    context = {
        **_frame(request, competition, "people"),
        "rounds": rounds,
        "people": reading.people_lines(snapshot),
        "snapshot": snapshot,
    }
    return render(request, "competition/people.html", context)


@login_required
@require_GET
def setup(request: HttpRequest, pk: int) -> HttpResponse:
    """Entrants, settings, history of leaderboards, exports."""
    competition = _competition(request, pk)
    entrants = competition.entrants.select_related("version__model").order_by("number")
    context = {
        **_frame(request, competition, "setup"),
        "entrants": entrants,
        "entrant_form": EntrantForm(user=_user(request), competition=competition),
        "rounds": competition.rounds.select_related("campaign", "job")
        .annotate(n_duels=Count("duels"))
        .order_by("-number"),
        "snapshots": competition.snapshots.defer("matrices", "k_curve", "control", "agreement").select_related("round")[
            :50
        ],
        "exports": exports.TABLES[competition.kind],
        "settings": show_of(competition).settings(competition),
        "entrant_cost": show_of(competition).entrant_cost(competition),
        "formats": exports.ENDINGS,
    }
    return render(request, "competition/setup.html", context)


@login_required
@require_POST
def entrant_add(request: HttpRequest, pk: int) -> HttpResponse:
    competition = _competition(request, pk)
    form = EntrantForm(request.POST, user=_user(request), competition=competition)
    if not form.is_valid():
        messages.error(request, "Choose a verified version that fits and does not compete yet.")
        return redirect("competition:setup", pk=pk)
    return _act(
        request,
        lambda: services.entrant_add(competition=competition, version=form.cleaned_data["version"], by=_user(request)),
        f'"{form.cleaned_data["version"]}" competes now.',
        redirect(competition) if competition.rounds.exists() else redirect("competition:setup", pk=pk),
    )


def _target(request: HttpRequest, pk: int) -> Version:
    """A version that the person may look at and have troubleshot."""
    require_researcher(_user(request), action="troubleshoot a version")
    found: Version = get_object_or_404(
        Version.objects.visible_to(_user(request)).select_related("model__taxonomy"), pk=pk
    )
    return found


@login_required
def troubleshoot(request: HttpRequest, version_pk: int) -> HttpResponse:
    """The form with which a version is troubleshot: sensible settings, and what they take."""
    user, version = _user(request), _target(request, version_pk)
    edition = troubleshooting.edition_for(version)
    initial = {"edition": edition, "corpus": troubleshooting.corpus_of(edition), **request.GET.dict()}
    form = TroubleshootForm(request.POST or None, user=user, version=version, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            made = troubleshooting.troubleshoot(
                version=version, corpus=form.cleaned_data["corpus"], edition=form.cleaned_data["edition"], by=user,
                seed=form.cleaned_data["seed"], **form.settings(),
            )  # fmt: skip
        except DomainError as error:
            _blame(form, error)
        else:
            messages.success(request, f'"{version}" is being troubleshot: it is pruned into variants first.')
            return redirect(made)
    context = {"version": version, "form": form, "show": SHOWS[troubleshooting.kind_for(version)]}
    return render(request, "competition/troubleshooting/start.html", context)


@login_required
@require_POST
def troubleshoot_preview(request: HttpRequest, version_pk: int) -> HttpResponse:
    """How many images, judgements and minutes it will take, as a fragment."""
    version = _target(request, version_pk)
    form = TroubleshootForm(request.POST, user=_user(request), version=version)
    form.is_valid()
    said, kind = form.cleaned_data, troubleshooting.kind_for(version)
    if not said.get("corpus") or not said.get("edition"):
        return render(request, "competition/troubleshooting/_takes.html", {})
    settings = form.settings()
    settings["options"] |= {"edition": said["edition"].pk}
    shown = services.competition_preview(plan=troubleshooting.plan_for(version, said["corpus"], **settings))
    context = {
        "preview": shown,
        "minutes": troubleshooting.people_minutes(shown, kind),
        "seconds_each": troubleshooting.SECONDS_EACH[kind],
    }
    return render(request, "competition/troubleshooting/_takes.html", context)


@login_required
def entrant_preview(request: HttpRequest, pk: int) -> HttpResponse:
    """What adding a version would take, as a fragment."""
    competition = _competition(request, pk)
    form = EntrantForm(request.GET, user=_user(request), competition=competition)
    if not form.is_valid():
        return HttpResponse("")
    newcomers = [form.cleaned_data["version"]] if competition.rounds.exists() else []
    shown = services.competition_preview(plan=planning.Plan.of(competition, newcomers=newcomers)) if newcomers else None
    return render(request, "competition/_preview.html", {"preview": shown, "newcomer": True})


@login_required
@require_POST
def entrant_remove(request: HttpRequest, pk: int, entrant_pk: int) -> HttpResponse:
    competition = _competition(request, pk)
    entrant = get_object_or_404(competition.entrants, pk=entrant_pk)
    return _act(
        request,
        lambda: services.entrant_remove(entrant=entrant, by=_user(request)),
        f'"{entrant}" no longer competes.',
        redirect("competition:setup", pk=pk),
    )


@login_required
@require_POST
def round_act(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Start the next round, or cancel, retry or settle the latest one."""
    competition, user = _competition(request, pk), _user(request)
    if verb == "start":
        start = partial(services.round_start, competition=competition, by=user)
        return _act(request, start, "The next round has begun.", redirect(competition))
    latest = _latest_round(competition)
    if latest is None:
        raise Http404("There is no round yet.")
    act, done = ROUND_ACTIONS[verb]
    return _act(request, partial(act, round=latest, by=user), done, redirect(competition))


@login_required
@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    competition = _competition(request, pk)
    name = str(competition)
    try:
        services.competition_delete(competition=competition, by=_user(request))
    except DomainError as error:
        messages.error(request, str(error))
        return redirect(competition)
    messages.success(request, f'"{name}" is deleted.')
    return redirect("competition:list")


def _act(request: HttpRequest, act: Callable[[], Any], done: str, answer: HttpResponse) -> HttpResponse:
    """Call a service and say how it went."""
    try:
        act()
    except DomainError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return answer


@login_required
@require_GET
def export(request: HttpRequest, pk: int, table: str, form: str) -> StreamingHttpResponse:
    """One of the tables of ``exports``, as a file."""
    kind, name, blocks = exports.export_stream(_competition(request, pk), table, form)
    response = StreamingHttpResponse(blocks, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@login_required
@require_GET
def explore(request: HttpRequest) -> HttpResponse:
    """Where two versions of one kind differ most, before any label is spent."""
    user, show = _user(request), _show_asked(request)
    require_researcher(user, action="explore disagreements")
    chosen = all(request.GET.get(name) for name in ("corpus", "first", "second"))
    form = ExploreForm(request.GET if chosen else None, user=user, task=show.kind.task, initial=request.GET.dict())
    context: dict[str, Any] = {"form": form, "show": show, "shows": [each for each in SHOWS.values() if each.exploring]}
    if chosen and form.is_valid():
        try:
            context |= _explored(request, show, form.cleaned_data)
        except DomainError as error:
            _blame(form, error)
    return render(request, show.template("explore"), context)


def _explored(request: HttpRequest, show: Show, chosen: dict[str, Any]) -> dict[str, Any]:
    corpus, pair = chosen["corpus"], exploring.pair_ordered([chosen["first"], chosen["second"]])
    exploring.pair_require(corpus=corpus, versions=pair)
    context = {"pair": pair, "corpus": corpus, "query": _query(request)}
    found = show.explored(request.GET, corpus, pair)
    if found is None:
        return {**context, "job": exploring.exploration_job(corpus=corpus, versions=pair)}
    page = Paginator(found.pop("rows"), TILES).get_page(request.GET.get("page"))
    tiles = found.pop("tiles")(cast("np.ndarray", page.object_list))
    return {**context, **found, "page": page, "tiles": tiles}


@login_required
@require_POST
def explore_start(request: HttpRequest) -> HttpResponse:
    """Have a worker find where two versions differ."""
    user, show = _user(request), _show_asked(request)
    require_researcher(user, action="explore disagreements")
    form = ExploreForm(request.POST, user=user, task=show.kind.task)
    if not form.is_valid():
        messages.error(request, "Choose a corpus and two different versions.")
        return redirect("competition:explore")
    pair = [form.cleaned_data["first"], form.cleaned_data["second"]]
    try:
        exploring.exploration_request(corpus=form.cleaned_data["corpus"], versions=pair, by=user)
    except DomainError as error:
        messages.error(request, str(error))
    query = f"corpus={form.cleaned_data['corpus'].pk}&first={pair[0].pk}&second={pair[1].pk}"
    return redirect(f"{reverse('competition:explore')}?kind={show.kind.name}&{query}")
