"""Language models that write and edit captions."""
