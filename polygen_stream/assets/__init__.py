"""Files that a run needs: presets, recipes, weights, and the model hub's cache."""
