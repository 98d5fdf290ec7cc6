#!/bin/bash
# `make run`: the whole of Headgate on this machine's loopback, with real components and a real event.
# Starts Redis (AOF, appendfsync always), `headgate serve` on SQLite and nginx with the module, on
# ports that are free; makes an organization and a key, registers a webhook at `headgate receive`,
# publishes an event through nginx, and shows its verified delivery. Then it keeps running until
# Ctrl-C, or with --once ends with 0 or 1. Whatever happens, every process it started is stopped by
# pid, and its files are removed.
#
# usage: scripts/run.sh [--once]
#   HEADGATE_RUN_DIR=DIR   keep the files in DIR (new or empty) instead of a temporary directory
#   HEADGATE_PORT=N        nginx listens there instead of on a free port
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
headgate=$root/build/headgate
module=$root/build/ngx_http_headgate_module.so

once=no
[[ ${1:-} == --once ]] && once=yes

for file in "$headgate" "$module"; do
    [[ -e $file ]] || { echo "run.sh: $file is not built; run: make build" >&2; exit 1; }
done

pids=()
names=()
dir=
kept=no

stop_all() {
    local status=$? i
    trap - EXIT
    trap '' INT TERM
    # Last started, first stopped.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[$i]}" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "${pids[$i]}" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "${pids[$i]}" 2>/dev/null && echo "run.sh: ${names[$i]} had to be killed" >&2
        wait "${pids[$i]}" 2>/dev/null || true
    done
    [[ -z $dir || $kept == yes ]] || rm -rf "$dir"
    exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -n ${HEADGATE_RUN_DIR:-} ]]; then
    mkdir -p "$HEADGATE_RUN_DIR"
    dir=$(cd "$HEADGATE_RUN_DIR" && pwd)
    kept=yes
else
    dir=$(mktemp -d "${TMPDIR:-/tmp}/headgate-run.XXXXXX")
fi
chmod 700 "$dir"
mkdir -p "$dir/log" "$dir/redis" "$dir/nginx"

give_up() {
    local log
    echo >&2
    echo "run.sh: $1" >&2
    for log in "$dir"/log/*.log; do
        [[ -s $log ]] || continue
        echo "---- the end of $(basename "$log")" >&2
        tail -n 20 "$log" >&2
    done
    exit 1
}

# A port nobody listens on, below the range that outgoing connections take theirs from.
free_port() {
    local port
    for _ in $(seq 200); do
        port=$((10000 + RANDOM % 20000))
        [[ " ${used_ports:-} " == *" $port "* ]] && continue
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
        used_ports="${used_ports:-} $port"
        found_port=$port
        return
    done
    give_up "no free port"
}

# start NAME COMMAND...: in the background, a process group of its own, so that Ctrl-C reaches only us.
start() {
    local name=$1
    shift
    setsid "$@" >"$dir/log/$name.log" 2>&1 </dev/null &
    pids+=($!)
    names+=("$name")
}

# wait_until SECONDS WHAT COMMAND...: polls, and notices when the process started last has ended.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2 pid=${pids[-1]}
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || give_up "${names[-1]} ended while waiting for $what"
        ((SECONDS <= deadline)) || give_up "gave up waiting for $what"
        sleep 0.02
    done
}

# The value of a member in one line of JSON that our own command line printed.
json_member() {
    sed -nE 's/.*"'"$1"'": ?("([^"]*)"|([^,}]*)).*/\2\3/p' | head -n 1
}

free_port; redis_port=$found_port
free_port; api_port=$found_port
free_port; receiver_port=$found_port
free_port; nginx_port=${HEADGATE_PORT:-$found_port}

echo "redis     127.0.0.1:$redis_port, appendonly yes, appendfsync always"
start redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$dir/redis" --save "" --appendonly yes \
    --appendfsync always --maxmemory-policy noeviction
wait_until 10 "Redis" redis-cli -p "$redis_port" ping

made=$("$headgate" init --dir "$dir/headgate" --redis "redis://127.0.0.1:$redis_port" \
    --store "sqlite:$dir/headgate.db" --listen "127.0.0.1:$api_port" --org demo --json 2>"$dir/log/init.log") ||
    give_up "headgate init failed"
config=$(json_member config <<<"$made")
org=$(json_member org <<<"$made")
api_key=$(json_member api_key <<<"$made")
[[ -n $config && -n $org && -n $api_key ]] || give_up "headgate init printed: $made"

# demo: webhooks may reach this machine. Public addresses are all that they may reach otherwise.
sed -i 's|^allow_networks = \[\]$|allow_networks = ["127.0.0.0/8"]|' "$config"

echo "sidecar   127.0.0.1:$api_port, sqlite:$dir/headgate.db"
start headgate-serve "$headgate" serve --config "$config"
wait_until 10 "the sidecar to be healthy" curl -sf "http://127.0.0.1:$api_port/health"

user=
[[ $(id -u) != 0 ]] || user="user root root;"
cat >"$dir/nginx/nginx.conf" <<CONF
load_module $module;
$user
daemon off;
worker_processes 1;
pid $dir/nginx/nginx.pid;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $dir/nginx/client_body;
    proxy_temp_path $dir/nginx/proxy;
    fastcgi_temp_path $dir/nginx/fastcgi;
    uwsgi_temp_path $dir/nginx/uwsgi;
    scgi_temp_path $dir/nginx/scgi;

    headgate_zone edge:16m;
    headgate_redis 127.0.0.1:$redis_port;
    headgate_api_key_pepper_file $dir/headgate/pepper;
    headgate_jwt_key_file $dir/headgate/token.key alg=HS256;
    include $dir/headgate/plans.conf;
    proxy_set_header X-Forwarded-For \$remote_addr;

    server {
        listen 127.0.0.1:$nginx_port;
        location = /events {
            headgate_auth jwt api_key;
            headgate_require_scope events:write;
            headgate_limit plan;
            headgate_publish event;
        }
        location = /token {
            headgate_limit rate=30r/m key=\$binary_remote_addr;
            proxy_pass http://127.0.0.1:$api_port;
        }
        location = /status { headgate_status; }
        location ~ ^/(health|live) { proxy_pass http://127.0.0.1:$api_port; }
        location / {
            headgate_auth jwt api_key;
            headgate_limit plan;
            proxy_pass http://127.0.0.1:$api_port;
        }
    }
}
CONF
echo "nginx     127.0.0.1:$nginx_port, $(nginx -v 2>&1 | sed 's/.*: //') with ngx_http_headgate_module.so"
start nginx nginx -p "$dir/nginx" -e "$dir/log/nginx-error.log" -c "$dir/nginx/nginx.conf"
edge_is_ready() { curl -sf "http://127.0.0.1:$nginx_port/status" | grep -q '"state":"ready"'; }
wait_until 10 "nginx to reach Redis" edge_is_ready

demo=$("$headgate" key create --config "$config" --org "$org" --name demo --scopes "events:write" --plan pro --json \
    2>"$dir/log/key.log") || give_up "headgate key create failed"
demo_key=$(json_member api_key <<<"$demo")

webhook=$("$headgate" webhook create --config "$config" --org "$org" --url "http://127.0.0.1:$receiver_port/hook" \
    --events "order.*" --json 2>"$dir/log/webhook.log") || give_up "headgate webhook create failed"
secret=$(json_member secret <<<"$webhook")
echo "webhook   order.* -> http://127.0.0.1:$receiver_port/hook (headgate receive)"
start receiver "$headgate" receive --secret "$secret" --listen "127.0.0.1:$receiver_port" --json
wait_until 10 "the receiver" grep -q listening "$dir/log/receiver.log"

# A key made beside a running sidecar is at the edge within a second.
send_event() {
    sent=$("$headgate" event send --url "http://127.0.0.1:$nginx_port" --key "$demo_key" --type order.created \
        --source make-run --payload '{"order_id":"A-1001","total":59.9,"currency":"EUR"}' --json 2>"$dir/log/event.log")
}
wait_until 10 "nginx to accept an event" send_event
event_id=$(json_member id <<<"$sent")
echo "event     order.created $event_id answered 201"

wait_until 10 "the delivery" grep -q "\"$event_id\"" "$dir/log/receiver.log"
delivery=$(grep "\"$event_id\"" "$dir/log/receiver.log" | head -n 1)
[[ $(json_member verified <<<"$delivery") == true ]] || give_up "the delivery did not verify: $delivery"
echo "delivery  $event_id verified: webhook-signature and X-Webhook-Signature"
echo "latency   $(json_member latency_ms <<<"$delivery") ms from nginx to the receiver"

[[ $once == no ]] || exit 0

cat <<TEXT

Look at
  http://127.0.0.1:$nginx_port/status   the edge's counters
  http://127.0.0.1:$nginx_port/health   the sidecar's health
  http://127.0.0.1:$nginx_port/inbox    this organization's events (with the admin key)

Publish
  curl -i http://127.0.0.1:$nginx_port/events -H 'X-API-Key: $demo_key' \\
       -H 'Content-Type: application/json' -d '{"type":"order.paid","source":"curl","payload":{"n":1}}'

admin key $api_key
config    $config

Deliveries appear below. Ctrl-C stops everything.
TEXT
tail -n 0 -f "$dir/log/receiver.log" &
pids+=($!)
names+=("tail")
# Ends when one of the servers does, or with Ctrl-C.
wait -n "${pids[@]}" || true
give_up "a server ended by itself"
