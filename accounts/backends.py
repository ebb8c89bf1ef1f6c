"""Who a session belongs to, read on every request by one statement that is written once a process.

Django builds the same query anew each time, which takes several times longer than running it.
"""

from functools import cache
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.db import connection

from accounts.models import User

Converters = dict[int, tuple[list[Any], Any]]


@cache
def _statement(vendor: str) -> tuple[str, list[str], Converters]:
    """SQL that reads one person by id, the names of its columns, and how the driver's values become Python's."""
    compiler = User.objects.filter(pk=0).query.get_compiler(connection=connection)
    sql, _ = compiler.as_sql()
    columns = [expression for expression, _, _ in compiler.select]
    return sql, [column.target.attname for column in columns], compiler.get_converters(columns)


class AccountBackend(ModelBackend):
    """Accounts of this site, by name and password."""

    def get_user(self, user_id: int) -> User | None:
        sql, names, converters = _statement(connection.vendor)
        with connection.cursor() as cursor:
            cursor.execute(sql, [user_id])
            row = cursor.fetchone()
        if row is None:
            return None
        values = list(row)
        for place, (steps, expression) in converters.items():
            for step in steps:
                values[place] = step(values[place], expression, connection)
        user = User.from_db(connection.alias, names, values)
        return user if self.user_can_authenticate(user) else None
