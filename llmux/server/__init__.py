"""The HTTP server as a relay needs it: strict about what it reads, and bounded."""
