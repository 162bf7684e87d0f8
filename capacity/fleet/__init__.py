"""Many clusters: the same plan or report for each, here or on a Dask cluster, and their sum.

members.py reads FLEET.yaml, work.py is what a worker does for one cluster, running.py hands work
out and collects it, mesh.py adds up, overview.py writes.
"""
