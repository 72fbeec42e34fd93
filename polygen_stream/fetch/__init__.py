"""What a config needs from the model hub, and getting it: once, before anything runs."""

from polygen_stream.fetch.repositories import Repository, repositories

__all__ = ["Repository", "repositories"]
