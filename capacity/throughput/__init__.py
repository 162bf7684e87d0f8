"""Throughput of load-balancing nodes and tiers: what a packet costs, what N nodes carry.

Pure arithmetic on rows: facts (lb_costs.csv, lb_program.csv), a calibration file of `capacity
measure lb`, or costs seen in production (live.py). No I/O but the calibration file.
"""
