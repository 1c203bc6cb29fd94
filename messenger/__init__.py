"""Avito live: thin endpoints over the client, through each account's token and proxy."""
