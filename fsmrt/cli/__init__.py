"""The command line: one file a subcommand, and the only code of fsmrt that prints.

parser.py       every flag, by argparse alone: `--help` must stay cheap
options.py      flags, variables, the user's file -> settings, each with where it came from
output.py       stdout and stderr; what is printed has no control characters of anybody else
narration.py    a thread that tells a run's events to a view: plain lines, a live table, NDJSON
"""
