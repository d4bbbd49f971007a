"""What is installed, and under which names."""
