"""Pages for people: what this is, writing as a buyer, switching faults; and the pictures that answers link to."""

from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.deliveries import deliveries_of
from sandbox.faults import Faults
from sandbox.state import Chat, Item, World
from sandbox.wire import Refusal, world_of

ENVIRONMENT = jinja2.Environment(loader=jinja2.PackageLoader("sandbox"), autoescape=True, trim_blocks=True)
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 140 105">'
    '<rect width="140" height="105" fill="hsl({hue} 55% 62%)"/>'
    '<text x="70" y="66" font-family="sans-serif" font-size="40" fill="#fff" text-anchor="middle">{letter}</text></svg>'
)
# How many listings of one seller the buyer may choose from.
BUYER_ITEMS_MAX = 50
# The buttons of the page of faults: kind, its details, Russian and English.
FAULT_BUTTONS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "status500": ("status", {"status": 500}, "Ошибка 500", "Error 500"),
    "status503": ("status", {"status": 503}, "Недоступно 503", "Unavailable 503"),
    "429": ("429", {"seconds": 5}, "Лимит 429", "Rate limit 429"),
    "silence": ("silence", {}, "Молчание", "Silence"),
    "silence_applied": ("silence", {"apply": "before"}, "Молчание, но выполнено", "Silence, yet done"),
    "latency": ("latency", {"seconds": 3}, "Задержка 3 с", "3 s latency"),
    "reset": ("reset", {}, "Обрыв соединения", "Connection reset"),
    "rubbish": ("rubbish", {}, "HTML вместо JSON", "HTML for JSON"),
}


def page(request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
    """Render in Russian, or in English for `?lang=en`; the choice is kept in a cookie."""
    lang = request.query_params.get("lang") or request.cookies.get("lang") or "ru"
    english = lang == "en"

    def t(russian: str, in_english: str) -> str:
        return in_english if english else russian

    switch = str(request.url.include_query_params(lang="ru" if english else "en"))
    html = ENVIRONMENT.get_template(template).render(values, t=t, lang="en" if english else "ru", switch=switch)
    response = HTMLResponse(html, status)
    response.set_cookie("lang", "en" if english else "ru", samesite="lax")
    return response


async def index(request: Request) -> Response:
    world = world_of(request)
    chats = sorted(world.chats.values(), key=lambda chat: chat.updated, reverse=True)
    return page(request, "index.html", {"world": world, "chats": chats, "base": str(request.base_url).rstrip("/")})


# Writing as a buyer


async def buyer(request: Request) -> Response:
    world = world_of(request)
    chats = sorted(world.chats.values(), key=lambda chat: chat.updated, reverse=True)
    asked = request.query_params.get("chat_id")
    chat = world.chats.get(asked or "") or (chats[0] if chats and asked is None else None)
    items = [item for seller_id in world.sellers for item in _active(world, seller_id)[:BUYER_ITEMS_MAX]]
    values = {"world": world, "chats": chats, "chat": chat, "items": items}
    return page(request, "buyer.html", {**values, "rows": _rows(chat)})


def _active(world: World, seller_id: int) -> list[Item]:
    return [item for item in world.items_of(seller_id) if item.status == "active"]


async def buyer_messages(request: Request) -> Response:
    """The conversation alone, for the page's own refreshing; the buyer who sees it has read it."""
    world = world_of(request)
    chat = world.chats.get(request.query_params.get("chat_id", ""))
    return page(request, "messages.html", {"world": world, "chat": chat, "rows": _rows(chat)})


def _rows(chat: Chat | None) -> list[Any]:
    if chat is None:
        return []
    chat.mark_read(chat.buyer_id)
    return chat.newest_first()[::-1]


async def buyer_send(request: Request) -> Response:
    """Send a text as the buyer, starting the chat if `chat_id` is `new`."""
    world = world_of(request)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    chat = world.chats.get(form.get("chat_id", "")) or _new_chat(world, form)
    text = form.get("text", "").strip()
    if text and chat.buyer_id not in world.sellers[chat.seller_id].blacklist:
        message = world.add_message(chat, chat.buyer_id, "text", {"text": text})
        deliveries_of(request).announce(chat, message)
    return RedirectResponse(request.url_for("buyer").include_query_params(chat_id=chat.id), 303)


def _new_chat(world: World, form: dict[str, str]) -> Chat:
    number = form.get("item_id", "")
    item = world.items.get(int(number)) if number.isdecimal() else None
    if item is None:
        raise Refusal(400, "no such listing")
    who = world.add_buyer(form.get("buyer_name", "").strip() or "Покупатель")
    return world.add_chat(item.seller_id, who.id, item.id)


# Faults


async def faults_page(request: Request) -> Response:
    faults: Faults = request.app.state.faults
    if request.method == "POST":
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        _switch(faults, form)
        return RedirectResponse(request.url_for("faults_page"), 303)
    values = {"faults": faults.active, "buttons": FAULT_BUTTONS, "journal": list(world_of(request).journal)[-15:][::-1]}
    return page(request, "faults.html", values)


def _switch(faults: Faults, form: dict[str, str]) -> None:
    times = form.get("times", "")
    chosen = FAULT_BUTTONS.get(form.get("fault", ""))
    if chosen is None:
        faults.remove()
        return
    kind, details, *_ = chosen
    try:
        faults.add(kind, form.get("path") or "^/", times=int(times) if times.isdecimal() else None, **details)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


# Files


async def picture(request: Request) -> Response:
    """The avatar of a user or the photo of a listing: a coloured square with a letter."""
    world, id = world_of(request), request.path_params["id"]
    if request.path_params["kind"] == "items" and id in world.items:
        name = world.items[id].title
    elif id in world.sellers or id in world.buyers:
        name = world.name_of(id)
    else:
        raise Refusal(404, "Not found")
    letter = next((character for character in name if character.isalpha()), "?")
    return Response(PICTURE.format(hue=id * 47 % 360, letter=letter), media_type="image/svg+xml")


async def uploaded(request: Request) -> Response:
    kind, data = world_of(request).files.get(request.path_params["id"], ("", b""))
    if not kind:
        raise Refusal(404, "Not found")
    return Response(data, media_type=kind)


async def voice(_: Request) -> Response:
    """No sound, only the beginning of an .mp4."""
    return Response(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", media_type="audio/mp4")


ROUTES = [
    Route("/", index),
    Route("/buyer", buyer, name="buyer"),
    Route("/buyer/messages", buyer_messages),
    Route("/buyer/send", buyer_send, methods=["POST"]),
    Route("/faults", faults_page, methods=["GET", "POST"], name="faults_page"),
    Route("/files/{kind:str}/{id:int}.svg", picture),
    Route("/files/images/{size}/{id}", uploaded),
    Route("/files/voices/{id}.mp4", voice),
]
