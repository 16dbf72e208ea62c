"""
Twisted at native speed: the same interfaces over C transports and a C parser.

Each part can be had without the others, and by any Twisted program.
"""
