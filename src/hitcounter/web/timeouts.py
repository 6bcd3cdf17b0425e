"""How long a connection may stay idle, and a body that nobody reads may take to come.

They stand apart because the supervisor needs one of them, and not aiohttp, which takes 11 MB.
"""

# An idle connection lives longer than in the pool of a proxy: nginx keeps it for 60 s.
KEEPALIVE_S = 75.0
LINGERING_S = 1.0
