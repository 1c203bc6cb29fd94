"""The inbox: one page for operators, which `chats/static/chats/inbox.js` fills by the API and the live events."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from api.roles import PERMISSIONS, permissions_of
from avito.messenger import IMAGE_MAX_BYTES, TEXT_MAX
from avito_accounts.errors import PROXY_REASONS, WORDS
from avito_accounts.models import Account
from chats import search
from chats.models import CatchUp, Chat


def inbox(request: HttpRequest) -> HttpResponse:
    if "chats.use" not in permissions_of(request.user):
        raise PermissionDenied
    importing = CatchUp.objects.importing().select_related("account")
    context = {
        **admin.site.each_context(request),
        "title": _("Inbox"),
        "is_fullwidth": "1",
        "importing": importing.order_by("account__name"),
        "text_max": TEXT_MAX,
        "facts": {
            "me": request.user.pk,
            "people": people(),
            "accounts": list(Account.objects.order_by("name").values("id", "name")),
            "hasChats": Chat.objects.exists(),
            "mayConnect": "accounts.manage" in permissions_of(request.user),
            "searchMin": search.LENGTH_MIN,
            "textMax": TEXT_MAX,
            "imageMaxBytes": IMAGE_MAX_BYTES,
            "words": words(),
        },
    }
    return TemplateResponse(request, "chats/inbox.html", context)


def people() -> list[dict[str, Any]]:
    """Those to whom a chat may be given."""
    roles = [role for role, held in PERMISSIONS.items() if "chats.use" in held]
    users = User.objects.filter(Q(is_superuser=True) | Q(groups__name__in=roles), is_active=True)
    return [
        {"id": user.pk, "name": user.get_full_name() or user.username} for user in users.distinct().order_by("username")
    ]


def words() -> dict[str, Any]:
    """What the script says itself."""
    return {
        "today": _("Today"),
        "yesterday": _("Yesterday"),
        "moscow": _("%s Moscow time"),
        "you": _("You: "),
        "me": _("me"),
        "noName": _("No name"),
        "noMessages": _("No messages yet."),
        "statuses": dict(Chat.Status.choices),
        "delivery": {
            "sending": _("being handed over"),
            "queued": _("queued"),
            "sent": _("sent"),
            "failed": _("not sent"),
            "unknown": _("being checked"),
            "read": _("read"),
        },
        "causes": {
            **{code: str(text) for code, text in WORDS.items()},
            "outcome_unknown": _(
                "It may have arrived all the same. Look into the chat at Avito before you send it again."
            ),
            "not_delivered": _("It did not arrive at Avito."),
            "worker_lost": _("The service was stopped while sending it."),
        },
        "proxyReasons": {reason: str(text) for reason, text in PROXY_REASONS.items()},
        "take": _("Take it"),
        "giveBack": _("Give it back"),
        "close": _("Close the chat"),
        "reopen": _("Reopen"),
        "removeTag": _("Remove the tag “%s”"),
        "unread": _("Unread messages: %s"),
        "copied": _("Copied"),
        "listen": _("Listen"),
        "noVoice": _("Avito no longer has this recording."),
        "picture": _("Picture"),
        "signedOut": _("You are signed out. Sign in again in another tab, then repeat: nothing is lost."),
        "signIn": _("Sign in"),
        "noConnection": _("There is no connection to the service. Try again once it is back."),
        "inDoubt": _(
            "The connection broke while sending. The text is kept: send it again unless it appears in the chat."
        ),
        "pictureInDoubt": _(
            "Whether the picture has arrived is being found out. “Send” asks again and never sends it twice."
        ),
        "broken": _("Something went wrong (%s). The text is kept: try again in a moment."),
        "tooLongText": _("A message has at most %(max)s characters. Shorten it, or send it in parts.")
        % {"max": TEXT_MAX},
        "notAPicture": _("Only pictures can be sent: JPEG, HEIC, GIF, BMP or PNG, at most 24 MB."),
        "noCanned": _("No canned reply fits."),
        "tooLong": _("too long when filled in"),
        "newMessages": _("New messages"),
        "nothingFound": _("Nothing found"),
        "nothingFoundHint": _("No chat fits these filters."),
        "noChats": _("No chats yet"),
        "noChatsHint": _("When a buyer writes, the chat appears here by itself."),
        "noAccounts": _("Connect an account first"),
        "noAccountsHint": _("Chats come from accounts at Avito, and none is here yet."),
        "askAdmin": _("Ask an administrator to connect one."),
        "allDone": _("No active chats"),
        "allDoneHint": _("Everything is answered and closed. New messages appear here by themselves."),
        "notThere": _("There is no such chat."),
        "loadFailed": _("This could not be loaded: %s"),
    }
