#!/usr/bin/env bash
# A change of the environment's settings runs only these hooks, and USERS_S3_URI may be the setting that changed.
exec "$(dirname "$0")/../../hooks/predeploy/10_users.sh" "$@"
