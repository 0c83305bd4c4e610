#!/usr/bin/env bash
# A change of the environment's settings runs these hooks and not the others: USERS_S3_URI may be what changed.
exec "$(dirname "$0")/../../hooks/predeploy/10_users.sh" "$@"
