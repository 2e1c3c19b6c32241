"""Shared helpers of the tests: small files, servers and processes."""
