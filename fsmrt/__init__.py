"""Run any repository through the contract it owns, under one supervisor, and keep evidence anyone can check.

The rooms behind this door, from the ground up:

    words    errors, messages, verdict, states, plan, orders, contract/    values and rules; nothing waits
    hands    sandbox/, evidence/, repository, lease, limits, reaper        one kind of effect each
    actors   actors/                                                       an order in, a report out
    rooms    supervisor, session, cli/                                     own lifetimes; nothing else does
"""

from __future__ import annotations

__version__ = "0.1.0"
