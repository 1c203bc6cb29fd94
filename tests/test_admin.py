"""The back office: everybody sees what the role allows, secrets go in and never come out, Avito's data is read-only."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from api.roles import role_of
from avito_accounts.admin import AccountAdmin, AccountForm
from avito_accounts.models import Account, Authorization, DailyStats
from chats.models import Chat, Message, WebhookEvent
from integrations_str.models import Integration, Property
from tests.conftest import Api
from tests.factories import authorize, make_account, make_chat, make_message, make_user
from tests.sandbox.driver import Sandbox

ACCOUNTS = "/admin/avito_accounts/account/"
CHATS = "/admin/chats/chat/"
MESSAGES = "/admin/chats/message/"
EVENTS = "/admin/chats/webhookevent/"
FORM = {
    "name": "Счёт",
    "avito_user_id": "",
    "proxy": "",
    "new_client_id": "id-of-anna",
    "new_client_secret": "s3cret-of-anna",
    "online_keep_alive_interval": "300",
}
SECRETS = ("id-of-anna", "s3cret-of-anna")
pytestmark = pytest.mark.django_db


def signed_in(name: str, role: Any = None, **fields: Any) -> Client:
    client = Client(headers={"accept-language": "en"})
    client.force_login(
        make_user(name, role, is_staff=True, **fields), backend="django.contrib.auth.backends.ModelBackend"
    )
    return client


@pytest.fixture
def root() -> Client:
    return signed_in("root", is_superuser=True)


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", "operator")


def make_event(**fields: Any) -> WebhookEvent:
    number = WebhookEvent.objects.count()
    values = {"digest": b"%032d" % number, "body": b'{"id": "<b>%d</b>"}' % number, "received_at": timezone.now()}
    return WebhookEvent.objects.create(**{**values, **fields})


def a_bit_of_everything() -> dict[str, int]:
    account = make_account(name="Арбат", avito_user_id=None, client_id="id-of-anna", client_secret="s3cret-of-anna")
    authorize(account, access_token="access-token-of-anna", refresh_token="refresh-token-of-anna")
    chat = make_chat(account, name="Пётр", item_title="Студия")
    message = make_message(chat, text="<script>alert(1)</script>")
    event = make_event(status="dead", error="Traceback\nValueError: bad")
    return {ACCOUNTS: account.pk, CHATS: chat.pk, MESSAGES: message.pk, EVENTS: event.pk}


def text_of(answer: Any) -> str:
    text: str = answer.content.decode()
    return text


# Who sees what


def test_a_superuser_sees_every_list_and_page(root: Client) -> None:
    for path, pk in a_bit_of_everything().items():
        for page in (path, f"{path}{pk}/change/"):
            answer = root.get(page)
            assert answer.status_code == 200, page
            assert not re.search(r"\(&#x27;\w+&#x27;, ", text_of(answer)), "a label shows as Python's tuple"
            assert "<script>alert" not in text_of(answer)
    assert root.get("/admin/").status_code == 200


def test_empty_lists_are_pages_too(root: Client) -> None:
    assert {root.get(path).status_code for path in (ACCOUNTS, CHATS, MESSAGES, EVENTS, f"{ACCOUNTS}add/")} == {200}


def test_an_operator_sees_accounts_and_chats_but_neither_webhooks_nor_forms(operator: Client) -> None:
    pks = a_bit_of_everything()
    assert {operator.get(path).status_code for path in (ACCOUNTS, CHATS, MESSAGES)} == {200}
    assert {operator.get(f"{p}{pks[p]}/change/").status_code for p in (ACCOUNTS, CHATS, MESSAGES)} == {200}
    assert operator.get(EVENTS).status_code == operator.get(f"{EVENTS}{pks[EVENTS]}/change/").status_code == 403
    assert "webhookevent" not in text_of(operator.get("/admin/"))
    for path in (ACCOUNTS, CHATS, MESSAGES, EVENTS):
        refused = [
            operator.get(f"{path}add/"),
            operator.post(f"{path}add/", FORM),
            operator.post(f"{path}{pks[path]}/change/", FORM),
            operator.post(f"{path}{pks[path]}/delete/", {"post": "yes"}),
        ]
        assert {answer.status_code for answer in refused} == {403}
    assert operator.get(f"{ACCOUNTS}{pks[ACCOUNTS]}/connect/").status_code == 403
    assert operator.get(f"{ACCOUNTS}{pks[ACCOUNTS]}/renew-tokens/").status_code == 403
    assert operator.get(f"{EVENTS}{pks[EVENTS]}/replay/").status_code == 403
    shown = text_of(operator.get(f"{ACCOUNTS}{pks[ACCOUNTS]}/change/"))
    assert 'type="password"' not in shown
    assert "Арбат" in shown
    assert not any(secret in shown for secret in (*SECRETS, "access-token-of-anna", "refresh-token-of-anna"))


def test_an_admin_by_role_does_everything_an_account_needs() -> None:
    admin, pks = signed_in("boss", "admin"), a_bit_of_everything()
    assert admin.get(EVENTS).status_code == 200
    assert admin.get(f"{ACCOUNTS}add/").status_code == 200
    assert admin.get(f"{ACCOUNTS}{pks[ACCOUNTS]}/connect/").status_code == 302


def test_somebody_without_a_role_and_somebody_outside_see_nothing() -> None:
    pks, stranger = a_bit_of_everything(), signed_in("stranger")
    outside = Client()
    assert outside.get("/admin/login/").status_code == 200
    for path, pk in pks.items():
        for page in (path, f"{path}{pk}/change/"):
            assert stranger.get(page).status_code == 403
            assert outside.get(page).status_code == 302
    not_staff = Client()
    not_staff.force_login(make_user("desk", "admin"), backend="django.contrib.auth.backends.ModelBackend")
    assert not_staff.get(ACCOUNTS).status_code == 302


# Finding


@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        (ACCOUNTS, "q=арбат", 1), (ACCOUNTS, "q=zzz", 0), (ACCOUNTS, "connection=connected", 1),
        (ACCOUNTS, "proxy=fallen", 0), (ACCOUNTS, "eternal_online=yes", 0),
        (CHATS, "q=студия", 1), (CHATS, "q=%25", 0), (CHATS, "unread=yes", 0), (CHATS, "status__exact=active", 1),
        (MESSAGES, "q=alert", 1), (MESSAGES, "direction__exact=outbound", 0), (MESSAGES, "q=Пётр", 1),
        (EVENTS, "status__exact=dead", 1), (EVENTS, "status__exact=received", 0), (EVENTS, "q=nothing", 0),
    ],
)  # fmt: skip
def test_lists_are_searched_and_filtered(root: Client, path: str, query: str, found: int) -> None:
    a_bit_of_everything()
    answer = root.get(f"{path}?{query}")
    assert answer.status_code == 200
    assert answer.context["cl"].result_count == found


# Secrets


def post_form(client: Client, path: str, **fields: str) -> None:
    answer = client.post(path, {**FORM, **fields})
    errors = answer.context["adminform"].form.errors if answer.context else ""
    assert answer.status_code == 302, errors


def test_secrets_are_written_and_never_shown(root: Client) -> None:
    post_form(root, f"{ACCOUNTS}add/")
    account = Account.objects.get()
    assert (account.client_id, account.client_secret) == SECRETS
    for page in (ACCOUNTS, f"{ACCOUNTS}{account.pk}/change/", f"{ACCOUNTS}{account.pk}/history/"):
        assert not any(secret in text_of(root.get(page)) for secret in SECRETS)
    refused = root.post(f"{ACCOUNTS}{account.pk}/change/", {**FORM, "name": ""})
    assert refused.status_code == 200
    assert not any(secret in text_of(refused) for secret in SECRETS)


def test_an_empty_secret_keeps_what_is_stored(root: Client) -> None:
    post_form(root, f"{ACCOUNTS}add/")
    pk = Account.objects.get().pk
    authorize(Account.objects.get())
    post_form(root, f"{ACCOUNTS}{pk}/change/", name="Новое имя", new_client_id="", new_client_secret="")
    account = Account.objects.get()
    assert (account.name, account.client_id, account.client_secret) == ("Новое имя", *SECRETS)
    assert Authorization.objects.exists()


def test_a_switch_forgets_a_secret(root: Client) -> None:
    post_form(root, f"{ACCOUNTS}add/")
    path = f"{ACCOUNTS}{Account.objects.get().pk}/change/"
    authorize(Account.objects.get())
    post_form(root, path, new_client_id="", new_client_secret="", forget_keys="on")
    account = Account.objects.get()
    assert (account.client_id, account.client_secret, account.connection_status) == ("", "", "not_checked")
    assert not Authorization.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("proxy", "987654"), ("online_keep_alive_interval", "59"), ("name", ""), ("avito_user_id", "0")],
)
def test_the_form_refuses_what_the_api_refuses(root: Client, field: str, value: str) -> None:
    answer = root.post(f"{ACCOUNTS}add/", {**FORM, field: value})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert not Account.objects.exists()


def test_with_a_lost_key_the_account_can_be_opened_and_mended(root: Client, settings: Any) -> None:
    post_form(root, f"{ACCOUNTS}add/")
    authorize(Account.objects.get())
    settings.FIELD_ENCRYPTION_KEYS = ["another"]
    path = f"{ACCOUNTS}{Account.objects.get().pk}/change/"
    assert root.get(ACCOUNTS).status_code == root.get(path).status_code == 200
    post_form(root, path, new_client_secret="new")
    assert Account.objects.get().client_secret == "new"


# What Avito says stays as it is


@pytest.mark.parametrize("path", [CHATS, MESSAGES, EVENTS])
def test_avitos_data_can_be_neither_added_nor_changed_nor_deleted(root: Client, path: str) -> None:
    pk = a_bit_of_everything()[path]
    for answer in (
        root.get(f"{path}add/"),
        root.post(f"{path}add/", {"name": "x", "text": "x"}),
        root.post(f"{path}{pk}/change/", {"name": "x", "text": "x", "status": "closed"}),
        root.post(f"{path}{pk}/delete/", {"post": "yes"}),
    ):
        assert answer.status_code == 403
    root.post(path, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert (Chat.objects.count(), Message.objects.count(), WebhookEvent.objects.count()) == (1, 1, 1)
    assert Chat.objects.get().name == "Пётр"


def test_a_link_of_a_listing_is_a_link_only_if_it_leads_to_the_web(root: Client) -> None:
    chat = make_chat(item_url="javascript:alert(1)")
    page = text_of(root.get(f"{CHATS}{chat.pk}/change/"))
    assert 'href="javascript' not in page


# Acting


def reply(client: Client, chat: Chat, text: str) -> Any:
    return client.post(f"{CHATS}{chat.pk}/reply/", {"text": text}, follow=True)


def test_an_operator_answers_from_the_page_of_a_chat(operator: Client) -> None:
    account = make_account()
    authorize(account)
    chat = make_chat(account)
    make_message(chat, text="Свободно?")
    page = text_of(operator.get(f"{CHATS}{chat.pk}/change/"))
    assert "Свободно?" in page
    assert f'action="{CHATS}{chat.pk}/reply/"' in page
    answer = reply(operator, chat, "Да, <b>свободно</b>")
    assert "The reply is queued" in text_of(answer)
    assert "Да, &lt;b&gt;свободно&lt;/b&gt;" in text_of(answer)
    message = Message.objects.get(direction="outbound")
    assert (message.text, message.delivery_status) == ("Да, <b>свободно</b>", "queued")
    assert message.written_by is not None
    assert message.written_by.username == "operator"


@pytest.mark.parametrize("text", ["", "   ", "x" * 1001])
def test_an_answer_that_cannot_be_sent_is_not_queued(operator: Client, text: str) -> None:
    account = make_account()
    authorize(account)
    assert "1 to 1000 characters" in text_of(reply(operator, make_chat(account), text))
    assert not Message.objects.exists()


def test_a_chat_without_a_connected_account_cannot_be_answered(operator: Client) -> None:
    for chat in (make_chat(make_account()), make_chat()):
        assert "not connected" in text_of(reply(operator, chat, "Да"))
    assert not Message.objects.exists()


def test_answering_needs_the_right_a_post_and_a_token_against_forgery() -> None:
    account = make_account()
    authorize(account)
    chat = make_chat(account)
    assert reply(signed_in("stranger"), chat, "Да").status_code == 403
    assert signed_in("clerk", "operator").get(f"{CHATS}{chat.pk}/reply/").status_code == 405
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(User.objects.get(username="clerk"), backend="django.contrib.auth.backends.ModelBackend")
    assert reply(careful, chat, "Да").status_code == 403
    assert not Message.objects.exists()


def test_a_failed_message_is_sent_again_and_others_are_not(operator: Client) -> None:
    account = make_account()
    authorize(account)
    chat = make_chat(account)
    details: dict[str, Any] = {"direction": "outbound", "avito_id": None}
    failed = make_message(chat, **details, delivery_status="failed", error_code="Invalid", error_detail="no")
    others = [
        make_message(chat, **details, delivery_status="unknown"),
        make_message(chat, direction="outbound", delivery_status="sent"),
        make_message(chat),
    ]
    answer = operator.post(
        MESSAGES, {"action": "send_again", "_selected_action": [failed.pk, *(m.pk for m in others)]}, follow=True
    )
    assert "1 message is queued again" in text_of(answer)
    failed.refresh_from_db()
    assert (failed.delivery_status, failed.error_code, failed.attempts) == ("queued", "", 0)
    statuses = [Message.objects.get(pk=m.pk).delivery_status for m in others]
    assert statuses == ["unknown", "sent", "received"]


def test_events_are_processed_again_one_by_one_and_many_at_once(root: Client) -> None:
    first, second = make_event(status="dead", attempts=5, error="x"), make_event(status="ignored")
    answer = root.post(f"{EVENTS}{first.pk}/replay/", follow=True)
    assert "1 event will be processed again" in text_of(answer)
    first.refresh_from_db()
    assert (first.status, first.attempts, first.error) == ("received", 0, "")
    answer = root.post(EVENTS, {"action": "replay", "_selected_action": [first.pk, second.pk]}, follow=True)
    assert "2 events will be processed again" in text_of(answer)
    second.refresh_from_db()
    assert second.status == "received"


def test_all_unusable_events_are_processed_again_after_a_question(root: Client, operator: Client) -> None:
    dead, other = make_event(status="dead", error="Traceback\nKeyError: 'id'"), make_event(status="ignored")
    assert "Some deliveries could not be used" in text_of(root.get(EVENTS))
    assert "press “Process again”" in text_of(root.get(f"{EVENTS}{dead.pk}/change/"))
    button = f"{EVENTS}replay-dead/"
    assert operator.post(button).status_code == 403
    assert "as long as the reason is not mended" in text_of(root.get(button))
    dead.refresh_from_db()
    assert dead.status == "dead"
    assert "1 event will be processed again" in text_of(root.post(button, follow=True))
    assert [*WebhookEvent.objects.order_by("id").values_list("status", flat=True)] == ["received", "ignored"]
    assert "There is nothing to process again" in text_of(root.post(button, follow=True))
    assert "Some deliveries could not be used" not in text_of(root.get(EVENTS))
    assert "There is nothing to do" in text_of(root.get(f"{EVENTS}{other.pk}/change/"))


def test_a_whole_table_is_not_processed_again_by_mistake(root: Client) -> None:
    at = timezone.now()
    rows = [WebhookEvent(digest=b"%d" % n, body=b"", received_at=at, status="processed") for n in range(1001)]
    first = WebhookEvent.objects.bulk_create(rows)[0]
    choice = {"action": "replay", "_selected_action": [first.pk], "select_across": "1"}
    assert "1000 events will be processed again" in text_of(root.post(EVENTS, choice, follow=True)).replace(",", "")
    assert WebhookEvent.objects.filter(status="processed").get() == first  # the oldest


def test_looking_at_the_address_of_a_button_changes_nothing(root: Client, anna: Account) -> None:
    event, pair = make_event(status="dead", error="x"), Authorization.objects.get()
    for path in (f"{EVENTS}{event.pk}/replay/", f"{ACCOUNTS}{anna.pk}/renew-tokens/"):
        answer = root.get(path)
        assert answer.status_code == 200
        assert 'method="post"' in text_of(answer)
        assert f"{path.rsplit('/', 2)[0]}/change/" in text_of(answer)  # the way back
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"), backend="django.contrib.auth.backends.ModelBackend")
    assert strict.post(f"{EVENTS}{event.pk}/replay/").status_code == 403
    assert strict.post(f"{ACCOUNTS}{anna.pk}/renew-tokens/").status_code == 403
    assert root.get(f"{EVENTS}987654/replay/").status_code == 404
    event.refresh_from_db()
    assert (event.status, Authorization.objects.get().version) == ("dead", pair.version)


def test_the_back_office_writes_only_what_was_typed(root: Client) -> None:
    account = make_account(name="Счёт", avito_user_id=None)
    page = root.get(f"{ACCOUNTS}{account.pk}/change/")
    form = {name: page.context["adminform"].form[name].value() or "" for name in AccountForm.Meta.fields}
    stale = AccountAdmin.get_object

    def filled_in_meanwhile(self: AccountAdmin, *args: Any, **kwargs: Any) -> Any:
        found = stale(self, *args, **kwargs)
        Account.objects.update(webhook_fingerprint="f", connection_status="connected")
        return found

    with patch.object(AccountAdmin, "get_object", filled_in_meanwhile):
        assert root.post(f"{ACCOUNTS}{account.pk}/change/", {**form, "name": "Новое имя"}).status_code == 302
    account.refresh_from_db()
    assert (account.name, account.webhook_fingerprint, account.connection_status) == ("Новое имя", "f", "connected")


def test_accounts_are_deleted_one_by_one_and_many_at_once_and_leave_their_chats(root: Client) -> None:
    one, two, three = make_account(), make_account(), make_account()
    chats = [make_chat(account) for account in (one, two, three)]
    root.post(f"{ACCOUNTS}{one.pk}/delete/", {"post": "yes"})
    root.post(
        ACCOUNTS, {"action": "delete_selected", "_selected_action": [two.pk, three.pk], "post": "yes"}, follow=True
    )
    assert not Account.objects.exists()
    assert [Chat.objects.get(pk=chat.pk).account_id for chat in chats] == [None] * 3


def test_an_event_shows_its_body_as_it_came(root: Client) -> None:
    event = make_event(body=b'{"text": "<script>alert(1)</script>", "bad": "\xff"}')
    page = text_of(root.get(f"{EVENTS}{event.pk}/change/"))
    assert "&lt;script&gt;alert(1)" in page
    assert "�" in page


def test_the_way_to_avito_begins_at_the_page_of_an_account(root: Client, settings: LazySettings) -> None:
    settings.PUBLIC_URL = "http://office.example:5004"
    account = make_account()
    assert f"{ACCOUNTS}{account.pk}/connect/" in text_of(root.get(f"{ACCOUNTS}{account.pk}/change/"))
    path = f"/api/v1/auth/avito/authorize/{account.pk}"
    answer = root.get(f"{ACCOUNTS}{account.pk}/connect/", headers={"host": urlsplit(settings.PUBLIC_URL).netloc})
    assert (answer.status_code, answer["Location"]) == (302, path)
    # By another name of this machine: Avito's way back ends at the public one, where that browser is not signed in.
    answer = root.get(f"{ACCOUNTS}{account.pk}/connect/", headers={"host": "localhost:5004"})
    assert answer["Location"].startswith(f"{settings.PUBLIC_URL}{path}?ticket=")


def test_tokens_are_renewed_from_the_page_of_an_account(product: str, anna: Account, avito_sandbox: Sandbox) -> None:
    boss = signed_in("boss", "admin")
    assert "were renewed" in text_of(boss.post(f"{ACCOUNTS}{anna.pk}/renew-tokens/", follow=True))
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=anna.avito_user_id)
    shown = text_of(
        boss.post(ACCOUNTS, {"action": "renew_tokens_of_selected", "_selected_action": [anna.pk]}, follow=True)
    )
    assert "were not renewed" in shown
    assert Authorization.objects.get().dead_reason


# Cost


@pytest.mark.parametrize("path", [ACCOUNTS, CHATS, MESSAGES, EVENTS])
def test_a_list_costs_the_same_however_long_it_is(
    root: Client, path: str, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for _ in range(30):
        a = make_account()
        authorize(a)
        make_message(make_chat(a))
        make_event()
    chats = Chat.objects.all()
    for chat in chats:
        chat.last_message = chat.messages.first()
    Chat.objects.bulk_update(chats, ["last_message"])
    root.get(path)
    with django_assert_max_num_queries(12):
        assert root.get(path).status_code == 200


def test_a_long_conversation_costs_the_same_as_a_short_one(
    root: Client, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    chat = make_chat(make_account())
    for number in range(80):
        make_message(chat, text=f"Слово {number:03}", written_by=User.objects.get(username="root"))
    with django_assert_max_num_queries(10):
        page = text_of(root.get(f"{CHATS}{chat.pk}/change/"))
    assert "Слово 079" in page
    assert "Слово 030" in page
    assert "Слово 029" not in page


# Over HTTP


def test_people_sign_in_and_walk_the_back_office(product: str, anna: Account) -> None:
    make_user("clerk", "operator", is_staff=True)
    browser = Api(product)
    browser.get("/admin/login/")
    form = {"username": "clerk", "password": "wrong", "csrfmiddlewaretoken": browser.session.cookies["csrftoken"]}
    assert browser.call("POST", "/admin/login/", data=form).status_code == 200
    form["password"] = "correct horse battery staple"
    assert browser.call("POST", "/admin/login/", data=form).status_code == 302
    assert browser.get(ACCOUNTS).status_code == browser.get(CHATS).status_code == 200
    assert browser.get(EVENTS).status_code == 403
    assert browser.get("/api/v1/accounts").status_code == 200
    assert browser.post("/api/v1/accounts", {"name": "x"}).status_code == 403


def test_what_goes_with_an_account_is_counted_not_listed(root: Client) -> None:
    account = make_account(name="Уют")
    today = timezone.now().date()
    DailyStats.objects.bulk_create(
        DailyStats(account=account, date=today - timedelta(days=number)) for number in range(200)
    )
    page = root.get(f"{ACCOUNTS}{account.pk}/delete/").content.decode()
    assert "200" in page
    assert page.count(f"{today:%Y}") < 20


def test_an_account_that_sells_a_property_is_not_deleted_and_says_what_to_do(root: Client) -> None:
    owner = make_user("host")
    house = Property.objects.create(owner=owner, name="Дом у озера", base_price=2000)
    account = make_account()
    Integration.objects.create(property=house, account=account, item_id=7, horizon_from=house.today())
    page = root.get(f"{ACCOUNTS}{account.pk}/delete/").content.decode()
    assert "Disconnect them first" in page
    assert "Дом у озера" in page
    assert root.post(f"{ACCOUNTS}{account.pk}/delete/", {"post": "yes"}).status_code in (200, 403)
    assert Account.objects.filter(pk=account.pk).exists()


@pytest.mark.parametrize("path", ["/admin/nowhere/", f"{ACCOUNTS}77/wrong/", "/nowhere"])
def test_a_page_that_is_not_there_says_so_to_people_and_shows_the_way_home(root: Client, path: str) -> None:
    answer = root.get(path, headers={"accept-language": "ru"}, follow=True)
    if answer.status_code == 404:
        assert "Такой страницы нет" in answer.content.decode()
    assert 'href="/admin/"' in answer.content.decode()


def test_what_a_role_does_not_open_is_said_in_words(operator: Client) -> None:
    answer = operator.get(EVENTS)
    assert answer.status_code == 403
    assert "This page is not for you" in answer.content.decode()


def test_too_many_wrong_passwords_are_said_in_words() -> None:
    make_user("person", is_staff=True)
    client = Client(headers={"accept-language": "ru"})
    for _number in range(11):
        answer = client.post("/admin/login/", {"username": "person", "password": "wrong"})
    assert answer.status_code == 429
    assert "Подождите 15 минут" in answer.content.decode()


def test_roles_are_ticked_on_the_page_of_a_person(root: Client) -> None:
    person = make_user("person")
    page = root.get(f"/admin/auth/user/{person.pk}/change/").content.decode()
    assert "Operator: accounts to look at" in page
    assert "user_permissions" not in page
    operators = Group.objects.get(name="operator")
    form = {"username": "person", "groups": [operators.pk], "is_staff": "on", "is_active": "on"}
    assert root.post(f"/admin/auth/user/{person.pk}/change/", form).status_code == 302
    assert role_of(User.objects.get(pk=person.pk)) == "operator"
    new = {"username": "second", "password1": "long enough 77", "password2": "long enough 77", "groups": [operators.pk]}
    assert root.post("/admin/auth/user/add/", {**new, "is_staff": "on"}).status_code == 302
    assert role_of(User.objects.get(username="second")) == "operator"
    assert User.objects.get(username="second").check_password("long enough 77")


def test_an_admin_by_role_adds_people_and_touches_no_superuser(root: Client) -> None:
    boss = User.objects.get(username="root")
    admin = signed_in("second", "admin")
    operators = Group.objects.get(name="operator")
    new = {"username": "third", "password1": "long enough 77", "password2": "long enough 77", "groups": [operators.pk]}
    assert admin.post("/admin/auth/user/add/", {**new, "is_superuser": "on"}).status_code == 302
    third = User.objects.get(username="third")
    assert (role_of(third), third.is_superuser) == ("operator", False)
    page, form = f"/admin/auth/user/{third.pk}/", {"username": "third", "is_active": "on", "is_superuser": "on"}
    assert admin.post(f"{page}change/", form).status_code == 302
    third.refresh_from_db()
    assert not third.is_superuser
    for path in ("change/", "password/", "delete/"):
        body = {"username": "mine", "password1": "long enough 78", "password2": "long enough 78", "post": "yes"}
        assert admin.post(f"/admin/auth/user/{boss.pk}/{path}", body).status_code == 403
    admin.post("/admin/auth/user/", {"action": "delete_selected", "_selected_action": [boss.pk], "post": "yes"})
    boss.refresh_from_db()
    assert (boss.username, boss.is_superuser, boss.is_active) == ("root", True, True)
    assert signed_in("fourth", "director").get("/admin/auth/user/").status_code == 403


def test_a_name_too_long_and_an_address_that_is_none_are_wrong_like_any_other(product: str) -> None:
    for name, headers in (("x" * 300, {}), ("root", {"X-Forwarded-For": "zzz"})):
        login = {"username": name, "password": "wrong"}
        api = Api(product, None, **headers)
        assert api.post("/api/v1/auth/token", login).status_code in (400, 401)
        page = api.call("GET", "/admin/login/")
        token = {"csrfmiddlewaretoken": page.cookies["csrftoken"], "next": "/admin/"}
        assert api.call("POST", "/admin/login/", data={**login, **token}).status_code == 200


def test_nobody_deletes_oneself(root: Client) -> None:
    me = User.objects.get(username="root")
    assert root.post(f"/admin/auth/user/{me.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=me.pk).exists()


@pytest.mark.parametrize(
    "path",
    [
        "chats/chat/abc/inbox/", "chats/chat/%00/change/", "chats/message/?delivery_status__exact=%00",
        "chats/webhookevent/?status__exact=%00", "avito_accounts/proxy/?type=%00", f"chats/chat/{'9' * 4400}/change/",
        "integrations_str/booking/add/?property=%00", f"avito_accounts/account/{'9' * 4400}/change/",
    ],
)  # fmt: skip
def test_made_up_addresses_break_nothing(root: Client, path: str) -> None:
    assert root.get(f"/admin/{path}").status_code in (200, 302, 404)
