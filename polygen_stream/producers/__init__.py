"""Producers: the captioner opens groups in the ring and renderers fill them, or the reader does both from shards."""
