"""Exact arithmetic of the datapath: pure, no I/O."""
