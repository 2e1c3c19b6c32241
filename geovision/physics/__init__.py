"""What is formula and not learning."""
