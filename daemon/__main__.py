"""`python -m daemon`: run the daemon, or ask a running one."""

import os
import sys

from daemon.commands import main

if __name__ == "__main__":
    status = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a fit in a thread of this process would keep it, or end it by a signal
