"""Facts about Cilium, the kernel and Kubernetes: rows with sources, and one loader."""
