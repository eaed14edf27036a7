#!/usr/bin/env bash
# A Ray cluster of two nodes on this machine, with the jobs API on its loopback, for as long as a command runs:
#
#   conf/cluster/local/two-nodes.sh sweep submit demo --to ray-job
#
# A head that trains nothing and a node with CPUS (2) CPUs, as on a real cluster; `ray[default]` has to be installed.
set -euo pipefail
(($#)) || { echo "usage: $0 COMMAND [WORDS]" >&2; exit 2; }

export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
# For these two nodes and what they run, and in no file.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# Paths of sockets have at most 107 characters, so not below TMPDIR.
scratch=$(mktemp -d /tmp/sweep-ray-XXXXXX)
nodes=()
end() {
    for node in "${nodes[@]}"; do kill "$node" 2>/dev/null || true; done
    wait "${nodes[@]}" 2>/dev/null || true
    rm -rf "$scratch"
}
trap end EXIT

# Ray's defaults are the same for every node of a machine, and for every other Ray on it.
read -ra port < <(python -c '
import socket
free = [socket.socket() for _ in range(10)]
for each in free:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in free))')

agents() {
    echo --dashboard-agent-listen-port="${port[$1]}" --dashboard-agent-grpc-port="${port[$(($1 + 1))]}" \
        --runtime-env-agent-port="${port[$(($1 + 2))]}" --metrics-export-port="${port[$(($1 + 3))]}"
}

host=$(python -c 'import ray; print(ray.util.get_node_ip_address())')
# shellcheck disable=SC2046  # words, as they are
ray start --block --head --node-ip-address="$host" --port="${port[0]}" --num-cpus=0 --num-gpus=0 \
    --dashboard-host=127.0.0.1 --dashboard-port="${port[1]}" $(agents 2) \
    --object-store-memory=100000000 --temp-dir="$scratch" >"$scratch/head.txt" 2>&1 &
nodes+=($!)
export RAY_ADDRESS="$host:${port[0]}" RAY_API_SERVER_ADDRESS="http://127.0.0.1:${port[1]}"

until ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do
    kill -0 "${nodes[0]}" 2>/dev/null || { cat "$scratch/head.txt" >&2; exit 3; }
    sleep 0.5
done
# shellcheck disable=SC2046
ray start --block --address="$RAY_ADDRESS" --num-cpus="${CPUS:-2}" $(agents 6) \
    --object-store-memory=100000000 >"$scratch/node.txt" 2>&1 &
nodes+=($!)
until ray status --address "$RAY_ADDRESS" 2>/dev/null | grep -q "/${CPUS:-2}.0 CPU"; do
    kill -0 "${nodes[1]}" 2>/dev/null || { cat "$scratch/node.txt" >&2; exit 3; }
    sleep 0.5
done

code=0
"$@" || code=$?
exit "$code"
