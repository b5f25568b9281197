"""Frozen values that the two sides of bootbuild exchange. Standard library only."""
