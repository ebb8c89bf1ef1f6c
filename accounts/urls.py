from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("", views.me, name="me"),
    path("tokens/<int:pk>/revoke/", views.revoke, name="revoke"),
    path("share/<str:kind>/<int:pk>/", views.share, name="share"),
    path("memberships/<int:pk>/remove/", views.unshare, name="unshare"),
]
