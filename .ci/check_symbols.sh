#!/usr/bin/env bash
# No symbol of the loop may be shared with other objects: of two copies of an inline function the
# linker keeps one, and one that was made for a newer machine would crash an older one. Hence each
# object defines `backend` for all to see, and nothing else.
#
# check_symbols.sh [FOLDER]: the objects of a build in FOLDER, or of one made for this.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mapfile -t objects < <(loop_objects "$@")
if ((${#objects[@]} == 0)); then
  echo "check_symbols: no objects of the loop found" >&2
  exit 1
fi
backend='^[BDR] ravine::cpu::(v2|v3|v4|baseline)::backend$'
failed=0
for object in "${objects[@]}"; do
  # Lower case: of this object alone; but u, v and w are unique or weak. U: defined elsewhere.
  symbols=$(nm --demangle "$object" | sed 's/^[0-9a-f]* *//')
  shared=$(grep -E '^[A-TV-Zuvw] ' <<<"$symbols" | grep -vE "$backend" || true)
  if [[ -n $shared ]]; then
    printf 'check_symbols: %s shares symbols:\n%s\n' "$object" "$shared" >&2
    failed=1
  fi
  if ! grep -qE "$backend" <<<"$symbols"; then
    echo "check_symbols: $object defines no backend" >&2
    failed=1
  fi
done
if ((failed == 0)); then echo "check_symbols: ${#objects[@]} objects share nothing"; fi
exit "$failed"
