"""The process of operations: told what to serve, and to end, as a worker is.

It holds nothing that anybody would miss, so it may end at any time; whoever asks then waits on the
supervisor's socket until the next one serves.
"""

import asyncio
import socket

from hitcounter.operations import days
from hitcounter.operations.app import App, private_refusal
from hitcounter.process.deadlines import OPERATIONS_LEAVE_S, OPERATIONS_REQUESTS_END_S
from hitcounter.process.handshake import Job
from hitcounter.process.listener import OPERATIONS_BACKLOG
from hitcounter.process.serving import Shutdown, allowed_connections, report_ready
from hitcounter.web.acceptor import Acceptor
from hitcounter.web.answering import Terms
from hitcounter.web.server import Server

# Few ask, and each answer may be megabytes. Whoever is one too many is noted nowhere.
MAX_CONNECTIONS = 128


async def serve(job: Job) -> None:
    """Serve operators, as a job says, until told to end."""
    shutdown = Shutdown()
    app = App(job.config, job.store_url, job.metrics_dir)
    config = job.config
    terms = Terms(config.head_timeout_s, config.send_timeout_s, refusal_answer=private_refusal)
    server = Server(app.handle, terms, allowed_connections(MAX_CONNECTIONS), lambda: None)
    acceptor = Acceptor(socket.socket(fileno=job.listener_fd), server, server.room)
    acceptor.start(OPERATIONS_BACKLOG)
    noting = asyncio.create_task(days.note(job.metrics_dir, config.sites.values()))
    report_ready()
    await shutdown.requested.wait()
    noting.cancel()
    await acceptor.close()
    await asyncio.sleep(0 if shutdown.urgent.is_set() else OPERATIONS_LEAVE_S)
    server.pre_shutdown()
    await server.shutdown(OPERATIONS_REQUESTS_END_S)
    await app.close()
