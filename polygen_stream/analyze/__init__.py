"""Measurements of generators: recognizability, diversity, spectra, and the generator probe."""
