"""End-to-end tests: the program as a process, in front of real backends."""
