"""Every row there is. A row's module has `opened(options)`, a context manager that gives a `Row`."""

ROWS = {
    "host": "bench.rows.host",
    "kill": "bench.rows.kill",
    "many": "bench.rows.many",
    "actors": "bench.rows.actors",
    "output": "bench.rows.output",
    "start": "bench.rows.start",
    "contract": "bench.rows.contract",
    "runner": "bench.rows.runner",
}
