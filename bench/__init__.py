"""Benchmarks that run side by side with a baseline and print ratios."""
