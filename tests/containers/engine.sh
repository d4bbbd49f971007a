#!/bin/sh
# Run a command with an engine that runs containers and the images of Bursar: sh tests/containers/engine.sh COMMAND...
#
# Where there is no engine, Debian's docker.io is installed and dockerd started for the time of the command (as root,
# on Debian). Where the base images cannot be pulled, stand-ins with the same names are made from Debian's packages:
# they have what the Dockerfiles use. Where something is missing that cannot be had, this fails and says so.
set -eu
cd "$(dirname "$0")/../.."
export DOCKER_BUILDKIT=0  # the classic builder takes base images that exist only here

BASES="python:3.11-slim-bookworm debian:bookworm-slim"
IMAGES="cli breaker gpu-manager limiter monitor scheduler nats"
WORK=$(mktemp -d)
DAEMON=

finish() {
  [ -z "$DAEMON" ] || { kill "$DAEMON" && wait "$DAEMON" || true; }
  rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 143' INT TERM

die() {
  echo "containers: $*" >&2
  exit 1
}

say() {
  echo "--- $* ($(($(date +%s) - STARTED)) s)"
}

STARTED=$(date +%s)

# find_docker: the first client that reaches an engine.
find_docker() {
  for DOCKER in docker /usr/bin/docker; do
    "$DOCKER" version >/dev/null 2>&1 && return
  done
  return 1
}

# install PACKAGE...: of Debian, when this is root on Debian.
install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "missing: $*. Install it, or run this as root on Debian."
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$WORK/apt.log" 2>&1 \
    || { tail -5 "$WORK/apt.log" >&2; die "cannot install $*"; }
}

start_engine() {
  find_docker && return
  if ! command -v dockerd >/dev/null; then
    say "installing docker.io and mmdebstrap"
    install docker.io iptables ca-certificates mmdebstrap
  fi
  if ! find_docker; then  # the package starts it where there is systemd
    [ "$(id -u)" = 0 ] || die "no engine answers, and only root can start one"
    say "starting dockerd"
    dockerd >"$WORK/dockerd.log" 2>&1 &
    DAEMON=$!
    tries=0
    until find_docker; do
      tries=$((tries + 1))
      kill -0 "$DAEMON" 2>/dev/null && [ $tries -lt 60 ] || { tail -5 "$WORK/dockerd.log" >&2; die "dockerd does not start"; }
      sleep 0.5
    done
  fi
}

# stand_in: a base image out of Debian's packages, with the authorities that this machine trusts.
stand_in() {
  [ -f "$WORK/base.tar" ] && return
  command -v mmdebstrap >/dev/null || install mmdebstrap
  say "no base image can be pulled: making one with mmdebstrap"
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
    bookworm "$WORK/base.tar" || die "mmdebstrap failed"
}

bases() {
  for base in $BASES; do
    "$DOCKER" image inspect "$base" >/dev/null 2>&1 && continue
    timeout 120 "$DOCKER" pull --quiet "$base" >/dev/null 2>&1 && continue
    stand_in
    "$DOCKER" import \
      --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
      "$WORK/base.tar" "$base" >/dev/null || die "cannot import $base"
  done
}

# build IMAGE...: one after the other; 1 when one fails, whose last words are shown.
build() {
  for image in "$@"; do
    "$DOCKER" build --quiet -f "deploy/docker/$image.Dockerfile" -t "bursar/$image" . >"$WORK/$image.log" 2>&1 \
      || { tail -15 "$WORK/$image.log" >&2; echo "containers: $image cannot be built" >&2; return 1; }
  done
}

# The first makes the layers that all have; then two at a time.
build_all() {
  say "building the images"
  build cli || exit 1
  build limiter breaker monitor nats &
  first=$!
  build gpu-manager scheduler || { wait $first; exit 1; }
  wait $first || exit 1
  for image in $IMAGES; do
    bytes=$("$DOCKER" image inspect --format '{{.Size}}' "bursar/$image")
    echo "    bursar/$image $((bytes / 1000000)) MB"
  done
}

start_engine
bases
build_all
say "$*"
"$@"
say "done"
