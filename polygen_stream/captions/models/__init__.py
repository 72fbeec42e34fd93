"""Language models that write and edit captions, and the caption source that uses them."""
