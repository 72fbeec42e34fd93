"""What is produced and drawn when: ledger, curriculum, leftover queue."""
