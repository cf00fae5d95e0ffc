"""Couplings to learn from: toy ones in the plane, photographs, rendered solids, and the corruptions that make pairs."""
