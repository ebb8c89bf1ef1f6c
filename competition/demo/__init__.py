"""Competitions that show the product at work: handwritten digits (needs nothing), CIFAR-10 (needs the data folder)."""
