"""Producers: the captioner opens groups in the ring, the renderers fill them."""
