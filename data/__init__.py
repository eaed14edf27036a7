"""Corpora: where text comes from, how it becomes numbers, and the order it is read in."""
