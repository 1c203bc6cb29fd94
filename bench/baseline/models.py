from django.db import models


class Chat(models.Model):
    avito_id = models.CharField(max_length=100, unique=True)
    unread = models.PositiveIntegerField(default=0)
    last_message_at = models.DateTimeField(null=True)

    objects: models.Manager["Chat"] = models.Manager()

    def __str__(self) -> str:
        return self.avito_id


class Message(models.Model):
    chat = models.ForeignKey(Chat, on_delete=models.CASCADE)
    avito_id = models.CharField(max_length=100, unique=True)
    author_id = models.BigIntegerField()
    type = models.CharField(max_length=50)
    text = models.TextField()
    created_at = models.DateTimeField()

    objects: models.Manager["Message"] = models.Manager()

    def __str__(self) -> str:
        return self.avito_id
