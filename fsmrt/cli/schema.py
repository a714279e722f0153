"""`fsmrt schema`: the JSON Schema of a contract file."""

from __future__ import annotations

import json
from argparse import Namespace

from ..contract.schema import json_schema
from .output import console


def main(args: Namespace) -> int:
    """Print it."""
    console().out.line(json.dumps(json_schema(args.file), indent=2, ensure_ascii=False))
    return 0
