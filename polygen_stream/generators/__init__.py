"""Generators: recipe (what to load and how to sample), pipeline (the loaded model), quality gate."""
