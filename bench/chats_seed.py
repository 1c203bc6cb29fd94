"""Chats and messages by the million, made by PostgreSQL itself. The same arguments make the same rows.

Messages come in the order of their times and chats are older the smaller their ids, as in life; a tenth of what is said
goes to chats long begun. Three chats are of a size that chats rarely have, see `Special`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from django.contrib.auth.models import User
from django.db import connection

from avito_accounts.models import Account

ACCOUNTS = 20
OPERATORS = 10
RARE, SELDOM, COMMON = "ковролин", "после праздников", "актуально"
"""Words of five messages, of one in 365, and of every tenth."""


class Special(IntEnum):
    """Ids of large chats: without news for long, the newest of all, and the one whose depth is measured."""

    IDLE = 1
    BUSY = 2
    DEEP = 3


_PHRASES = (
    *("Здравствуйте, можно посмотреть квартиру", "Добрый день, сколько стоит доставка", "Скажите, торг возможен"),
    *("Подскажите адрес и время", "Когда удобно подъехать", "Пришлите ещё фотографии", "Мебель остаётся"),
    *("Спасибо, я подумаю", "Перезвоните мне вечером", "До метро далеко", "Документы готовы", "Залог нужен"),
)
_MORE = (
    *(
        "на выходных",
        "в субботу утром",
        "завтра после шести",
        "с детьми",
        "с собакой",
        "на месяц",
        "на сутки",
        "вдвоём",
    ),
    *("за наличные", "переводом", "у подъезда", "на втором этаже"),
)
_NAMES = ("Мария", "Пётр", "Анна", "Иван", "Ольга", "Сергей", "Елена", "Дмитрий", "Наталья", "Алексей", "Юлия", "Фёдор")
_SURNAMES = ("Иванов", "Смирнова", "Кузнецов", "Попова", "Соколов", "Лебедева", "Козлов", "Новикова", "Морозов")
_TITLES = ("Студия", "1-к. квартира", "2-к. квартира", "Комната", "Дом", "Дача", "Апартаменты", "Таунхаус", "Гараж")
_CITIES = ("Москва", "Санкт-Петербург", "Казань", "Сочи", "Мытищи", "Тверь", "Уфа")

_MESSAGES = """
INSERT INTO chats_message (chat_id, avito_user_id, avito_id, direction, type, text, content, author_id,
    delivery_status, error_code, error_detail, attempts, is_live, absences, is_placeholder, created_at, read_at)
SELECT chat_id, 900000 + chat_id %% %(accounts)s, 'message-' || i,
    CASE WHEN i %% 2 = 0 THEN 'inbound' ELSE 'outbound' END, 'text', text, jsonb_build_object('text', text),
    CASE WHEN i %% 2 = 0 THEN 77 ELSE 900000 + chat_id %% %(accounts)s END,
    CASE WHEN i %% 2 = 0 THEN 'received' ELSE 'sent' END, '', '', 0, false, 0, false,
    timestamptz '2025-01-01 00:00Z' + i * interval '3 s', NULL
FROM (
    SELECT i,
        CASE
            WHEN i <= %(large)s THEN 1
            WHEN i > %(messages)s - %(large)s THEN 2
            WHEN i %% 40 = 0 THEN 3
            ELSE greatest(4, least(%(chats)s, 4 + (i * %(chats)s / %(messages)s) - CASE
                WHEN i %% 10 = 0 THEN floor(hash(i, 1) * hash(i, 2) * %(chats)s / 2)::bigint ELSE 0 END))
        END AS chat_id,
        (%(phrases)s::text[])[1 + floor(hash(i, 3) * 12)::int]
            || ' ' || (%(more)s::text[])[1 + floor(hash(i, 4) * 12)::int]
            || ' ' || (%(names)s::text[])[1 + floor(hash(i, 5) * 12)::int] || ' ' || i
            || CASE WHEN hash(i, 6) < 0.1 THEN ' ещё актуально?' ELSE '' END
            || CASE WHEN i %% 365 = 0 THEN ' Это после праздников.' ELSE '' END
            || CASE WHEN i %% (%(messages)s / 5) = 7 THEN ' Ковролин новый.' ELSE '' END AS text
    FROM generate_series(1::bigint, %(messages)s) AS i
) AS said
"""
_CHATS = """
INSERT INTO chats_chat (id, account_id, avito_user_id, avito_id, status, name, phone, city, item_id, item_title,
    item_url, chat_type, tags, assignee_id, last_message_id, last_message_at, activity_at, unread_count,
    messages_count, sync_failures, created_at, updated_at)
SELECT c, (%(account_ids)s::bigint[])[1 + c %% %(accounts)s], 900000 + c %% %(accounts)s, 'u2i-seed-' || c,
    -- Old chats are closed, the oldest put away; some of the new ones are closed at once.
    CASE WHEN c < %(chats)s / 10 THEN 'archived' WHEN c < %(chats)s / 2 OR c %% 5 = 0 THEN 'closed' ELSE 'active' END,
    (%(names)s::text[])[1 + floor(hash(c, 1) * 12)::int] || ' ' || (%(surnames)s::text[])[1 + c %% 9] || ' ' || c,
    CASE WHEN c %% 3 = 0 THEN '' ELSE '+79' || lpad((c * 7919 %% 1000000000)::text, 9, '0') END,
    (%(cities)s::text[])[1 + floor(hash(c, 2) ^ 2 * 7)::int], 1000000 + c %% 5000,
    (%(titles)s::text[])[1 + c %% 9] || ', ' || (20 + c %% 5000 %% 90) || ' м²', 'https://www.avito.ru/' || c, 'u2i',
    array_remove(ARRAY[
        CASE WHEN c %% 1000 = 0 THEN 'vip' END,
        CASE WHEN c %% 10 = 1 THEN 'перезвонить' END,
        CASE WHEN c < %(chats)s / 3 THEN 'архив' END
    ], NULL)::varchar[],
    CASE WHEN c %% 3 = 0 THEN (%(operator_ids)s::bigint[])[1 + c / 3 %% %(operators)s] END,
    last_id, said_at, coalesce(said_at, timestamptz '2024-12-31 00:00Z'), CASE WHEN c %% 33 = 0 THEN 2 ELSE 0 END,
    coalesce(said, 0), 0, timestamptz '2024-12-31 00:00Z', coalesce(said_at, timestamptz '2024-12-31 00:00Z')
FROM generate_series(1::bigint, %(chats)s) AS c
LEFT JOIN (
    SELECT chat_id, max(id) AS last_id, max(created_at) AS said_at, count(*) AS said FROM chats_message GROUP BY chat_id
) AS messages ON chat_id = c
"""


def seed(*, chats: int, messages: int, large: int = 30_000) -> None:
    """Fill empty tables. `large`: messages of the idle and of the busy chat."""
    account_ids = [Account.objects.create(name=f"Seed {n}", avito_user_id=900_000 + n).pk for n in range(ACCOUNTS)]
    operator_ids = [User.objects.create(username=f"operator-{n}").pk for n in range(OPERATORS)]
    values: dict[str, Any] = {
        "accounts": ACCOUNTS, "operators": OPERATORS, "account_ids": account_ids, "operator_ids": operator_ids,
        "chats": chats, "messages": messages, "large": large, "phrases": list(_PHRASES), "more": list(_MORE),
        "names": list(_NAMES), "surnames": list(_SURNAMES), "titles": list(_TITLES), "cities": list(_CITIES),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'")
        cursor.execute(
            "CREATE OR REPLACE FUNCTION pg_temp.hash(i bigint, salt int) RETURNS float LANGUAGE sql IMMUTABLE PARALLEL "
            "SAFE AS $$ SELECT (hashint8extended(i, salt) & 1048575) / 1048576.0 $$"
        )
        with _without_checks_and_indexes(cursor):
            cursor.execute(_MESSAGES.replace("hash(", "pg_temp.hash("), values)
            cursor.execute(_CHATS.replace("hash(", "pg_temp.hash("), values)
        cursor.execute("SELECT setval('chats_chat_id_seq', %s)", [chats])
        cursor.execute("VACUUM (ANALYZE) chats_message")
        cursor.execute("VACUUM (ANALYZE) chats_chat")
        cursor.execute("RESET maintenance_work_mem; RESET work_mem")


@contextmanager
def _without_checks_and_indexes(cursor: Any) -> Iterator[None]:
    """Foreign keys are not checked meanwhile, and the indexes that are no constraints are made afterwards."""
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('chats_chat', 'chats_message') "
        "AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)"
    )
    indexes = cursor.fetchall()
    for name, _definition in indexes:
        cursor.execute(f"DROP INDEX {name}")
    cursor.execute("SET session_replication_role = replica")
    yield
    cursor.execute("SET session_replication_role = DEFAULT")
    for _name, definition in indexes:
        cursor.execute(definition)
    cursor.execute("ALTER INDEX message_by_text ALTER COLUMN 1 SET STATISTICS 2000")
