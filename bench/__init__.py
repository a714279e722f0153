"""What fsmrt costs, against what it could cost at best. `python -m bench [row...]`; one file a row in `rows/`.

Every figure that counts is a ratio between two variants measured in the same round, because absolute times
wander from machine to machine and from minute to minute. Benchmarks are not tests: no test asserts a time.
"""
