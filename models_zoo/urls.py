from django.urls import path

from models_zoo import views

app_name = "models_zoo"
urlpatterns = [
    path("", views.zoo, name="list"),
    path("add/", views.model_add, name="model_add"),
    path("architectures/", views.architectures, name="architectures"),
    path("compare/", views.compare, name="compare"),
    path("<int:pk>/", views.model, name="model"),
    path("<int:pk>/change/", views.model_change, name="model_change"),
    path("<int:pk>/add/", views.version_add, name="version_add"),
    path("versions/<int:pk>/", views.version, name="version"),
    path("versions/<int:pk>/state/", views.version_state, name="version_state"),
    path("versions/<int:pk>/recheck/", views.version_recheck, name="version_recheck"),
    path("versions/<int:pk>/delete/", views.version_delete, name="version_delete"),
    path("versions/<int:pk>/score/", views.version_score, name="version_score"),
    path("versions/<int:pk>/try/", views.try_picture, name="try"),
    path("tries/<uuid:pk>/", views.try_result, name="try_result"),
    path("versions/<int:pk>/scores/<int:corpus_pk>/", views.scores, name="scores"),
    path("versions/<int:pk>/scores/<int:corpus_pk>/state/", views.scores_state, name="scores_state"),
]
