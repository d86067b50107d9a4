"""free_ports.py COUNT: loopback ports nobody listens on, below those that the system gives to outgoing connections: a
server that is started on one a moment later, or again after a kill, finds it free."""

import random
import socket
import sys

found: list[socket.socket] = []
while len(found) < int(sys.argv[1]):
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", random.randrange(10_240, 18_000)))
    except OSError:
        candidate.close()
    else:
        found.append(candidate)
print(*(each.getsockname()[1] for each in found))
