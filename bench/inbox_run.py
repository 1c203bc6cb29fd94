"""What `bench.inbox` measures, in a process of its own with the product's settings."""

import json
import sys
import time
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402

from avito_accounts.models import Account  # noqa: E402
from bench import rule  # noqa: E402
from chats import inbox  # noqa: E402
from chats.models import Chat, Message, WebhookEvent  # noqa: E402

GOAL = rule.Goal(least=5, target=8)
FIRST_USER = 900_000_000
SEED = """
INSERT INTO chats_webhookevent
    (digest, body, signature, request_id, received_at, note, lane, status, type, chat_avito_id, message_avito_id,
     attempts, deaths, error)
SELECT sha256(body), body, '', '', now(), '', user_id, 'received', '', '', '', 0, 0, ''
FROM (
    SELECT %(first)s + number %% %(accounts)s AS user_id, convert_to(jsonb_build_object(
        'id', 'e' || number, 'version', 'v3.0.0', 'timestamp', 1795000000 + number,
        'payload', jsonb_build_object('type', 'message', 'value', jsonb_build_object(
            'id', 'm' || number, 'chat_id', 'u2i-' || (number * 7919 %% %(chats)s),
            'user_id', %(first)s + (number * 7919 %% %(chats)s) %% %(accounts)s,
            'author_id', 5, 'created', 1795000000 + number, 'type', 'text', 'chat_type', 'u2i', 'item_id', 1768287444,
            'content', jsonb_build_object('text', 'Здравствуйте! Свободно с ' || number %% 28 || ' числа?'))
        ))::text, 'UTF8') AS body
    FROM generate_series(%(start)s::bigint, %(end)s::bigint) AS number
) made
"""


class Backlog:
    """Events that wait, so many that no measurement comes to their end."""

    def __init__(self, events: int, chats: int, accounts: int) -> None:
        self.events, self.chats, self.accounts = events, chats, accounts
        self.made = 0
        for number in range(accounts):
            Account.objects.create(name=f"Account {number}", avito_user_id=FIRST_USER + number)

    def fill(self) -> None:
        waiting = WebhookEvent.objects.filter(status="received").count()
        missing = self.events - waiting
        with connection.cursor() as cursor:
            if missing > 0:
                cursor.execute(
                    SEED,
                    {
                        "first": FIRST_USER,
                        "accounts": self.accounts,
                        "chats": self.chats,
                        "start": self.made,
                        "end": self.made + missing - 1,
                    },
                )
                self.made += missing
            cursor.execute("VACUUM (ANALYZE) chats_webhookevent")
            cursor.execute("CHECKPOINT")


def rate(batch: int, seconds: float) -> float:
    """Events a second."""
    inbox.BATCH = batch
    count, began = 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        count += inbox._process_batch()
    return count / elapsed


def main(options: dict[str, Any]) -> int:
    backlog = Backlog(options["events"], options["chats"], options["accounts"])
    batches = {"baseline": 1, "ours": inbox.BATCH}
    print(f"{options['events']} events of {options['accounts']} accounts and {options['chats']} chats wait.")
    print(f"  round   one by one/s   batches of {batches['ours']}/s    ratio")
    rounds = []
    for number in range(options["rounds"]):
        rates = {}
        for side in rule.order(number):
            backlog.fill()
            rate(batches[side], options["warmup"])
            rates[side] = rate(batches[side], options["seconds"])
        rounds.append(rule.Round(**rates))
        print(f"  {number + 1:>5}   {rates['baseline']:>12.0f}   {rates['ours']:>15.0f}   {rounds[-1].ratio:>5.1f}x")
    print(rule.summary(rounds))
    print(rule.verdict(rounds, GOAL, seconds=options["seconds"], warmup=options["warmup"], refused=0))
    done = WebhookEvent.objects.filter(status="processed").count()
    counted = sum(Chat.objects.values_list("messages_count", flat=True))
    stored = Message.objects.count()
    is_whole = done == counted == stored and not WebhookEvent.objects.exclude(status__in=("processed", "received"))
    print(f"Events processed {done}, messages stored {stored}, counted by their chats {counted}.")
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
