from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bench.baseline.models import Chat, Message


class ContentSerializer(serializers.Serializer[Any]):
    text = serializers.CharField()


class ValueSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(max_length=100)
    chat_id = serializers.CharField(max_length=100)
    author_id = serializers.IntegerField()
    created = serializers.IntegerField()
    type = serializers.CharField(max_length=50)
    content = ContentSerializer()


class PayloadSerializer(serializers.Serializer[Any]):
    type = serializers.CharField(max_length=100)
    value = ValueSerializer()


class EventSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(max_length=100)
    payload = PayloadSerializer()


class Webhook(APIView):
    def post(self, request: Request) -> Response:
        event = EventSerializer(data=request.data)
        event.is_valid(raise_exception=True)
        value = event.validated_data["payload"]["value"]
        created_at = datetime.fromtimestamp(value["created"], UTC)
        with transaction.atomic():  # one commit instead of three
            chat, _created = Chat.objects.get_or_create(avito_id=value["chat_id"])
            _message, is_new = Message.objects.get_or_create(
                avito_id=value["id"],
                defaults={
                    "chat": chat,
                    "author_id": value["author_id"],
                    "type": value["type"],
                    "text": value["content"]["text"],
                    "created_at": created_at,
                },
            )
            if is_new:
                Chat.objects.filter(pk=chat.pk).update(unread=F("unread") + 1, last_message_at=created_at)
        return Response({"ok": True})
