"""The micro world: small images with language, on which everything runs without a GPU and evaluates exactly."""
