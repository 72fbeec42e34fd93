"""What every other package may import: errors, seeds, JSON lines, durable files."""
