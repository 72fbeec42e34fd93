"""Names of the files that analysis leaves in a run folder."""

ANALYSIS = "analysis.json"
