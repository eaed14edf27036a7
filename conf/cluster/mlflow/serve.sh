#!/bin/sh
# MLflow's server on PostgreSQL, in a container: artifacts through it, and a password for everything but /health.
# Environment: POSTGRES_HOST, POSTGRES_PASSWORD, MLFLOW_AUTH_ADMIN_PASSWORD, MLFLOW_FLASK_SERVER_SECRET_KEY, ALLOWED_HOSTS.
set -eu
umask 077
case "${POSTGRES_PASSWORD:?}" in
*[!A-Za-z0-9]*) echo "POSTGRES_PASSWORD must be of letters and digits alone: it stands in an address" >&2 && exit 2 ;;
esac
database=postgresql+psycopg://mlflow:$POSTGRES_PASSWORD@${POSTGRES_HOST:?}:${POSTGRES_PORT:-5432}/mlflow
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?}" "${MLFLOW_FLASK_SERVER_SECRET_KEY:?}"

# By the environment and a file of this user's: a command line is everybody's to read.
export MLFLOW_BACKEND_STORE_URI="$database" MLFLOW_AUTH_CONFIG_PATH="${TMPDIR:-/tmp}/auth.ini"
# A password is looked up once a minute: with each request it takes the server 15 times as long. One that is changed
# through the server counts at once, since there is one worker.
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = $database
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
INI
# Without jobs the server is two processes in place of ten.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true

# 0.0.0.0 is the container's own; what may reach it, compose.yaml and the network policies of mlflow.yaml say.
exec mlflow server --app-name basic-auth --host "${HOST:-0.0.0.0}" --port "${PORT:-5000}" --workers 1 \
    --allowed-hosts "${ALLOWED_HOSTS:?}" --serve-artifacts --artifacts-destination "${ARTIFACTS:-/artifacts}"
