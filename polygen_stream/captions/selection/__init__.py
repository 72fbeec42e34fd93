"""Selection of the captions that a run uses: balancing and de-duplication."""
