"""`polygen-stream doctor`."""
