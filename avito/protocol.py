"""Calls to requests, responses to values or errors. Pure: no network.

Source: Avito API, the parts common to all sections; error shapes as met in the field.
"""

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

from avito import errors, wire

MESSAGE_MAX = 500
"""Characters kept of Avito's own words about an error."""
RETRY_AFTER_MAX = 86_400

_BY_STATUS: dict[int, type[errors.Refused]] = {
    401: errors.Unauthorized,
    402: errors.SubscriptionRequired,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.NotFound,
    408: errors.Broken,
    410: errors.NotFound,
    429: errors.RateLimited,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `path`: percent-encoded, from the root. Headers and body may be secret: not in the repr."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """Path and query, as they go to the wire."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def with_token(self, token: str) -> Self:
        return replace(self, headers={**self.headers, "Authorization": f"Bearer {token}"})


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, its body decompressed; out of reprs, as it may hold tokens or private words."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """The value of a header in any spelling, or ""."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


def path(template: str, *values: int | str) -> str:
    """Put ids into the `{}` of a path, each as one segment whatever it holds.

    Raises NotFound, without asking Avito, for a text that cannot be a segment.
    """
    return template.format(*map(_segment, values))


def _segment(value: int | str) -> str:
    written = str(value)
    # Dots alone would be taken as directions even when percent-encoded; an empty id would name the parent.
    if not 0 < len(written) <= wire.NAME_MAX or written in (".", ".."):
        raise errors.NotFound("No such id")
    try:
        return quote(written, safe="")
    except UnicodeEncodeError:
        raise errors.NotFound("No such id") from None


def demand(is_met: bool, name: str, words: str) -> None:
    """Refuse, unsent, what breaks a documented rule: Invalid, with the name of the field."""
    if not is_met:
        raise errors.Invalid(f"{name}: {words}", fields={name: words})


def get(path: str, query: Iterable[tuple[str, str]] = ()) -> Request:
    return Request("GET", path, tuple(query))


def post(path: str, value: object = None) -> Request:
    """A POST with a JSON body, or without any for None."""
    if value is None:
        return Request("POST", path)
    return Request("POST", path, headers={"Content-Type": "application/json"}, body=json.dumps(value).encode())


def put(path: str, value: object) -> Request:
    return replace(post(path, value), method="PUT")


def post_form(path: str, fields: Mapping[str, str]) -> Request:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", path, headers=headers, body=urlencode(fields).encode())


def post_file(path: str, field_name: str, filename: str, data: bytes, content_type: str) -> Request:
    """A POST of one file as multipart/form-data."""
    boundary = secrets.token_hex(16)
    disposition = f'form-data; name="{field_name}"; filename="{_quotable(filename)}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {_quotable(content_type)}\r\n\r\n"
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return Request("POST", path, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}, body=body)


def _quotable(words: str) -> str:
    """Words that can neither end their quotes nor their header line."""
    return re.sub(r'["\\\x00-\x1f\x7f\ud800-\udfff]', "_", words)


def read(response: Response, *, hide: Collection[str] = ()) -> Any:
    """The JSON of a successful answer, None if its body is empty; else raises the error that says what to do.

    `hide`: secrets of this call, kept out of the error's message should Avito repeat them.
    """
    if not 200 <= response.status < 300:
        raise _unsuccessful(response, hide)
    if "html" in response.header("Content-Type").lower():
        raise errors.Unreadable("HTML instead of JSON")
    if not response.body.strip():
        return None
    value = wire.loads(response.body).value
    complaint = Complaint.found_in(value) if isinstance(value, dict) else None
    if complaint and complaint.is_certain:
        raise _refusal(complaint.status or 400, response, complaint, hide)
    return value


def _unsuccessful(response: Response, hide: Collection[str]) -> errors.AvitoError:
    if response.status < 400:
        return errors.Unreadable(f"HTTP {response.status} instead of an answer")
    return _refusal(response.status, response, complaint_of(response), hide)


def _refusal(status: int, response: Response, complaint: "Complaint", hide: Collection[str]) -> errors.Refused:
    kind = _BY_STATUS.get(status, errors.Broken if status >= 500 else errors.Invalid)
    details: dict[str, Any] = {
        "status": status,
        "code": complaint.code,
        "retry_after_seconds": retry_after(response.header("Retry-After")),
    }
    if kind is errors.Invalid:
        details["fields"] = complaint.fields
    return kind(complaint.words(hide), **details)


def complaint_of(response: Response) -> "Complaint":
    """What an unsuccessful answer says, in any shape met; empty for HTML and the like."""
    try:
        return Complaint.found_in(wire.loads(response.body).value) or Complaint()
    except errors.Unreadable:
        return Complaint()


@dataclass(frozen=True, slots=True)
class Complaint:
    """Avito's own words about an error. `is_certain`: this shape is an error's whatever the status says."""

    message: str = ""
    code: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_certain: bool = False

    @property
    def status(self) -> int | None:
        """The HTTP status that the code stands for, if it is one."""
        return int(self.code) if self.code and re.fullmatch(r"[45]\d\d", self.code) else None

    def words(self, hide: Collection[str]) -> str:
        said = self.message
        for secret in filter(None, hide):
            said = said.replace(secret, "***")
        return " ".join(said.split())[:MESSAGE_MAX]

    @classmethod
    def found_in(cls, value: Any) -> "Complaint | None":
        """`{"error": {code, message, fields}}`, OAuth's `{"error": "...", "error_description": "..."}`,
        `{"code", "message"}`, `{"errors": [...]}` or `{"result": {"status": "error", "messages": [...]}}`.
        """
        if not isinstance(value, dict):
            return None
        error, result = value.get("error"), value.get("result")
        if isinstance(error, dict) and error:
            return cls(_message(error), _code(error.get("code")), _fields(error), True)
        if isinstance(error, str) and error:
            return cls(_message(value, "error_description", "message") or error, error, {}, True)
        if isinstance(result, dict) and result.get("status") == "error":
            return cls(_joined(result.get("messages")) or _message(result), None, {}, True)
        if value.get("errors"):
            return cls(_joined(value["errors"]) or _message(value), _code(value.get("code")), {}, True)
        return cls(_message(value), _code(value.get("code")), _fields(value))


def _message(source: dict[str, Any], *keys: str) -> str:
    return next((source[key] for key in keys or ("message",) if isinstance(source.get(key), str)), "")


def _code(value: Any) -> str | None:
    is_code = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value)[:64] if is_code else None


def _fields(source: dict[str, Any]) -> dict[str, Any]:
    fields = source.get("fields")
    return fields if isinstance(fields, dict) else {}


def _joined(values: Any) -> str:
    said = values if isinstance(values, list) else [values]
    return "; ".join(_message(one) if isinstance(one, dict) else one for one in said if isinstance(one, str | dict))


def retry_after(value: str) -> int | None:
    """Seconds to wait by a Retry-After header, a number or a date; None if it says nothing sensible."""
    if re.fullmatch(r"\d{1,9}", value.strip(), re.ASCII):
        return min(int(value), RETRY_AFTER_MAX)
    try:
        until = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0, round(seconds)), RETRY_AFTER_MAX)
