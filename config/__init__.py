"""Wires everything together; nothing imports it."""
