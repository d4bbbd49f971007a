#!/bin/sh
# The Secrets that the manifests name, out of a bundle: sh secrets.sh BUNDLE NAMESPACE. Run it again after each bundle.
set -eu
bundle=$1 namespace=$2

# secret NAME FILE...: make it, or replace what it holds.
secret() {
  name=$1
  shift
  for file; do set -- "$@" "--from-file=$file"; shift; done
  kubectl -n "$namespace" create secret generic "$name" "$@" --dry-run=client -o yaml |
    kubectl -n "$namespace" apply --server-side --force-conflicts -f -
}

hosts="" workers=""
for directory in "$bundle"/*; do
  name=$(basename "$directory")
  case $name in
    nats-[0-9].nats) secret "bursar-${name%.nats}" "$directory"/* ;;
    workers-[0-9]*) workers="$workers $name.creds=$directory/agent.creds" certificate_of_workers=$directory ;;
    operator) ;; # stays with the people
    *)
      if [ -f "$directory/service.creds" ]; then
        secret "bursar-$name" "$directory"/*
      else
        hosts="$hosts $name.creds=$directory/agent.creds" certificate_of_hosts=$directory
      fi
      ;;
  esac
done
# Of these every pod sees its own credentials alone; they share a certificate, which opens the door and no more.
# shellcheck disable=SC2086
[ -z "$workers" ] || secret bursar-workers $workers "$certificate_of_workers"/*.pem "$certificate_of_workers/trust.json"
# shellcheck disable=SC2086
[ -z "$hosts" ] || secret bursar-hosts $hosts "$certificate_of_hosts"/*.pem
