#!/bin/sh
# Starts the service and returns once it has said where it listens; the health check decides whether it works.
set -eu

told=.aider_fsm/runtime_env.json
log="$AIDER_FSM_ARTIFACTS_DIR/service.log"
rm -f "$told"

# Output goes to a file: a pipe to the runner would be closed when this script ends.
"$AIDER_FSM_PYTHON" -m adder.service \
    --tell "$told" --pid-file "$AIDER_FSM_ARTIFACTS_DIR/service.pid" >"$log" 2>&1 &
service=$!

tries=0
until [ -f "$told" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$service" 2>/dev/null; then
        echo "the service did not start; its log:" >&2
        cat "$log" >&2
        exit 1
    fi
    sleep 0.1
done
cat "$told"
