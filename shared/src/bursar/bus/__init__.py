"""The network: connections, service endpoints, identity and signatures, and an in-memory twin for tests."""
