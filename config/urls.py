"""Every address of the site."""

from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path

from competition.home import home
from config.metrics import metrics
from corpora.views import media

urlpatterns = [
    path("metrics", metrics, name="metrics"),
    path("", home, name="home"),
    path("competitions/", include("competition.urls")),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("account/", include("accounts.urls")),
    path("healthz", lambda request: HttpResponse("ok", content_type="text/plain")),
    path("api/v1/", include("config.api")),
    path("models/", include("models_zoo.urls")),
    path("training/", include("training.urls")),
    path("jobs/", include("jobs.urls")),
    path("", include("labeling.urls")),
    path("corpora/", include("corpora.urls")),
    path("media/<path:name>", media, name="media"),
]
