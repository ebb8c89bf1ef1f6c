from django.urls import path

from training import views

app_name = "training"
urlpatterns = [
    path("", views.method_list, name="methods"),
    path("methods/<slug:name>/", views.method, name="method"),
    path("methods/<slug:name>/start/", views.run_new, name="run_new"),
    path("methods/<slug:name>/notes/", views.method_notes, name="method_notes"),
    path("pictures/<str:file>", views.method_picture, name="method_picture"),
    path("runs/", views.runs, name="runs"),
    path("runs/<int:pk>/", views.run, name="run"),
    path("runs/<int:pk>/metrics/", views.run_metrics, name="run_metrics"),
    path("runs/<int:pk>/metrics.jsonl", views.run_stream, name="run_stream"),
    path("runs/<int:pk>/samples/<str:file>", views.run_sample, name="run_sample"),
    path("runs/<int:pk>/artifacts/<str:file>", views.run_artifact, name="run_artifact"),
    path("runs/<int:pk>/explore/", views.run_explore, name="run_explore"),
    path("runs/<int:pk>/explorer.json", views.run_explorer, name="run_explorer"),
    path("runs/<int:pk>/points/", views.point_make, name="point_make"),
    path("runs/<int:pk>/cancel/", views.run_cancel, name="run_cancel"),
    path("runs/<int:pk>/retry/", views.run_retry, name="run_retry"),
    path("compare/", views.compare, name="compare"),
    path("compare.csv", views.compare_file, name="compare_file"),
    path("sets/", views.sets, name="sets"),
    path("sets/new/", views.set_new, name="set_new"),
    path("sets/<int:pk>/", views.labelled_set, name="set"),
    path("sets/<int:pk>/editions/new/", views.edition_new, name="edition_new"),
    path("editions/<int:pk>/labels.<slug:ending>", views.edition_file, name="edition_file"),
]
