"""`polygen-stream bench all`."""
