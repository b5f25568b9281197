"""Boot ABI structures as bytes: packed and parsed with the standard library alone."""
