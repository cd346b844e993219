"""The commands of `python -m training`, those of one purpose in one module."""
