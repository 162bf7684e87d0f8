"""Measurements on this machine: BPF programs of our own, run by BPF_PROG_TEST_RUN.

Nothing is attached to an interface and nothing is pinned: descriptors are all that holds maps and
programs, so they end with the process, also when it is killed.
"""
