"""Capacity planning for Cilium on Kubernetes."""
