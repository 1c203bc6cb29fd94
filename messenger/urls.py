from django.urls import path

from messenger.api import MessengerViewSet
from messenger.eternal_online import EternalOnlineViewSet, StatusViewSet

online = "eternal-online/accounts/<int:account_id>"
base = "messenger/accounts/<int:account_id>/chats"
urlpatterns = [
    path("eternal-online/status", EternalOnlineViewSet.as_view({"get": "status"})),
    path(f"{online}/enable", EternalOnlineViewSet.as_view({"post": "enable"})),
    path(f"{online}/disable", EternalOnlineViewSet.as_view({"post": "disable"})),
    path(f"{online}/set-online", EternalOnlineViewSet.as_view({"post": "set_online"})),
    path(f"{online}/history", EternalOnlineViewSet.as_view({"get": "history"})),
    path("messenger/accounts/<int:account_id>/status/online", StatusViewSet.as_view({"post": "online"})),
    path(base, MessengerViewSet.as_view({"get": "chats"})),
    path(f"{base}/<str:chat_id>", MessengerViewSet.as_view({"get": "chat"})),
    path(f"{base}/<str:chat_id>/messages", MessengerViewSet.as_view({"get": "messages"})),
    path(f"{base}/<str:chat_id>/send", MessengerViewSet.as_view({"post": "send"})),
    path(f"{base}/<str:chat_id>/messages/<str:message_id>/read", MessengerViewSet.as_view({"post": "read"})),
]
