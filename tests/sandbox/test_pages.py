import datetime as dt
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


def test_guest_asks_pays_moves_and_cancels(sandbox: Sandbox) -> None:
    item = sandbox.make_rent_item(title="Домик у озера")
    today = sandbox.today(item)
    stay = {"check_in": str(today), "check_out": str(today + dt.timedelta(days=2)), "name": "Вера", "guests": "3"}

    def act(booking_id: int, **form: str) -> str:
        answer = sandbox.call("POST", f"/guest/bookings/{booking_id}", data=form)
        assert answer.status_code == 200, answer.text
        return answer.text

    assert "Домик у озера" in sandbox.call("GET", "/guest").text
    assert "ждёт оплаты</td>" in sandbox.call("POST", f"/guest/{item}/book", data={**stay, "action": "ask"}).text
    (booking,) = sandbox.rent_item(item)["bookings"]
    assert (booking["status"], booking["row"]["guest_count"]) == ("pending", 3)
    assert "оплачена</td>" in act(booking["id"], action="pay")
    refused = sandbox.call("POST", f"/guest/{item}/book", data={**stay, "action": "pay"})
    assert (refused.status_code, "занята или закрыта" in refused.text) == (409, True)
    assert len(sandbox.rent_item(item)["bookings"]) == 1
    forced = sandbox.call("POST", f"/guest/{item}/book", data={**stay, "action": "pay", "force": "on"})
    assert "×2" in forced.text
    first, second = sandbox.rent_item(item)["bookings"]
    later = {"check_in": str(today + dt.timedelta(days=4)), "check_out": str(today + dt.timedelta(days=5))}
    act(second["id"], action="move", **later)
    assert f'class="booked" data-date="{later["check_in"]}"' in sandbox.call("GET", f"/guest/{item}").text
    assert "отменена</td>" in act(first["id"], action="cancel")
    assert [night.open for night in sandbox.calendar(item, 5).values()] == [1, 1, 1, 1, 0]


def test_seeded_calendars_are_shown(sandbox: Sandbox) -> None:
    shown = sandbox.call("GET", "/guest/1803345120").text
    assert "Мария Кузнецова" in shown
    assert "8280" in shown
    assert sandbox.call("GET", "/guest/5").status_code == 404
