from django.urls import path

from labeling.views import annotate, campaigns, people, results, trials

app_name = "labeling"
urlpatterns = [
    path("invite/<str:code>/", annotate.invite, name="invite"),
    path("label/", annotate.mine, name="mine"),
    path("label/slots/<int:pk>/<int:place>/picture", annotate.image, name="image"),
    path("label/<int:pk>/", annotate.label, name="label"),
    path("label/<int:pk>/answer/", annotate.answer, name="answer"),
    path("label/<int:pk>/next/", annotate.following, name="next"),
    path("label/<int:pk>/undo/", annotate.undo, name="undo"),
    path("label/<int:pk>/skip/", annotate.skip, name="skip"),
    path("label/<int:pk>/viewing/", annotate.viewing, name="viewing"),
    path("label/<int:pk>/preferences/", annotate.preferences, name="preferences"),
    path("label/<int:pk>/thanks/", annotate.thanks, name="thanks"),
    path("campaigns/", campaigns.index, name="list"),
    path("campaigns/new/", campaigns.create, name="create"),
    path("campaigns/<int:pk>/", campaigns.detail, name="campaign"),
    path("campaigns/<int:pk>/settings/", campaigns.settings, name="settings"),
    path("campaigns/<int:pk>/move/", campaigns.move, name="move"),
    path("campaigns/<int:pk>/people/", people.people, name="people"),
    path("campaigns/<int:pk>/people/<int:part>/exclude/", people.exclude, name="exclude"),
    path("campaigns/<int:pk>/people/<int:part>/restore/", people.restore, name="restore"),
    path("campaigns/<int:pk>/results/", results.results, name="results"),
    path("campaigns/<int:pk>/verdicts/", trials.verdicts, name="verdicts"),
    path("campaigns/<int:pk>/trials/<int:trial>/", trials.trial, name="trial"),
    path("campaigns/<int:pk>/trials/<int:trial>/gold/", trials.gold, name="gold"),
    path("campaigns/<int:pk>/trials/<int:trial>/drop/", trials.drop, name="drop"),
    path("campaigns/<int:pk>/add/", trials.add, name="add"),
    path("campaigns/<int:pk>/candidates/", trials.candidates, name="candidates"),
    path("campaigns/<int:pk>/invites/", campaigns.invites, name="invites"),
    path("campaigns/<int:pk>/invites/<int:invite>/revoke/", campaigns.revoke, name="revoke"),
    path("campaigns/<int:pk>/export/<str:table>.<str:ending>", campaigns.export, name="export"),
]
