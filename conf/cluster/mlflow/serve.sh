#!/bin/sh
# MLflow's server on PostgreSQL, in a container: artifacts through it, and a password for everything but /health.
# Passwords are of letters and digits alone, since they stand in an address and in an ini file.
# Environment: POSTGRES_HOST, POSTGRES_PASSWORD, MLFLOW_AUTH_ADMIN_PASSWORD, MLFLOW_FLASK_SERVER_SECRET_KEY, ALLOWED_HOSTS.
set -eu
umask 077
database=postgresql://mlflow:${POSTGRES_PASSWORD:?}@${POSTGRES_HOST:?}:5432/mlflow
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?}" "${MLFLOW_FLASK_SERVER_SECRET_KEY:?}"

# By the environment and a file of this user's: a command line is everybody's to read.
cat >/tmp/auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = $database
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
INI
export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini MLFLOW_BACKEND_STORE_URI="$database"
# Without jobs the server is two processes in place of ten.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true

# 0.0.0.0 is the container's own; what may reach it, compose.yaml and the network policies of mlflow.yaml say.
exec mlflow server --app-name basic-auth --host "${HOST:-0.0.0.0}" --port "${PORT:-5000}" --workers 1 \
    --allowed-hosts "${ALLOWED_HOSTS:?}" --serve-artifacts --artifacts-destination "${ARTIFACTS:-/artifacts}"
