"""Where the deployed service is, and how to talk to it."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

RUNTIME_ENV = Path(os.environ.get("AIDER_RUNTIME_ENV_PATH") or ".aider_fsm/runtime_env.json")

# A proxy in the environment is for the internet; the service is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def base_url() -> str:
    """The address the service told when it was deployed; OSError or ValueError if it told none."""
    return str(json.loads(RUNTIME_ENV.read_text())["service"]["base_url"])


def get_health(url: str) -> dict:
    with DIRECT.open(f"{url}/health", timeout=2) as reply:
        return json.load(reply)


def get_completion(url: str, prompt: str) -> str:
    """One completion; OSError when the service cannot be reached, ValueError when it answers nonsense."""
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(
        f"{url}/v1/completions", data=body, headers={"Content-Type": "application/json"}
    )
    with DIRECT.open(request, timeout=10) as reply:
        return str(json.load(reply)["choices"][0]["text"])
