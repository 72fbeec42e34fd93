"""Caption sources: who turns a task of the ledger into T+ and, where asked, T-."""
