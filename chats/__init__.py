"""The conversations: webhooks in, storage, replies out."""
