#!/bin/sh
# setup.sh VENV STAMP PYTHON...: make VENV from the pinned packages of requirements/dev.txt, with Bursar in it (editable),
# by the first PYTHON that is new enough, and touch STAMP. Two at once in one folder wait for one another.
set -eu
venv=$1 stamp=$2
shift 2

if [ -z "${BURSAR_SETUP_LOCKED:-}" ] && command -v flock >/dev/null; then
  BURSAR_SETUP_LOCKED=1 exec flock Makefile "$0" "$venv" "$stamp" "$@"
fi
if [ "$stamp" -nt requirements/dev.txt ] && [ "$stamp" -nt pyproject.toml ]; then
  exit 0  # somebody else has just done it
fi

new_enough() {
  for python in "$@"; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "Bursar needs Python 3.11 or newer; none of these is: $*." >&2
  echo "Install one, or name it: make PYTHON=/path/to/python3.12" >&2
  return 1
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(new_enough "$@")
  if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$python lacks its venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
  echo "--- making $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"; }
echo "--- installing the pinned packages of requirements/dev.txt"
pip --require-hashes -r requirements/dev.txt
echo "--- installing Bursar itself (editable)"
pip --no-build-isolation --editable .
touch "$stamp"
