#!/bin/sh
# Run a command with the secrets that lie in files: what NAME_FILE names becomes the value of NAME.
set -eu
for name in LLAVA_PLUS_API_KEY LLAVA_PLUS_DATABASE__URL LLAVA_PLUS_WORKER_SECRET PGPASSWORD; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
    fi
    unset "${name}_FILE"
done
exec "$@"
