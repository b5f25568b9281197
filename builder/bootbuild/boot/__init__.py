"""The boot side: it gets an image's bytes, plays each environment, and judges what happens."""
