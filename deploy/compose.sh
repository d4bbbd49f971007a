#!/bin/sh
# Docker Compose, whichever there is, on deploy/compose.yaml: sh deploy/compose.sh up -d
cd "$(dirname "$0")"
if docker compose version >/dev/null 2>&1; then
  exec docker compose --project-name bursar --file compose.yaml "$@"
elif command -v docker-compose >/dev/null; then
  exec docker-compose --project-name bursar --file compose.yaml "$@"
fi
echo "There is no Docker Compose here: install the plugin (docker-compose-plugin), or Debian's docker-compose." >&2
exit 1
