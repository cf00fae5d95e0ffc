"""Speed as ratios: what the library adds to the bare work of the same networks. `make bench` prints them."""
