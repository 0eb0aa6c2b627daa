"""Whether a map stays where it is under noise, another seed, a shift or a flip."""
