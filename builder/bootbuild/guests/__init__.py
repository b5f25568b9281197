"""The guest protocol that is bootbuild's own."""
