#!/usr/bin/env bash
# Puts the users file where the container finds it, before the container starts: /etc/tabserve is mounted into it.
# The environment property USERS_S3_URI=s3://bucket/key says where the file is; without it there is nothing to do.
# A failure stops the deployment and leaves an existing users file as it is.
set -euo pipefail
PATH=$PATH:/opt/elasticbeanstalk/bin
folder=${1:-/etc/tabserve}

fail() {
  echo "Tabserve: $1" >&2
  exit 1
}

# for one property, get-config fails in the same way whether it is missing or something is wrong: ask for all of them
properties=$(get-config environment) || fail "the environment properties cannot be read."
uri=$(python3 -c 'import json, sys; print(json.load(sys.stdin).get("USERS_S3_URI", ""))' 2>/dev/null <<<"$properties") \
  || fail "the environment properties cannot be understood."
[[ -n $uri ]] || exit 0
[[ $uri == s3://?*/?* ]] || fail "USERS_S3_URI must be of the form s3://bucket/key."

umask 077
mkdir -p "$folder" && chmod 755 "$folder"
new=$(mktemp "$folder/.users.XXXXXX")
trap 'rm -f "$new"' EXIT
aws s3 cp --only-show-errors "$uri" "$new" \
  || fail "the users file that USERS_S3_URI names cannot be fetched: is it there, and may the instance's role read it?"
[[ -s $new ]] || fail "the users file that USERS_S3_URI names is empty."
chown 10001:10001 "$new"  # the container's user, and nobody else
chmod 400 "$new"
mv -f "$new" "$folder/users.txt"  # in one step: the service may be reading
echo "Tabserve: the users file is in place."
