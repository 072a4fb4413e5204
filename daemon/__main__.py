"""`python -m daemon`: run the daemon, or ask a running one."""

import os
import sys

from daemon.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
