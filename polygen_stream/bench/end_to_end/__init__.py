"""`polygen-stream bench end-to-end`."""
