"""The first process of a container: it reaps what is left to it, and the service is a child of it.

The kernel leaves it every process whose parent has died, like those of a health check that was cut
off. Where nobody reaps them, they fill the container's table of processes for ever.
"""

import os
import signal

_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def go_on_in_a_child() -> None:
    """Return in a child; stay its init, pass on signals to it, and end as it does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have ignored it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait({*_PASSED_ON, signal.SIGCHLD})
        if number == signal.SIGCHLD:
            _reap(child)
        else:
            os.kill(child, number)


def _reap(child: int) -> None:
    pid = -1
    while pid != 0:  # one signal may stand for many
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
