from django.urls import path

from messenger.api import MessengerViewSet

base = "messenger/accounts/<int:account_id>/chats"
urlpatterns = [
    path(base, MessengerViewSet.as_view({"get": "chats"})),
    path(f"{base}/<str:chat_id>", MessengerViewSet.as_view({"get": "chat"})),
    path(f"{base}/<str:chat_id>/messages", MessengerViewSet.as_view({"get": "messages"})),
    path(f"{base}/<str:chat_id>/send", MessengerViewSet.as_view({"post": "send"})),
    path(f"{base}/<str:chat_id>/messages/<str:message_id>/read", MessengerViewSet.as_view({"post": "read"})),
]
