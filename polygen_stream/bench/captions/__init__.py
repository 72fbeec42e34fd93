"""`polygen-stream bench captions` and `polygen-stream bench balance`."""
