"""What the answers of a campaign amount to: opinion scores of ratings, a scale from comparisons."""

from typing import Any

import numpy as np
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from labeling.charts import whiskers
from labeling.models import Campaign, Exclusion
from labeling.results import Line, Names, Scene, compares, opinion_scores, rates, scales
from labeling.views.shared import campaign_of, paged, show

SCENES_PER_PAGE = 12


@login_required
@require_GET
def results(request: HttpRequest, pk: int) -> HttpResponse:
    """Scores of all pictures, with intervals; beside them what they would be if nobody were excluded."""
    campaign = campaign_of(request, pk)
    if rates(campaign):
        return _ratings(request, campaign)
    if compares(campaign):
        return _comparisons(request, campaign)
    raise Http404("this protocol has no scores")


def _has_excluded(campaign: Campaign) -> bool:
    return Exclusion.objects.filter(participation__campaign=campaign, lifted_at=None).exists()


def _ratings(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    opinions = opinion_scores(campaign)
    lines = sorted(opinions.lines, key=lambda line: (-line["mos"], line["item"]))
    has_excluded = _has_excluded(campaign)
    all_lines = opinion_scores(campaign, everyone=True).lines if has_excluded else []
    everyone = {line["item"]: line for line in all_lines}
    page = paged(request, lines)
    names = Names.of_ids(line["item"] for line in page)
    plot = whiskers(page.object_list, value="mos")
    rows = [
        {"line": line, "mark": mark, "everyone": everyone.get(line["item"]), **_named(names, line["item"])}
        for line, mark in zip(page, plot["marks"], strict=True)
    ]
    return show(
        request,
        "ratings",
        campaign,
        "results",
        page=page,
        rows=rows,
        plot=plot,
        has_excluded=has_excluded,
        summary=_summary(lines),
        notes=opinions.notes,
    )


def _summary(lines: list[Line]) -> dict[str, Any]:
    widths = [line["high"] - line["low"] for line in lines if line["low"] is not None]
    return {
        "pictures": len(lines),
        "answers": sum(line["n"] for line in lines),
        "per_picture": float(np.mean([line["n"] for line in lines])) if lines else 0.0,
        "half_width": float(np.mean(widths)) / 2 if widths else None,
    }


def _named(names: Names, item: int) -> dict[str, Any]:
    return {"item": names.items[item], "name": names.label(item)}


def _comparisons(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    page = paged(request, scales(campaign), SCENES_PER_PAGE)
    has_excluded = _has_excluded(campaign)
    everyone = (
        {line["item"]: line for scene in scales(campaign, everyone=True) for line in scene.lines}
        if has_excluded
        else {}
    )
    names = Names.of_ids(line["item"] for scene in page for line in scene.lines)
    shown = [_scene(scene, names, everyone) for scene in page]
    return show(request, "scales", campaign, "results", page=page, scenes=shown, has_excluded=has_excluded)


def _scene(scene: Scene, names: Names, everyone: dict[int, Line]) -> dict[str, Any]:
    plot = whiskers(scene.lines, value="score") if scene.lines else None
    marks = plot["marks"] if plot else []
    rows = [
        {"line": line, "mark": mark, "everyone": everyone.get(line["item"]), **_named(names, line["item"])}
        for line, mark in zip(scene.lines, marks, strict=True)
    ]
    return {"scene": scene, "plot": plot, "rows": rows}
