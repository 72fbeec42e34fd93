"""`polygen-stream bench ring`."""
