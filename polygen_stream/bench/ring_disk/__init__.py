"""`polygen-stream bench ring-disk`."""
