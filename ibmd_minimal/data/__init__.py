"""Couplings to learn from: toy ones in the plane, photographs, and the corruptions that make pairs of them."""
