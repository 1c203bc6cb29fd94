"""Every operation of the schema, by everybody who may or may not call it. An operation without a row fails."""

import re
from typing import Any, Literal

import pytest
from rest_framework_simplejwt.tokens import AccessToken

from tests.conftest import Api
from tests.factories import make_user

Right = Literal["accounts.read", "accounts.manage", "messenger.use", "chats.use", "signed in", "public", "link"]

# (method, path below /api/v1): who may call it. The first that fits counts.
ROWS: list[tuple[str, str, Right]] = [
    ("GET", r"/accounts(/\{\w+\}(/(info|balance|items|stats))?)?", "accounts.read"),
    (".*", r"/accounts(/.*)?", "accounts.manage"),
    ("GET", r"/eternal-online/.*", "accounts.read"),
    ("POST", r"/eternal-online/.*", "accounts.manage"),
    (".*", r"/messenger/accounts/\{\w+\}/webhook", "accounts.manage"),
    (".*", r"/messenger/.*", "messenger.use"),
    (".*", r"/avito/(chats|canned-replies|catch-up)(/.*)?", "chats.use"),
    ("GET", r"/(auth|oauth)/avito/callback", "public"),
    ("GET", r"/(auth|oauth)/avito/authorize/for/\{\w+\}", "link"),
    (".*", r"/(auth|oauth)/avito/(authorize|refresh)/\{\w+\}", "accounts.manage"),
    ("POST", r"/auth/token(/refresh)?", "public"),
    ("GET", r"/auth/me", "signed in"),
    ("POST", r"/webhooks?/avito(/\{key\})?", "public"),
    (".*", r"/(events|notifications)(/.*)?", "signed in"),
    (".*", r"/str(/.*)?", "signed in"),
]
SOME: set[Right] = {"accounts.read", "messenger.use", "chats.use", "signed in", "public"}
HELD: dict[str, set[Right]] = {
    "nobody": {"public"},
    "stranger": {"signed in", "public"},
    "operator": SOME,
    "director": SOME,
    "admin": SOME | {"accounts.manage"},
    "superuser": SOME | {"accounts.manage"},
}


def operations(schema: Any) -> list[tuple[str, str]]:
    methods = {"get", "post", "put", "patch", "delete"}
    return [(method.upper(), path) for path, item in schema["paths"].items() for method in item if method in methods]


def right_for(method: str, path: str) -> Right:
    below = path.removeprefix("/api/v1")
    found = next((row[2] for row in ROWS if re.fullmatch(row[0], method) and re.fullmatch(row[1], below)), None)
    assert found is not None, f"{method} {path} has no row in the table of roles"
    return found


@pytest.fixture
def people(product: str) -> dict[str, Api]:
    return {
        "nobody": Api(product),
        "stranger": Api(product, make_user("stranger")),
        "operator": Api(product, make_user("operator", "operator")),
        "director": Api(product, make_user("director", "director")),
        "admin": Api(product, make_user("admin", "admin")),
        "superuser": Api(product, make_user("superuser", is_superuser=True)),
    }


def test_every_operation_is_for_whom_the_table_says(people: dict[str, Api], subtests: pytest.Subtests) -> None:
    schema = people["admin"].get("/api/schema", format="json").json()
    for method, path in operations(schema):
        right = right_for(method, path)
        # Nothing has this id, so a caller with the right hears of that and changes nothing.
        address = re.sub(r"\{\w+\}", "987654321", path)
        for person, api in people.items():
            with subtests.test(f"{person} {method} {path}"):
                answer = api.call(method, address, json={} if method in {"POST", "PUT", "PATCH"} else None, stream=True)
                answer.close()
                if right == "link":  # whoever has one, and nobody without
                    assert (answer.status_code, answer.reason) == (401, "Unauthorized")
                elif right in HELD[person]:
                    assert answer.status_code not in {401, 403} or path.endswith(("/auth/token", "/auth/token/refresh"))
                    assert answer.status_code < 500 or answer.status_code in {502, 503, 504}
                else:
                    assert answer.status_code == (401 if person == "nobody" else 403)


def test_role_of_an_external_token_is_worth_the_same(product: str, people: dict[str, Api]) -> None:
    from tests.api.test_auth import token

    external = Api(product, Authorization=f"Bearer {token(role='CALLCENTRE_OPERATOR')}")
    assert external.get("/api/v1/accounts").status_code == 200
    assert external.post("/api/v1/accounts", {"name": "x"}).status_code == 403
    unknown = Api(product, Authorization=f"Bearer {token(role='CALLCENTRE_GOD', sub='18')}")
    assert unknown.get("/api/v1/accounts").status_code == 403


def test_anybody_signed_in_runs_properties_of_their_own(product: str, people: dict[str, Api]) -> None:
    from tests.api.test_auth import token

    external = Api(product, Authorization=f"Bearer {token(role='CALLCENTRE_GOD', sub='18')}")
    hosts = {name: api for name, api in people.items() if name != "nobody"} | {"external": external}
    made = {}
    for name, api in hosts.items():
        answer = api.post("/api/v1/str/properties", {"name": name, "basePrice": 2000})
        assert answer.status_code == 201, name
        made[name] = answer.json()["id"]
    for name, api in hosts.items():
        assert [row["id"] for row in api.get("/api/v1/str/properties").json()["results"]] == [made[name]]
    assert people["nobody"].post("/api/v1/str/properties", {"name": "x", "basePrice": 1}).status_code == 401
    assert people["nobody"].get("/api/v1/str/bookings").status_code == 401


def test_right_lost_is_lost_at_once(product: str) -> None:
    user = make_user("colleague", "operator")
    api = Api(product, Authorization=f"Bearer {AccessToken.for_user(user)}")
    assert api.get("/api/v1/accounts").status_code == 200
    user.groups.clear()
    assert api.get("/api/v1/accounts").status_code == 403
