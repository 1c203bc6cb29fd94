"""Many rows saved in one statement: Django's `bulk_update` writes a CASE for each row and column, and is far slower."""

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connection
from django.db.models import Model


def write(rows: Collection[Model], names: Sequence[str]) -> None:
    """Save these columns of rows of one model. Arrays are not for this: PostgreSQL would unnest them."""
    if not rows:
        return
    meta = next(iter(rows))._meta
    columns = {field.attname: field for field in meta.concrete_fields}
    fields: list[Any] = [meta.pk, *(columns[name] for name in names)]
    quoted = {field: connection.ops.quote_name(field.column) for field in fields}
    arrays = ", ".join(f"%s::{field.db_type(connection)}[]" for field in fields)
    sets = ", ".join(f"{quoted[field]} = given.{quoted[field]}" for field in fields[1:])
    values = [[field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows] for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {connection.ops.quote_name(meta.db_table)} AS kept SET {sets}"  # noqa: S608  names of ours alone
            f" FROM unnest({arrays}) AS given ({', '.join(quoted.values())})"
            f" WHERE kept.{quoted[fields[0]]} = given.{quoted[fields[0]]}",
            values,
        )
