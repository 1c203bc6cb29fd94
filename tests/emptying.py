"""What a test that commits has written is gone after it, some fifty times sooner than by Django's own `flush`.

Django truncates every table and lets each app make its content types and permissions anew. Most tables are empty most
of the time, and a few rows are deleted sooner than files are replaced.
"""

from django.core.management import call_command
from django.db import connection, transaction

MADE_BY_MIGRATE = "'django_migrations', 'django_content_type', 'auth_permission'"
LARGE_BYTES = 256 * 1024

# The locks wait for whoever still writes, as TRUNCATE does. Keys between tables are checked at the end, by Django's
# deferred constraints; TRUNCATE refuses tables with checks pending, and so comes first.
EMPTY = f"""
DO $$
DECLARE
    tables regclass[];
    one regclass;
    has_rows boolean;
BEGIN
    SELECT array_agg(oid ORDER BY relname) INTO tables FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT IN ({MADE_BY_MIGRATE});
    EXECUTE 'LOCK TABLE ' || array_to_string(tables, ', ') || ' IN SHARE ROW EXCLUSIVE MODE';
    FOREACH one IN ARRAY tables LOOP
        IF pg_relation_size(one) > {LARGE_BYTES} THEN
            EXECUTE format('TRUNCATE %s CASCADE', one);
        END IF;
    END LOOP;
    FOREACH one IN ARRAY tables LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', one) INTO has_rows;
        IF has_rows THEN
            EXECUTE format('DELETE FROM %s', one);
        END IF;
    END LOOP;
END $$
"""
KEPT = """
SELECT array_agg(row ORDER BY row) FROM (
    SELECT permission::text AS row FROM auth_permission AS permission
    UNION ALL SELECT type::text FROM django_content_type AS type
) AS kept
"""

_kept: object = None
"""The content types and permissions as `flush` leaves them."""


def _present() -> object:
    with connection.cursor() as cursor:
        cursor.execute(KEPT)
        return cursor.fetchone()


def empty_tables() -> None:
    """Delete what was written; the content types and permissions are made anew when they are not as they were."""
    global _kept
    if _kept is not None and _present() == _kept:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(EMPTY)
    else:
        call_command("flush", verbosity=0, interactive=False, reset_sequences=False, allow_cascade=False)
        _kept = _present()
