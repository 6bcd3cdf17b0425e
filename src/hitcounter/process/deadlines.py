"""How long each process may take to start and to end.

Who ends another waits longer than that one takes: the kernel ends a worker before its supervisor
gives it up, the supervisor itself after all that it waits for, and whoever started the service
waits longer still. A test holds this order against the files of `deploy/`.
"""

from hitcounter.store.embedded import STOP_TIMEOUT_S as STORE_STOP_S
from hitcounter.web.timeouts import KEEPALIVE_S

# A worker that ends soon: the last answers of open connections, requests in progress, hits that
# wait for the store; the rest is for a slow disk. From then on the kernel ends it.
DRAIN_S = 0.5
REQUESTS_END_S = 3.0
FLUSH_S = 1.0
SLOW_DISK_S = 3.0
WORKER_END_S = REQUESTS_END_S + FLUSH_S + SLOW_DISK_S
# One whose successor serves: a connection that is idle for longer is closed anyway.
LEAVE_S = KEEPALIVE_S + 1.0
# Operations hold nothing that anybody would miss. Whoever has just connected to those that have a
# successor may ask yet.
OPERATIONS_LEAVE_S = 2.0
OPERATIONS_REQUESTS_END_S = 1.0

# The supervisor, for one worker.
STOP_S = 10.0
LEFT_S = 90.0
SUCCESSOR_S = 60.0
# And for itself: the workers, then the store.
SUPERVISOR_END_S = STOP_S + STORE_STOP_S + 3.0
