"""The exception for messages that cannot be used."""

from __future__ import annotations


class MessageError(ValueError):
    """A message that cannot be used; the text says which, what was expected and what came."""
