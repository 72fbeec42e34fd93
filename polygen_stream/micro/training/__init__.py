"""Training of the micro models: architectures, data, training loops and recipes."""
