"""`manage.py reencrypt_secrets`: every stored secret under the newest key, while the service runs."""

import signal
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from types import FrameType
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.models import Model, Q, QuerySet

from avito_accounts.errors import Undecryptable
from avito_accounts.fields import EncryptedTextField, Sealed, encrypted_fields, key_ids, prefix, reseal

PASSES = 5
BUSY_SECONDS = 0.5  # between passes, for rows that somebody else was writing

Change = tuple[Sealed | None, Sealed | None]
"""What a column holds and shall hold; twice None for one that stays as it is."""


class Interrupted(Exception):
    """Somebody asked for the end, and the present batch is written."""


@contextmanager
def noting_signals() -> Iterator[Event]:
    """Ctrl-C and SIGTERM only set the event, so that no statement is torn; the second one ends the process."""
    asked = Event()

    def note(signum: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signum, before[signum])

    before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    for signum in before:
        signal.signal(signum, note)
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@dataclass
class Table:
    """A table with encrypted columns."""

    model: type[Model]
    fields: list[EncryptedTextField] = field(init=False)

    def __post_init__(self) -> None:
        self.fields = encrypted_fields(self.model)

    @property
    def name(self) -> str:
        return self.model._meta.db_table

    def stale(self) -> QuerySet[Model]:
        """Rows with something that is not under the newest key."""
        newest = prefix(key_ids()[0])
        wanted = Q()
        for column in self.fields:
            wanted |= ~Q(**{column.name: ""}) & ~Q(**{f"{column.name}__startswith": newest})
        return self.model._base_manager.filter(wanted)

    def batches(self, size: int) -> Iterator[list[tuple[Any, UUID, list[Sealed]]]]:
        """Stale rows in the order of their keys: key, cipher id, ciphertexts."""
        rows = self.stale().order_by("pk").values_list("pk", "cipher_id", *(column.name for column in self.fields))
        batch = list(rows[:size])
        while batch:
            yield [(pk, cipher_id, list(texts)) for pk, cipher_id, *texts in batch]
            batch = list(rows.filter(pk__gt=batch[-1][0])[:size])

    def write(self, changes: dict[Any, list[Change]]) -> int:
        """Write what is still as it was read; the number of rows. Who holds a row's lock is not waited for."""
        quote = connection.ops.quote_name
        pk: Any = self.model._meta.pk
        table, key, columns = quote(self.name), quote(pk.column), [quote(column.column) for column in self.fields]
        numbered = list(enumerate(columns))
        sets = ", ".join(f"{c} = CASE WHEN t.{c} = v.old{n} THEN v.new{n} ELSE t.{c} END" for n, c in numbered)
        texts = ", ".join(f"old{n}, new{n}" for n, _ in numbered)
        unchanged = " OR ".join(f"t.{c} = v.old{n}" for n, c in numbered)
        key_type = pk.rel_db_type(connection)
        sql = (
            f"WITH free AS (SELECT {key} AS pk FROM {table} WHERE {key} = ANY(%s::{key_type}[])"  # noqa: S608
            f" ORDER BY {key} FOR NO KEY UPDATE SKIP LOCKED)"
            f" UPDATE {table} t SET {sets}"
            f" FROM unnest(%s::{key_type}[]{', %s::text[], %s::text[]' * len(columns)}) v(pk, {texts})"
            f" JOIN free USING (pk) WHERE t.{key} = v.pk AND ({unchanged})"
        )
        values = [[change[n][side] for change in changes.values()] for n, _ in numbered for side in (0, 1)]
        as_text = [[text if text is None else str(text) for text in column] for column in values]
        with connection.cursor() as cursor:
            cursor.execute(sql, [list(changes), list(changes), *as_text])
            return int(cursor.rowcount)

    def keys(self, column: EncryptedTextField) -> Counter[str]:
        """How many values each key has encrypted; "" stands for what is no ciphertext of ours."""
        quote = connection.ops.quote_name
        name = quote(column.column)
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT coalesce(substring({name} from '^g1:([0-9a-f]{{8}}):'), ''), count(*)"  # noqa: S608
                f" FROM {quote(self.name)} WHERE {name} <> '' GROUP BY 1"
            )
            return Counter(dict(cursor.fetchall()))


class Command(BaseCommand):
    help = "Encrypt every stored secret with the newest key. May run beside the service, be interrupted and repeated."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--batch", type=int, default=500, help="rows a statement (500)")
        parser.add_argument("--check", action="store_true", help="only count the secrets by their keys")

    def handle(self, *args: Any, batch: int, check: bool, **options: Any) -> None:
        if batch < 1:
            raise CommandError("--batch must be at least 1.")
        tables = [Table(model) for model in apps.get_models() if not model._meta.proxy and encrypted_fields(model)]
        if check:
            self._report(tables)
            return
        self.batch = batch
        self.newest = prefix(key_ids()[0])
        self.written = 0
        self.unreadable: set[tuple[str, Any, str]] = set()
        try:
            with noting_signals() as self.asked_to_end:
                busy = sum(self._reencrypt(table) for table in tables)
        except Interrupted:
            raise CommandError(
                f"Interrupted. Rows done: {self.written}. Run it again to go on.", returncode=130
            ) from None
        if self.unreadable:
            raise CommandError(f"Values that no key opens, left as they are: {len(self.unreadable)}.")
        if busy:
            raise CommandError(f"Rows that others were writing all the time: {busy}. Run it again.")
        self.stdout.write(f"Rows done: {self.written}." if self.written else "Nothing to do.")

    def _report(self, tables: list[Table]) -> None:
        newest, *older = key_ids()
        words = {newest: "newest key", **dict.fromkeys(older, "older key"), "": "no ciphertext"}
        for table in tables:
            for column in table.fields:
                for key_id, count in sorted(table.keys(column).items()):
                    known = words.get(key_id, "unknown key")
                    self.stdout.write(f"{table.name}.{column.column}: {count} {known} {key_id}".rstrip())

    def _reencrypt(self, table: Table) -> int:
        """Pass over the table until nothing readable is left; the number of rows that stayed busy."""
        busy = 0
        for number in range(PASSES):
            if number and busy:
                self.asked_to_end.wait(BUSY_SECONDS)
            written, busy = self._pass(table)
            if not written and not busy:
                break
        return busy

    def _pass(self, table: Table) -> tuple[int, int]:
        written = seen = busy = 0
        total = table.stale().count()
        for batch in table.batches(self.batch):
            if self.asked_to_end.is_set():
                raise Interrupted
            renewed = {pk: self._new(table, pk, cipher_id, texts) for pk, cipher_id, texts in batch}
            changes = {pk: row for pk, row in renewed.items() if any(new for _, new in row)}
            done = table.write(changes) if changes else 0
            written, seen, busy = written + done, seen + len(batch), busy + len(changes) - done
            self.written += done
            if changes:
                self.stdout.write(f"{table.name}: {written} done, {max(0, total - seen)} left")
        return written, busy

    def _new(self, table: Table, pk: Any, cipher_id: UUID, texts: list[Sealed]) -> list[Change]:
        """For each column what it holds and shall hold."""
        changes: list[Change] = []
        for column, text in zip(table.fields, texts, strict=True):
            new = None
            if text and not text.startswith(self.newest):
                try:
                    new = reseal(text, context=column.context(cipher_id))
                except Undecryptable:
                    self._name_unreadable(table.name, pk, column.column)
            changes.append((text, new) if new else (None, None))
        return changes

    def _name_unreadable(self, *place: Any) -> None:
        if place not in self.unreadable:
            self.unreadable.add(place)
            table, pk, column = place
            self.stderr.write(f"{table} {pk}: {column} cannot be read")
