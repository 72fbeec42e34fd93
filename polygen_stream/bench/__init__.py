"""Measurements of the parts, side by side with what people would use instead."""
