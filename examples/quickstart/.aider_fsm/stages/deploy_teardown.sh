#!/bin/sh
# Stops the service. It removes its pid file as its last act, so the file's absence means it is down.
set -eu

pid_file="$AIDER_FSM_ARTIFACTS_DIR/service.pid"
rm -f .aider_fsm/runtime_env.json
[ -f "$pid_file" ] || { echo "no service to stop"; exit 0; }

pid=$(cat "$pid_file")
kill -TERM "$pid" 2>/dev/null || true
tries=0
while [ -f "$pid_file" ] && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
if [ -f "$pid_file" ]; then
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$pid_file"
    echo "the service had to be killed"
else
    echo "the service has stopped"
fi
