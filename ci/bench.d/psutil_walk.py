"""What psutil tells of a process's descriptors, so many times; prints microseconds, a line each.

  psutil_walk.py PID ROUNDS       exits with 3 where psutil is not installed
"""

import sys
import time

try:
    import psutil
except ImportError:
    sys.exit(3)

process = psutil.Process(int(sys.argv[1]))
# Newer versions have another name for it.
connections = getattr(process, "net_connections", None) or process.connections
for round in range(int(sys.argv[2]) + 1):
    began = time.perf_counter()
    process.num_fds()
    process.open_files()
    connections(kind="all")
    if round > 0:
        print((time.perf_counter() - began) * 1e6)
