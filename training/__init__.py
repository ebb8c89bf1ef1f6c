"""Training methods and their runs: what they produce are versions in the zoo."""
