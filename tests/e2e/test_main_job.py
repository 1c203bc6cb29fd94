"""The whole product as separate processes: web, worker, beat, a Valkey of its own, and the sandbox as Avito.

Buyers write and operators answer while things break. In the end each message is here once, and each reply there once.
"""

import time
from collections import Counter
from typing import Any

from django.conf import LazySettings
from rest_framework_simplejwt.tokens import AccessToken

from avito_accounts import webhooks
from avito_accounts.models import Account
from chats.models import Chat, Message, WebhookEvent
from tests.conftest import Api
from tests.e2e.conftest import Product, all_ok
from tests.factories import authorize, make_account, make_user
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox, wait_for

SETTLE_SECONDS = 90


class Story:
    """Buyers and an operator in three chats of Anna's."""

    def __init__(self, product: Product, sandbox: Sandbox) -> None:
        self.product, self.sandbox = product, sandbox
        self.operator = Api(product.base)
        self.operator.session.headers["Authorization"] = f"Bearer {AccessToken.for_user(make_user('op', 'operator'))}"
        pair = sandbox.tokens(ANNA, ALL_SCOPES)
        self.account: Account = make_account(name="Анна", avito_user_id=ANNA)
        authorize(self.account, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
        self.chats = [
            sandbox.control("POST", "/chats", sellerId=ANNA, buyerName=f"Покупатель {number}")["chatId"]
            for number in range(3)
        ]
        self.asked: list[str] = []
        self.answered: list[str] = []

    def buyer_writes(self, count: int = 1) -> None:
        for _each in range(count):
            chat_id = self.chats[len(self.asked) % len(self.chats)]
            text = f"Вопрос {len(self.asked)}"
            self.sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text=text)
            self.asked.append(text)

    def operator_answers(self, count: int = 1) -> None:
        for _each in range(count):
            chat_id = self.chats[len(self.answered) % len(self.chats)]
            text = f"Ответ {len(self.answered)}"
            answer = self.operator.post(f"/api/v1/avito/chats/{chat_id}/reply", {"text": text})
            assert answer.status_code == 202, answer.text
            self.answered.append(text)

    def shown(self) -> Counter[str]:
        """What the API shows of the buyers' words."""
        texts: Counter[str] = Counter()
        for chat_id in self.chats:
            answer = self.operator.get(f"/api/v1/avito/chats/{chat_id}/messages", limit=200)
            rows: list[dict[str, Any]] = answer.json().get("results", [])
            texts.update(row["text"] for row in rows if row["direction"] == "inbound")
        return texts

    def arrived(self) -> list[list[str]]:
        """The seller's words at Avito, chat by chat, oldest first."""
        return [
            [
                row["content"]["text"]
                for row in reversed(self.sandbox.control("GET", f"/chats/{chat_id}/messages"))
                if row["author_id"] == ANNA
            ]
            for chat_id in self.chats
        ]

    def everything_is_settled(self) -> bool:
        expected = [self.answered[number :: len(self.chats)] for number in range(len(self.chats))]
        return self.shown() == Counter(self.asked) and self.arrived() == expected

    def check(self) -> None:
        wait_for(self.everything_is_settled, SETTLE_SECONDS)
        time.sleep(1)
        assert self.everything_is_settled()
        assert set(Message.objects.values_list("delivery_status", flat=True)) == {"received", "sent"}
        assert set(WebhookEvent.objects.values_list("status", flat=True)) == {"processed"}
        stored = Message.objects.filter(chat__avito_id__in=self.chats)
        assert stored.count() == len(self.asked) + len(self.answered)
        counted = Chat.objects.filter(avito_id__in=self.chats).values_list("messages_count", flat=True)
        assert sum(counted) == stored.count()


def test_nothing_is_lost_and_nothing_doubled_while_everything_breaks(
    running: Product, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_API_BASE_URL, settings.PUBLIC_URL = avito_sandbox.base, running.base
    story = Story(running, avito_sandbox)
    webhooks.subscribe(story.account)

    story.buyer_writes(6)
    wait_for(lambda: story.shown() == Counter(story.asked), 5)
    story.operator_answers(3)
    wait_for(story.everything_is_settled, 5)

    # Avito answers 500, also after it has done what was asked; then it says nothing at all.
    avito_sandbox.fault("status", "/messages$", status=500, times=2, apply="before")
    avito_sandbox.fault("status", "/messenger/", status=500, times=6)
    story.buyer_writes(6)
    story.operator_answers(3)
    time.sleep(2)
    avito_sandbox.fault("silence", "/messages$", times=1, apply="before")
    avito_sandbox.fault("silence", "/messenger/", times=3)
    story.operator_answers(3)
    story.buyer_writes(3)
    time.sleep(2)

    # The worker is killed in the middle of its work.
    avito_sandbox.fault("latency", "/messages$", seconds=0.7, times=4)
    story.operator_answers(3)
    story.buyer_writes(30)
    time.sleep(0.3)
    running.kill("worker")
    story.buyer_writes(3)
    story.operator_answers(3)
    running.start("worker")

    # The broker goes away: webhooks and replies are taken all the same, and done by the workers' own sweeps.
    running.valkey.stop()
    story.buyer_writes(6)
    story.operator_answers(3)
    wait_for(lambda: story.shown() == Counter(story.asked), 30)
    running.valkey.start()
    running.valkey.wait_ready()
    story.buyer_writes(3)
    story.operator_answers(3)

    story.check()
    wait_for(all_ok(Api(running.base)), 60)
