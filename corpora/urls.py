from django.urls import path

from corpora import views

app_name = "corpora"
urlpatterns = [
    path("", views.corpus_list, name="list"),
    path("new/", views.corpus_new, name="new"),
    path("taxonomies/", views.taxonomy_list, name="taxonomies"),
    path("taxonomies/new/", views.taxonomy_new, name="taxonomy_new"),
    path("taxonomies/<int:pk>/", views.taxonomy_detail, name="taxonomy"),
    path("<int:pk>/", views.corpus_detail, name="detail"),
    path("<int:pk>/edit/", views.corpus_edit, name="edit"),
    path("<int:pk>/delete/", views.corpus_remove, name="delete"),
    path("<int:pk>/rows/", views.corpus_rows, name="rows"),
    path("<int:pk>/rows/<int:row>/", views.corpus_row, name="row"),
    path("<int:pk>/rows/<int:row>.webp", views.row_thumbnail, name="row_thumbnail"),
    path("<int:pk>/rows/<int:row>/image", views.row_image, name="row_image"),
    path("<int:pk>/opinions/", views.corpus_opinions, name="opinions"),
    path("<int:pk>/opinions/attach/", views.corpus_opinions_attach, name="opinions_attach"),
    path("<int:pk>/quarantine/", views.corpus_quarantine, name="quarantine"),
    path("<int:pk>/duplicates/", views.corpus_duplicates, name="duplicates"),
]
