"""`python -m adder.health`: exit 0 as soon as the service answers, 1 if it does not within its tries."""

from __future__ import annotations

import sys
import time

from . import client

TRIES = 20
PAUSE = 0.25


def failure() -> str | None:
    """Why the service is not healthy now, or None."""
    try:
        status = client.get_health(client.base_url()).get("status")
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return None if status == "ok" else f"status is {status!r}"


def main() -> int:
    for attempt in range(1, TRIES + 1):
        why = failure()
        if why is None:
            print(f"healthy at attempt {attempt}")
            return 0
        if attempt < TRIES:
            time.sleep(PAUSE)
    print(f"not healthy after {TRIES} attempts: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
