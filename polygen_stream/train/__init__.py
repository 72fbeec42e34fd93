"""The training process: draws from the ring, trains CLIP, writes checkpoints and metrics."""
