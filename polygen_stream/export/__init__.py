"""A run's captions and pictures as an ordinary dataset. Imports torch, through the generators."""
