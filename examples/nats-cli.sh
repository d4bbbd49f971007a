#!/bin/sh
# The calls of an agent by the nats command line tool (https://github.com/nats-io/natscli), in JSON.
#
#   bursar up                  # one terminal; it writes the context "bursar", with the operator's credentials
#   sh examples/nats-cli.sh    # another; CONTEXT=... and BUDGET=... choose others
#
# The last token of every subject is the principal of the credentials: here "ops".
set -eu
: "${CONTEXT:=bursar}" "${BUDGET:=demo}"
session="cli_$(date +%s)_$$" # ids must be fresh in every run

# ask SUBJECT JSON: send a request and print the answer.
ask() {
  nats --context "$CONTEXT" --timeout 5s req --raw "$1" "$2"
}

# field NAME: a text field of the JSON on standard input.
field() {
  sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

echo "# How much room is there?"
ask bursar.req.limiter.status.ops "{\"v\":1,\"budget\":\"$BUDGET\"}"

echo "# Reserve for one call, and wait up to five seconds in line"
granted=$(ask bursar.req.limiter.reserve.ops \
  "{\"v\":1,\"id\":\"$session-1\",\"budget\":\"$BUDGET\",\"amounts\":{\"input_tokens\":900,\"output_tokens\":400},\"wait_ms\":5000}")
echo "$granted"
reservation=$(echo "$granted" | field reservation)
[ -n "$reservation" ] || { echo "nothing was granted" >&2; exit 1; }

echo "# The same id and content again: the same answer"
ask bursar.req.limiter.reserve.ops \
  "{\"v\":1,\"id\":\"$session-1\",\"budget\":\"$BUDGET\",\"amounts\":{\"input_tokens\":900,\"output_tokens\":400},\"wait_ms\":5000}"

echo "# Settle: what the call really used; acked says that the first answer has arrived"
ask bursar.req.limiter.settle.ops \
  "{\"v\":1,\"id\":\"$session-2\",\"acked\":1,\"reservation\":\"$reservation\",\"usage\":{\"input_tokens\":870,\"output_tokens\":312}}"

echo "# More than there will ever be: an ordinary answer, with ok false"
ask bursar.req.limiter.reserve.ops \
  "{\"v\":1,\"id\":\"$session-3\",\"acked\":2,\"budget\":\"$BUDGET\",\"amounts\":{\"input_tokens\":1000000000}}"

echo "# A budget that does not exist: an error, with a code and its facts"
ask bursar.req.limiter.reserve.ops "{\"v\":1,\"id\":\"$session-4\",\"acked\":3,\"budget\":\"no-such\",\"amounts\":{}}"

echo "# One signed broadcast, shown as JSON"
nats --context "$CONTEXT" sub 'bursar.evt.limiter.>' --count 1 --raw --translate 'bursar decode'
