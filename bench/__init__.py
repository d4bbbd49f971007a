"""Benchmarks: every figure is measured in the run that prints it, beside a peer in the same run where there is one."""
