"""The closed loop: policies that decide from the trainer's feedback which captions are written next."""
