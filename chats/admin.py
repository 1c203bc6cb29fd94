"""Chats, messages and webhook events in the back office. What Avito says is read-only."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.decorators import action, display

from api.admin import RoleModelAdmin, WithOverview, asks_first
from avito.messenger import TEXT_MAX
from avito_accounts import errors
from avito_accounts.errors import AccountUnusable
from chats import inbox, replies, shown
from chats.models import CannedReply, Chat, Message, WebhookEvent

SHOWN_MESSAGES = 50
KINDS = {"text": _("Text"), **shown.NOTES, "deleted": _("Deleted")}
CHAT_KINDS = {"u2i": _("about a listing"), "u2u": _("direct"), "a2u": _("from Avito")}
EVENT_KINDS = {
    "message": _("message"),
    "message.new": _("message"),
    "chat.new": _("new chat"),
}
"""What the senders call an event; other words stand as they came."""
REPLAYED_AT_ONCE = 1000
"""Whoever has chosen a whole table did not mean it; for all that cannot be used there is a button."""
EVENT_ADVICE: dict[str, tuple[str, Any]] = {
    "received": ("info", _("It waits for a worker, which takes it within seconds, or again after a failure.")),
    "processed": ("success", _("It has become part of a chat. There is nothing to do.")),
    "ignored": ("default", _("It tells nothing that this service handles. There is nothing to do.")),
    "unmatched": (
        "warning",
        _("No account here has this number at Avito. Once one has, the event is taken up by itself."),
    ),
    "dead": (
        "danger",
        _(
            "It could not be used, for the reason below. Once that is mended, as a rule by an update, press “Process "
            "again”: nothing is doubled by it."
        ),
    ),
}
"""What the state of an event means, and what to do."""
DELIVERY_COLOURS = {
    "received": "info",
    "sent": "success",
    "queued": "info",
    "sending": "info",
    "unknown": "warning",
    "failed": "danger",
}


class ReplyForm(forms.Form):
    text = forms.CharField(max_length=TEXT_MAX, widget=forms.Textarea(attrs={"rows": 3}))


class UnreadFilter(admin.SimpleListFilter):
    title = _("unread")
    parameter_name = "unread"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("with unread messages"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Chat]) -> QuerySet[Chat]:
        return queryset.filter(unread_count__gt=0) if self.value() == "yes" else queryset


@admin.register(Chat)
class ChatAdmin(WithOverview):
    """A conversation with its last messages, and a reply below them."""

    to_see = "chats.use"
    nothing = _("No chats yet. When a buyer writes to a connected account, the chat appears here by itself.")
    list_display = ("client", "account", "item_title", "status", "unread_count", "last_text", "last_at")
    list_filter = (UnreadFilter, "status", "account", "assignee")
    search_fields = ("name", "phone", "item_title", "avito_id__exact")  # each has its index
    list_select_related = ("account", "last_message")
    ordering = ("-activity_at", "-id")
    change_form_outer_before_template = "chats/conversation.html"
    overview_name = "conversation"
    actions_detail = ("open_inbox",)
    fields = (
        ("name", "phone"),
        ("city", "account"),
        ("status", "chat_kind"),
        ("responsible", "tags"),
        "item_title",
        "item_link",
        "avito_id",
        ("unread_count", "messages_count"),
        ("created_at", "last_message_at"),
    )
    readonly_fields = ("item_link", "responsible", "chat_kind")

    @admin.display(description=_("client"), ordering="name")
    def client(self, chat: Chat) -> str:
        return str(chat)

    @admin.display(description=_("last message"))
    def last_text(self, chat: Chat) -> str:
        return chat.last_message.words[:80] if chat.last_message else "—"

    @admin.display(description=_("time"), ordering="last_message_at")
    def last_at(self, chat: Chat) -> Any:
        return chat.last_message_at

    @admin.display(description=_("assignee"))
    def responsible(self, chat: Chat) -> str:
        return str(chat.assignee or "—")

    @admin.display(description=_("chat type"))
    def chat_kind(self, chat: Chat) -> Any:
        return CHAT_KINDS.get(chat.chat_type, chat.chat_type or "—")

    @admin.display(description=_("item link"))
    def item_link(self, chat: Chat) -> str:
        if not chat.item_url.startswith(("https://", "http://")):
            return chat.item_url or "—"
        link = '<a href="{0}" target="_blank" rel="noreferrer" class="text-primary-600 dark:text-primary-500">{0}</a>'
        return format_html(link, chat.item_url)

    @action(description=_("Open in the inbox"), url_path="inbox", permissions=["view"], icon="forum")
    def open_inbox(self, request: HttpRequest, object_id: int) -> HttpResponse:
        chat = self.get_object(request, str(object_id))
        if chat is None:
            raise Http404
        return HttpResponseRedirect(f"{reverse('chats_inbox')}?chat={chat.pk}")

    def get_urls(self) -> list[URLPattern]:
        send = self.admin_site.admin_view(require_POST(self.reply_view))
        return [path("<int:chat_id>/reply/", send, name="chats_chat_reply"), *super().get_urls()]

    def overview_of(self, request: HttpRequest, obj: Chat) -> list[Message]:
        """The newest messages, in the order in which they were written."""
        newest = obj.messages.select_related("written_by").order_by("-created_at", "-id")[:SHOWN_MESSAGES]
        return list(reversed(newest))

    def reply_view(self, request: HttpRequest, chat_id: int) -> HttpResponse:
        chat = get_object_or_404(Chat.objects.select_related("account__authorization"), pk=chat_id)
        form = ReplyForm(request.POST)
        if not self.has_view_permission(request, chat):
            return HttpResponse(status=403)
        if not form.is_valid():
            messages.error(request, _("A reply has 1 to 1000 characters."))
        else:
            try:
                replies.reply(chat, text=form.cleaned_data["text"], author=request.user)  # type: ignore[arg-type]
                messages.success(request, _("The reply is queued and will be delivered in a moment."))
            except AccountUnusable:
                messages.error(request, _("The chat's account is not connected to Avito. Connect it first."))
        return HttpResponseRedirect(reverse("admin:chats_chat_change", args=[chat.pk]) + "#reply")


class KindFilter(admin.SimpleListFilter):
    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(KINDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        return queryset.filter(type=self.value()) if self.value() in KINDS else queryset


@admin.register(Message)
class MessageAdmin(RoleModelAdmin):
    to_see = "chats.use"
    nothing = _("No messages yet. They come with the chats of connected accounts.")
    list_display = ("created_at", "chat", "direction", "short_text", "delivery")
    list_filter = ("direction", "delivery_status", KindFilter, ("created_at", RangeDateTimeFilter))
    list_filter_submit = True
    search_fields = ("text", "avito_id", "chat__name")
    list_select_related = ("chat",)
    ordering = ("-id",)
    actions = ("send_again",)
    fields = (
        "chat",
        ("direction", "kind"),
        "words",
        "as_avito_has_it",
        "avito_id",
        ("author_id", "writer"),
        ("delivery_status", "attempts"),
        "cause",
        "error_detail",
        ("created_at", "read_at"),
    )

    readonly_fields = ("words", "as_avito_has_it", "writer")

    @admin.display(description=_("type"))
    def kind(self, message: Message) -> Any:
        return KINDS.get(message.type, message.type)

    @admin.display(description=_("cause"))
    def cause(self, message: Message) -> Any:
        return errors.words(message.error_code) if message.error_code else "—"

    @admin.display(description=_("written here by"))
    def writer(self, message: Message) -> str:
        """No link, as Django would make one: most readers may not open the pages of people."""
        return str(message.written_by or "—")

    @admin.display(description=_("text"))
    def words(self, message: Message) -> str:
        return message.words

    @admin.display(description=_("as Avito has it"))
    def as_avito_has_it(self, message: Message) -> str:
        content = json.dumps(message.content, ensure_ascii=False, indent=2)
        return format_html('<code class="break-words whitespace-pre-wrap">{}</code>', content)

    @admin.display(description=_("text"))
    def short_text(self, message: Message) -> str:
        return message.words[:100]

    @display(description=_("delivery"), ordering="delivery_status", label=DELIVERY_COLOURS)
    def delivery(self, message: Message) -> Any:
        return message.delivery_status, message.get_delivery_status_display()

    @admin.action(description=_("Send failed ones again"), permissions=["view"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        count = sum(replies.retry(message) for message in queryset[:200])
        text = ngettext("%(count)d message is queued again.", "%(count)d messages are queued again.", count)
        messages.info(request, text % {"count": count})


@admin.register(CannedReply)
class CannedReplyAdmin(RoleModelAdmin):
    """Answers that are written once. Operators write their own by the API."""

    to_see = "chats.use"
    to_change = "accounts.manage"
    nothing = _(
        "No canned replies yet. Press “+” at the top right and write what is often answered: the inbox offers it."
    )
    list_display = ("title", "text", "owner")
    list_select_related = ("owner",)
    search_fields = ("title", "text")
    ordering = ("title",)
    fields = ("title", "text", "owner")
    readonly_fields = ("whose",)

    @admin.display(description=_("owner"))
    def whose(self, reply: CannedReply) -> str:
        return str(reply.owner or "—")

    def get_fields(self, request: HttpRequest, obj: CannedReply | None = None) -> tuple[str, ...]:
        return self.fields if self.has_change_permission(request, obj) else ("title", "text", "whose")


class EventKindFilter(admin.AllValuesFieldListFilter):
    def choices(self, changelist: Any) -> Any:
        for choice in super().choices(changelist):
            yield {**choice, "display": EVENT_KINDS.get(str(choice["display"]), choice["display"])}


@admin.register(WebhookEvent)
class WebhookEventAdmin(WithOverview):
    """What Avito has delivered, as it came; every event can be processed again without harm."""

    to_see = "accounts.manage"
    nothing = _("Avito has delivered nothing yet. It does so once an account’s webhook is subscribed.")
    list_display = ("received_at", "state", "kind", "avito_user_id", "chat_avito_id", "attempts", "short_error")
    list_filter = ("status", ("type", EventKindFilter), ("received_at", RangeDateTimeFilter))
    list_filter_submit = True
    search_fields = ("chat_avito_id", "message_avito_id", "request_id")
    ordering = ("-id",)
    search_help_text = _("chat or message at Avito, or number of the request")
    list_before_template = "chats/events_summary.html"
    change_form_outer_before_template = "chats/event_advice.html"
    overview_name = "advice"
    actions = ("replay",)
    actions_list = ("replay_dead",)
    actions_detail = ("replay_one",)
    fields = (
        ("status", "attempts"),
        ("received_at", "processed_at"),
        ("kind", "avito_user_id"),
        "chat_avito_id",
        "message_avito_id",
        "note",
        "request_id",
        "signature",
        "whole_error",
        "body_text",
    )
    readonly_fields = ("kind", "whole_error", "body_text")

    @admin.display(description=_("type"), ordering="type")
    def kind(self, event: WebhookEvent) -> Any:
        return EVENT_KINDS.get(event.type, event.type or "—")

    @display(
        description=_("status"),
        ordering="status",
        label={
            "processed": "success",
            "received": "info",
            "ignored": "default",
            "unmatched": "warning",
            "dead": "danger",
        },
    )
    def state(self, event: WebhookEvent) -> Any:
        return event.status, event.get_status_display()

    @admin.display(description=_("error"))
    def short_error(self, event: WebhookEvent) -> str:
        return (event.error.strip().splitlines() or [event.note])[-1][:100]

    @admin.display(description=_("error"))
    def whole_error(self, event: WebhookEvent) -> str:
        if not event.error:
            return "—"
        return format_html('<div class="break-words" style="white-space: pre-wrap">{}</div>', event.error)

    @admin.display(description=_("body"))
    def body_text(self, event: WebhookEvent) -> str:
        return format_html('<code class="break-words">{}</code>', event.raw)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        dead = SimpleLazyObject(lambda: WebhookEvent.objects.filter(status=WebhookEvent.Status.DEAD)[:1].count())
        return super().changelist_view(request, {**(extra_context or {}), "dead": dead})

    def overview_of(self, request: HttpRequest, obj: WebhookEvent) -> tuple[str, Any]:
        """Its state's colour, and what to do."""
        return EVENT_ADVICE[obj.status]

    @admin.action(description=_("Process again"), permissions=["view"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> None:
        ids = list(queryset.values_list("pk", flat=True)[: REPLAYED_AT_ONCE + 1])
        if len(ids) > REPLAYED_AT_ONCE:
            ids.pop()
            text = _("Only the first %(count)s were taken. Choose the others next.")
            messages.warning(request, text % {"count": REPLAYED_AT_ONCE})
        self._report(request, inbox.replay(WebhookEvent.objects.filter(pk__in=ids)))

    @action(
        description=_("Process all unusable ones again"), url_path="replay-dead", permissions=["view"], icon="replay"
    )
    @asks_first(
        text=_(
            "Every delivery that could not be used is processed once more, from the bytes that were kept. Nothing is "
            "doubled by it, but as long as the reason is not mended they fail again."
        )
    )
    def replay_dead(self, request: HttpRequest) -> HttpResponse:
        self._report(request, inbox.replay(WebhookEvent.objects.filter(status=WebhookEvent.Status.DEAD)))
        return HttpResponseRedirect(reverse("admin:chats_webhookevent_changelist"))

    @action(description=_("Process again"), url_path="replay", permissions=["view"], icon="replay")
    @asks_first
    def replay_one(self, request: HttpRequest, object_id: int) -> HttpResponse:
        self._report(request, inbox.replay(WebhookEvent.objects.filter(pk=object_id)))
        return HttpResponseRedirect(reverse("admin:chats_webhookevent_change", args=[object_id]))

    def _report(self, request: HttpRequest, count: int) -> None:
        if not count:
            messages.info(request, _("There is nothing to process again."))
            return
        text = ngettext("%(count)d event will be processed again.", "%(count)d events will be processed again.", count)
        messages.info(request, text % {"count": count})
