"""Exit with 0 when the program at a port of this machine says that it is ready.

python docker/ready.py 8600
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection

__all__: list[str] = []

if __name__ == "__main__":
    # Not urllib, which would ask a proxy that the environment names.
    connection = HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace"))  # noqa: T201
        sys.exit(answer.status != 200)
    except OSError as error:
        sys.exit(f"port {sys.argv[1]} does not answer: {error}")
