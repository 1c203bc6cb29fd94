"""The naive way to take webhooks, to compare with: a DRF view that understands each message before it answers."""
