"""What several notebooks measure: the time of a call, and the error against a reference, beside transformers' own."""
