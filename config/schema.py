"""What OpenAPI says of the paths that are no DRF views: Avito's webhooks."""

from typing import Any

WEBHOOK = {
    "operationId": "webhook_receive",
    "tags": ["webhooks"],
    "description": "Where Avito delivers. The body is stored, committed and answered; it is understood later, so an "
    "unreadable one gets 200 too. An empty object is a probe and leaves nothing.",
    "requestBody": {"content": {"application/json": {"schema": {}}}},
    "security": [{}],
    "responses": {
        "200": {
            "description": "stored",
            "content": {
                "application/json": {
                    "schema": {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}
                }
            },
        },
        "401": {"description": "the key or the signature is wrong; nothing is stored"},
        "413": {"description": "over 256 KiB"},
        "415": {"description": "with a Content-Encoding"},
        "503": {"description": "the database is not available; repeat after Retry-After"},
    },
}
KEY = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}


def add_plain_paths(result: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
    paths = result["paths"]
    for number, root in enumerate(("/api/v1/webhooks/avito", "/api/v1/webhook/avito"), start=1):
        paths[root] = {"post": {**WEBHOOK, "operationId": f"webhook_receive_{number}"}}
        paths[f"{root}/{{key}}"] = {
            "post": {**WEBHOOK, "operationId": f"webhook_receive_with_key_{number}", "parameters": [KEY]}
        }
    return result
