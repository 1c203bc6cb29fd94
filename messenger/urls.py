from django.urls import path

from api.parsers import StrictJSONParser
from messenger.api import MessageForm, MessengerViewSet
from messenger.eternal_online import EternalOnlineViewSet, StatusViewSet

online = "eternal-online/accounts/<int:account_id>"
account = "messenger/accounts/<int:account_id>"
base = f"{account}/chats"
message = f"{base}/<str:chat_id>/messages/<str:message_id>"
send = MessengerViewSet.as_view({"post": "send"}, parser_classes=[StrictJSONParser, MessageForm])
webhook = MessengerViewSet.as_view({"get": "webhook", "post": "subscribe", "delete": "unsubscribe"})
urlpatterns = [
    path("eternal-online/status", EternalOnlineViewSet.as_view({"get": "status"})),
    path(f"{online}/enable", EternalOnlineViewSet.as_view({"post": "enable"})),
    path(f"{online}/disable", EternalOnlineViewSet.as_view({"post": "disable"})),
    path(f"{online}/set-online", EternalOnlineViewSet.as_view({"post": "set_online"})),
    path(f"{online}/history", EternalOnlineViewSet.as_view({"get": "history"})),
    path(f"{account}/status/online", StatusViewSet.as_view({"post": "online"})),
    path(base, MessengerViewSet.as_view({"get": "chats"})),
    path(f"{base}/<str:chat_id>", MessengerViewSet.as_view({"get": "chat"})),
    path(f"{base}/<str:chat_id>/messages", MessengerViewSet.as_view({"get": "messages"})),
    path(f"{base}/<str:chat_id>/send", send),
    path(message, MessengerViewSet.as_view({"delete": "take_back"})),
    path(f"{message}/read", MessengerViewSet.as_view({"post": "read"})),
    path(f"{account}/voice-files", MessengerViewSet.as_view({"get": "voices"})),
    path(f"{account}/webhook", webhook),
]
