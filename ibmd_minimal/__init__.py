"""Inverse Bridge Matching Distillation, small enough to be read in an evening."""
