"""Raw bytes in, raw bytes out: what the program makes of each kind of request."""
