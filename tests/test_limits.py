from __future__ import annotations

import math

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.limits import NEVER, Deadline, cleanup, deadline_in, until

times = st.one_of(st.just(math.inf), st.floats(min_value=0, max_value=1e9))


@given(st.lists(st.builds(Deadline, at=times, limit=st.text(max_size=3)), min_size=1))
def test_the_earliest_of_a_tree_and_on_a_tie_the_outer_one(tree: list[Deadline]) -> None:
    first = tree[0]
    for inner in tree[1:]:
        first = first.earliest(inner)

    assert first.at == min(deadline.at for deadline in tree)
    assert first is next(deadline for deadline in tree if deadline.at == first.at)


@pytest.mark.anyio
async def test_no_seconds_are_no_limit() -> None:
    assert deadline_in(None, "x") is NEVER
    with until(NEVER) as scope:
        await anyio.lowlevel.checkpoint()
    assert not scope.cancelled_caught


@pytest.mark.anyio
async def test_a_deadline_ends_what_waits_and_says_so() -> None:
    with anyio.fail_after(5), until(deadline_in(0.01, "x")) as scope:
        await anyio.sleep_forever()

    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_no_cancellation_enters_a_cleanup() -> None:
    done = False
    with anyio.CancelScope() as outer:
        outer.cancel()
        with cleanup():
            await anyio.sleep(0.01)
            done = True

    assert done


@pytest.mark.anyio
async def test_a_cleanup_ends_by_itself() -> None:
    with anyio.fail_after(5), cleanup(0.01) as scope:
        await anyio.sleep_forever()

    assert scope.cancelled_caught
