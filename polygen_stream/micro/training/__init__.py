"""How the shipped micro models were trained."""
