"""End-to-end quality on real speech."""
