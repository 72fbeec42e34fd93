"""`polygen-stream bench trainer` and `polygen-stream bench evaluation`."""
