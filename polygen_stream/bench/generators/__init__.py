"""`polygen-stream bench generators`."""
