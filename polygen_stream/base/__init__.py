"""What every other package may import: errors, seeds, files, JSON, and the paths inside a run folder."""
