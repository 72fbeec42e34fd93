"""Evaluation: reads checkpoints, scores them, never slows a training step."""
