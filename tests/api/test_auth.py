"""Who gets in: our own tokens, those of another service, and the admin's session; nobody else."""

import base64
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
import requests
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from api.models import ExternalIdentity
from api.roles import PERMISSIONS
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import PASSWORD, make_user

ME = "/api/v1/auth/me"
EVERYTHING = ["accounts.read", "accounts.manage", "messenger.use", "chats.use"]
SOME = ["accounts.read", "messenger.use", "chats.use"]


def claims(**changes: Any) -> dict[str, Any]:
    """Those of another service's token; None takes a claim away."""
    made = {"sub": "17", "login": "Ольга", "role": "operator", "exp": timezone.now() + timedelta(hours=1), **changes}
    return {name: value for name, value in made.items() if value is not None}


def token(secret: str | None = None, algorithm: str = "HS256", headers: Any = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret or django_settings.JWT_SECRET, algorithm=algorithm, headers=headers)


def me(product: str, credential: str | bytes) -> requests.Response:
    return Api(product).call("GET", ME, headers={"Authorization": b"Bearer " + _bytes(credential)})


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


@pytest.fixture
def groups(product: str) -> None:
    for role in PERMISSIONS:
        Group.objects.get_or_create(name=role)


# Our own tokens


def test_name_and_password_open_the_api(nobody: Api) -> None:
    make_user("owner", "admin")
    pair = nobody.post("/api/v1/auth/token", {"username": "owner", "password": PASSWORD}).json()
    assert set(pair) == {"access", "refresh"}
    assert jwt.decode(pair["access"], options={"verify_signature": False})["iss"] == "avito-service"
    shown = me(nobody.base, pair["access"]).json()
    user = User.objects.get()
    assert shown == {"id": user.pk, "username": "owner", "role": "admin", "permissions": EVERYTHING}


def test_refresh_gives_another_access_token(nobody: Api) -> None:
    user = make_user("owner", "admin")
    answer = nobody.post("/api/v1/auth/token/refresh", {"refresh": str(RefreshToken.for_user(user))})
    assert (answer.status_code, set(answer.json())) == (200, {"access"})
    assert me(nobody.base, answer.json()["access"]).status_code == 200


def test_refresh_token_is_no_access_token(nobody: Api) -> None:
    assert_error(me(nobody.base, str(RefreshToken.for_user(make_user("owner", "admin")))), 401, "user_not_found")


def test_useless_refresh_tokens_are_refused(nobody: Api, subtests: pytest.Subtests) -> None:
    user = make_user("gone", "admin")
    of_nobody = RefreshToken.for_user(user)
    of_nobody["user_id"] = "not a number"
    expired = RefreshToken.for_user(user)
    expired.set_exp(lifetime=timedelta(seconds=-1))
    wrong = {
        "nonsense": "nonsense",
        "access token": str(AccessToken.for_user(user)),
        "expired": str(expired),
        "of another service": token(token_type="refresh", jti="1", user_id=str(user.pk)),
        "odd user": str(of_nobody),
    }
    for name, refresh in wrong.items():
        with subtests.test(name):
            error = assert_error(
                nobody.post("/api/v1/auth/token/refresh", {"refresh": refresh}), 401, "token_not_valid"
            )
            assert error["attr"] is None
    refresh = str(RefreshToken.for_user(user))
    User.objects.update(is_active=False)
    assert_error(nobody.post("/api/v1/auth/token/refresh", {"refresh": refresh}), 401, "no_active_account")
    User.objects.all().delete()
    assert_error(nobody.post("/api/v1/auth/token/refresh", {"refresh": refresh}), 401, "token_not_valid")


def test_blocked_and_deleted_users_are_out_at_once(nobody: Api) -> None:
    user = make_user("owner", "admin")
    access = str(AccessToken.for_user(user))
    assert me(nobody.base, access).status_code == 200
    User.objects.update(is_active=False)
    assert_error(me(nobody.base, access), 401, "user_not_found")
    user.delete()
    assert_error(me(nobody.base, access), 401, "user_not_found")


@pytest.mark.parametrize(
    ("role", "permissions"), [("admin", EVERYTHING), ("director", SOME), ("operator", SOME), (None, [])]
)
def test_me_tells_role_and_permissions(nobody: Api, role: Any, permissions: list[str]) -> None:
    user = make_user("somebody", role)
    shown = me(nobody.base, str(AccessToken.for_user(user))).json()
    assert (shown["role"], shown["permissions"]) == (role, permissions)


def test_superuser_is_an_admin(nobody: Api) -> None:
    user = make_user("root", is_superuser=True)
    shown = me(nobody.base, str(AccessToken.for_user(user))).json()
    assert (shown["role"], shown["permissions"]) == ("admin", EVERYTHING)


def test_me_is_for_those_who_are_signed_in(nobody: Api) -> None:
    answer = nobody.get(ME)
    assert_error(answer, 401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


# Tokens of another service


@pytest.mark.parametrize(
    ("claim", "role"),
    [
        ("admin", "admin"),
        ("director", "director"),
        ("operator", "operator"),
        ("CALLCENTRE_ADMIN", "admin"),
        ("CALLCENTRE_DIRECTOR", "director"),
        ("CALLCENTRE_OPERATOR", "operator"),
        ("CALLCENTRE_ROOT", None),
        ("CALLCENTRE_", None),
        ("ADMIN", None),
        ("superuser", None),
        ("", None),
        (" admin", None),
        (None, None),
        (7, None),
        (["admin"], None),
        ({"role": "admin"}, None),
        (True, None),
    ],
)
@pytest.mark.usefixtures("groups")
def test_role_is_what_the_claim_says(product: str, claim: Any, role: str | None) -> None:
    answer = me(product, token(role=claim))
    assert (answer.status_code, answer.json()["role"]) == (200, role)
    assert bool(answer.json()["permissions"]) == (role is not None)


@pytest.mark.usefixtures("groups")
def test_role_follows_the_claim(product: str) -> None:
    assert [me(product, token(role=role)).json()["role"] for role in ("admin", "operator", "nothing", "director")] == [
        "admin",
        "operator",
        None,
        "director",
    ]
    assert User.objects.count() == 1


@pytest.mark.usefixtures("groups")
def test_subject_may_be_text_or_number(product: str) -> None:
    ids = {me(product, token(sub=subject)).json()["id"] for subject in ("17", 17)}
    assert len(ids) == 1
    assert ExternalIdentity.objects.get().subject == "17"


@pytest.mark.usefixtures("groups")
def test_each_issuer_has_its_own_people(product: str) -> None:
    ids = [me(product, token(iss=issuer)).json()["id"] for issuer in (None, "callcentre", "another")]
    assert len(set(ids)) == 3
    assert me(product, token(iss="callcentre")).json()["id"] == ids[1]


def test_subject_never_maps_to_one_of_our_users(product: str) -> None:
    ours = make_user("17", "admin")
    for subject in (str(ours.pk), ours.pk, "17"):
        shown = me(product, token(sub=subject, user_id=ours.pk, username="17", token_type="access")).json()
        assert (shown["id"] != ours.pk, shown["role"]) == (True, "operator")
    name = User.objects.exclude(pk=ours.pk).values_list("username", flat=True)[0]
    assert me(product, token(sub=name)).json()["username"] != name


def test_provisioned_user_cannot_come_in_as_one_of_ours(product: str, nobody: Api) -> None:
    external = me(product, token()).json()["id"]
    assert_error(me(product, str(AccessToken.for_user(User.objects.get(pk=external)))), 401, "user_not_found")
    name = User.objects.get().username
    assert_error(nobody.post("/api/v1/auth/token", {"username": name, "password": ""}), 400, "blank")
    assert_error(nobody.post("/api/v1/auth/token", {"username": name, "password": "!"}), 401, "no_active_account")


@pytest.mark.usefixtures("groups")
def test_ten_first_calls_at_once_make_one_user(product: str) -> None:
    credential = token()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _number: me(product, credential), range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert User.objects.count() == ExternalIdentity.objects.count() == 1


def test_blocked_external_user_stays_out(product: str) -> None:
    assert me(product, token()).status_code == 200
    User.objects.update(is_active=False)
    assert_error(me(product, token()), 401, "user_not_found")


# Forged ones


def unsigned(header: dict[str, Any], payload: dict[str, Any], signature: str = "") -> str:
    parts = [json.dumps(part).encode() for part in (header, payload)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature])


PAYLOAD = {"sub": "1", "role": "admin", "exp": 32_503_680_000}
FORGED: dict[str, Callable[[], str | bytes]] = {
    "no algorithm": lambda: unsigned({"alg": "none", "typ": "JWT"}, PAYLOAD),
    "no algorithm, spelt otherwise": lambda: unsigned({"alg": "nOnE"}, PAYLOAD),
    "no algorithm in the header": lambda: unsigned({"typ": "JWT"}, PAYLOAD),
    "HS256 without a signature": lambda: unsigned({"alg": "HS256"}, PAYLOAD),
    "HS256 with another's signature": lambda: unsigned({"alg": "HS256"}, PAYLOAD, token().split(".")[2]),
    "HS384": lambda: token(algorithm="HS384"),
    "HS512": lambda: token(algorithm="HS512"),
    "RS256 in name": lambda: unsigned({"alg": "RS256"}, PAYLOAD, "x"),
    "another secret": lambda: token(secret="x" * 48),
    "empty secret": lambda: token(secret="\0"),
    "key in the header": lambda: token(secret="x" * 48, headers={"jwk": {"kty": "oct", "k": "eHh4"}}),
    "key by address": lambda: token(secret="x" * 48, headers={"jku": "http://127.0.0.1/", "x5u": "http://127.0.0.1/"}),
    "key by path": lambda: token(secret="\0", headers={"kid": "../../dev/null"}),
    "unknown critical header": lambda: token(headers={"crit": ["nonsense"], "nonsense": 1}),
    "expired": lambda: token(exp=timezone.now() - timedelta(seconds=5)),
    "without an end": lambda: token(exp=None),
    "end is text": lambda: token(exp="tomorrow"),
    "end is infinite": lambda: unsigned_end("Infinity"),
    "not yet": lambda: token(nbf=timezone.now() + timedelta(hours=1)),
    "issued in the future": lambda: token(iat=timezone.now() + timedelta(hours=1)),
    "for another audience": lambda: token(aud="somebody-else"),
    "issuer is no text": lambda: jwt_with(iss=["avito-service"]),
    "our issuer, another's token": lambda: token(iss="avito-service"),
    "our issuer, a refresh token": lambda: token(iss="avito-service", token_type="refresh", user_id="1"),
    "our issuer, odd user": lambda: token(iss="avito-service", token_type="access", user_id="1 OR 1=1"),
    "our issuer, huge user": lambda: token(iss="avito-service", token_type="access", user_id="9" * 400),
    "without a subject": lambda: token(sub=None),
    "empty subject": lambda: token(sub=""),
    "subject true": lambda: jwt_with(sub=True),
    "subject a list": lambda: jwt_with(sub=["1"]),
    "subject a fraction": lambda: jwt_with(sub=1.5),
    "subject with a zero byte": lambda: token(sub="1\0"),
    "subject of 256": lambda: token(sub="x" * 256),
    "subject with a lone surrogate": lambda: jwt_with(sub="\ud800"),
    "issuer with a zero byte": lambda: token(iss="a\0b"),
    "huge": lambda: token(filler="x" * 5000),
    "payload a list": lambda: signed_payload(b"[1]"),
    "payload no JSON": lambda: signed_payload(b"nonsense"),
    "payload nested": lambda: signed_payload(b"[" * 2500),
    "payload with too many digits": lambda: signed_payload(b'{"sub": "1", "exp": ' + b"9" * 4400 + b"}"),
    "two parts": lambda: ".".join(token().split(".")[:2]),
    "five parts": lambda: token() + ".a.b",
    "cut": lambda: token()[:-1],
    "with a line": lambda: token() + " x",
    "nothing": lambda: "",
    "dots": lambda: "..",
    "bytes": lambda: b"\xff\xfe.\x80.\x81",
    "letters beyond ASCII": lambda: "ключ".encode(),
}


def signed_payload(payload: bytes) -> str:
    return jwt.api_jws.encode(payload, django_settings.JWT_SECRET, algorithm="HS256")


def jwt_with(**changes: Any) -> str:
    return signed_payload(json.dumps({"sub": "1", "exp": 32_503_680_000, **changes}).encode())


def unsigned_end(number: str) -> str:
    return signed_payload(b'{"sub": "1", "exp": %s}' % number.encode())


def test_forged_tokens_open_nothing(product: str, nobody: Api, subtests: pytest.Subtests) -> None:
    for name, forge in FORGED.items():
        with subtests.test(name):
            assert_error(me(product, forge()), 401)
    assert len(FORGED) >= 25
    assert not User.objects.exists()
    assert me(product, token()).status_code == 200  # and the recipe itself is right


def test_other_schemes_open_nothing(nobody: Api) -> None:
    for header in ("Basic b3duZXI6eA==", "Token x", "Bearer", "bearer", "Bearer " + "x" * 5000, "x", "Bearer\ttoken"):
        assert_error(nobody.call("GET", ME, headers={"Authorization": header}), 401)


def test_scheme_is_read_in_any_case(nobody: Api) -> None:
    assert nobody.call("GET", ME, headers={"Authorization": f"bEARER {token()}"}).status_code == 200


def test_token_in_the_address_opens_nothing(nobody: Api) -> None:
    assert_error(nobody.get(ME, token=token(), access_token=token(), jwt=token()), 401)


# The admin's session


def signed_in(product: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    page = session.get(f"{product}/admin/login/").text
    found = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found
    form = {"csrfmiddlewaretoken": found[1], "username": "boss", "password": PASSWORD, "next": "/admin/"}
    answer = session.post(f"{product}/admin/login/", form, headers={"Referer": product}, allow_redirects=False)
    assert answer.status_code == 302
    return session


def test_session_of_the_admin_opens_the_api_and_writes_only_with_csrf(product: str) -> None:
    make_user("boss", "admin", is_staff=True)
    session = signed_in(product)
    path = f"{product}/api/v1/accounts"
    assert session.get(path).status_code == 200
    assert_error(session.post(path, json={"name": "New"}), 403, "permission_denied")
    wrong = {"X-CSRFToken": "x" * 64, "Origin": product}
    assert_error(session.post(path, json={"name": "New"}, headers=wrong), 403, "permission_denied")
    right = {"X-CSRFToken": session.cookies["csrftoken"], "Origin": product}
    assert session.post(path, json={"name": "New"}, headers=right).status_code == 201
    elsewhere = {**right, "Origin": "https://evil.example"}
    assert_error(session.post(path, json={"name": "Other"}, headers=elsewhere), 403, "permission_denied")


# Too many tries


def try_password(api: Api, name: str, password: str = "wrong", **headers: str) -> requests.Response:
    return api.post("/api/v1/auth/token", {"username": name, "password": password}, headers=headers)


def test_ten_wrong_tries_lock_the_name_for_this_address(nobody: Api) -> None:
    make_user("owner", "admin")
    make_user("colleague", "operator")
    for _number in range(9):
        assert_error(try_password(nobody, "owner"), 401, "no_active_account")
    for _number in range(2):
        assert_error(try_password(nobody, "owner"), 429, "too_many_attempts")
    assert_error(try_password(nobody, "owner", PASSWORD), 429, "too_many_attempts")
    assert try_password(nobody, "colleague", PASSWORD).status_code == 200


def test_success_forgets_the_wrong_tries(nobody: Api) -> None:
    make_user("owner", "admin")
    for _round in range(2):
        for _number in range(6):
            assert_error(try_password(nobody, "owner"), 401, "no_active_account")
        assert try_password(nobody, "owner", PASSWORD).status_code == 200


def test_unknown_name_and_wrong_password_are_told_apart_by_nobody(nobody: Api) -> None:
    make_user("owner", "admin")
    make_user("blocked", is_active=False)
    answers = [
        try_password(nobody, "owner"),
        try_password(nobody, "unknown"),
        try_password(nobody, "blocked", PASSWORD),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


def test_name_too_long_for_anybody_is_refused(nobody: Api) -> None:
    assert_error(try_password(nobody, "x" * 151), 400, "max_length", "username")
