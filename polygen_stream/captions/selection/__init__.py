"""Which captions a run keeps: balancing and de-duplication."""
