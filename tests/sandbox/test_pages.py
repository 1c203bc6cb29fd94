import re

from tests.sandbox.conftest import Client, Receiver
from tests.sandbox.driver import ANNA, Sandbox, wait_for


def test_index_lists_sellers_and_chats(sandbox: Sandbox, chat_id: str) -> None:
    page = sandbox.call("GET", "/").text
    assert "Анна Смирнова" in page
    assert chat_id.partition("~")[0] in page
    assert "This is not Avito" in sandbox.call("GET", "/?lang=en").text


def test_buyer_writes_and_sees_the_reply(sandbox: Sandbox, anna: Client, chat_id: str, receiver: Receiver) -> None:
    answer = sandbox.call("POST", "/buyer/send", data={"chat_id": chat_id, "text": "<b>Есть</b> парковка?"})
    assert "&lt;b&gt;Есть&lt;/b&gt; парковка?" in answer.text
    assert 'id="text"' in answer.text
    assert 'id="send"' in answer.text
    wait_for(lambda: receiver.requests)
    anna.send(chat_id, "Да, во дворе")
    shown = sandbox.call("GET", "/buyer/messages", params={"chat_id": chat_id}).text
    assert "Да, во дворе" in shown
    assert len(re.findall('class="message ', shown)) == 4
    assert anna.messages(chat_id)[0]["read"] is not None


def test_buyer_starts_a_chat(sandbox: Sandbox, anna: Client) -> None:
    assert 'id="item"' in sandbox.call("GET", "/buyer", params={"chat_id": "new"}).text
    form = {"chat_id": "new", "item_id": "1768287444", "buyer_name": "Вера", "text": "Добрый вечер"}
    assert "Добрый вечер" in sandbox.call("POST", "/buyer/send", data=form).text
    newest = anna.chats()[0]
    assert newest["last_message"]["content"]["text"] == "Добрый вечер"
    assert {user["name"] for user in newest["users"]} == {"Вера", "Анна Смирнова"}


def test_faults_are_switched_by_buttons(sandbox: Sandbox, anna: Client) -> None:
    assert 'id="silence"' in sandbox.call("GET", "/faults").text
    sandbox.call("POST", "/faults", data={"fault": "status500", "path": "self$", "times": ""})
    assert anna.call("GET", "/core/v1/accounts/self").status_code == 500
    sandbox.call("POST", "/faults", data={"fault": "off"})
    assert anna.call("GET", "/core/v1/accounts/self").status_code == 200


def test_pictures_are_served(sandbox: Sandbox) -> None:
    for path in (f"/files/avatars/{ANNA}.svg", "/files/items/1768287444.svg"):
        assert sandbox.call("GET", path).headers["content-type"] == "image/svg+xml"
    assert sandbox.call("GET", "/files/avatars/1.svg").status_code == 404
