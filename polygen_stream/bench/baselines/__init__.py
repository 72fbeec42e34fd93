"""Ways to carry samples from producers to one consumer: the ring, its limit, and alternatives; one file each."""
