from django.urls import path

from competition import views

app_name = "competition"
urlpatterns = [
    path("", views.index, name="list"),
    path("new/", views.create, name="create"),
    path("troubleshoot/<int:version_pk>/", views.troubleshoot, name="troubleshoot"),
    path("troubleshoot/<int:version_pk>/preview/", views.troubleshoot_preview, name="troubleshoot_preview"),
    path("preview/", views.preview, name="preview"),
    path("explore/", views.explore, name="explore"),
    path("explore/start/", views.explore_start, name="explore_start"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/state/", views.state, name="state"),
    path("<int:pk>/edit/", views.edit, name="edit"),
    path("<int:pk>/delete/", views.delete, name="delete"),
    path("<int:pk>/launch/", views.launch, name="launch"),
    path("<int:pk>/exhibits/", views.gallery, name="gallery"),
    path("<int:pk>/exhibits/<int:exhibit_pk>/", views.exhibit, name="exhibit"),
    path("<int:pk>/people/", views.people, name="people"),
    path("<int:pk>/setup/", views.setup, name="setup"),
    path("<int:pk>/entrants/add/", views.entrant_add, name="entrant_add"),
    path("<int:pk>/entrants/preview/", views.entrant_preview, name="entrant_preview"),
    path("<int:pk>/entrants/<int:entrant_pk>/remove/", views.entrant_remove, name="entrant_remove"),
    *[
        path(f"<int:pk>/rounds/{verb}/", views.round_act, {"verb": verb}, name=f"round_{verb}")
        for verb in ("start", "cancel", "retry", "settle", "learn", "close")
    ],
    path("<int:pk>/export/<slug:table>.<slug:form>", views.export, name="export"),
]
