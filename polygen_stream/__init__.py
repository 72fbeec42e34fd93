"""polygen-stream: train CLIP on images that diffusion models render while it trains."""

from __future__ import annotations

__version__ = "0.1.0"
