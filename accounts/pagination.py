"""Pages of the API."""

from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """Cursor pages, newest first; ``?page_size=`` up to 500."""

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 500
