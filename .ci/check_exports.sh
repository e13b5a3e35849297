#!/usr/bin/env bash
# A shared library shows what its headers mark as RAVINE_API, all of it, and nothing else but what
# templates of the standard library share by themselves.
#
# check_exports.sh LIBRARY
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"

marked=$(grep -rhE '\bRAVINE_API ' "$root/cpp/include" | grep -v '#define')
classes=$(sed -nE 's/.*class RAVINE_API ([A-Za-z]+).*/\1/p' <<<"$marked")
functions=$(sed -nE 's/.*RAVINE_API [^(]*\b([a-z_]+)\(.*/\1/p' <<<"$marked")
any_of() { paste --serial --delimiters='|' <<<"$1"; }
class=$(any_of "$classes") function=$(any_of "$functions")

# Lines of nm that show something else.
unmarked() {
  grep -vE \
    -e "^. ((typeinfo|typeinfo name|vtable) for )?ravine::($class)\$" \
    -e "^. ravine::($class)::(~|operator)?[A-Za-z_=]+\(" \
    -e "^. ravine::([A-Z][A-Za-z]*::)?($function)\(" |
    grep -vP '^[uVW] (?!.*ravine::).*\bstd::'
}
for planted in 'T ravine::cpu::backend()' 'T ravine::Plan::State::bind(int)' 'T std::planted()' \
  'W std::vector<ravine::Row>::data()'; do
  if ! unmarked <<<"$planted" >/dev/null; then
    echo "check_exports: does not find $planted" >&2
    exit 1
  fi
done

shown=$(nm --dynamic --defined-only --demangle "$1" | sed 's/^[0-9a-f]* *//')
if unmarked <<<"$shown"; then
  echo "check_exports: $1 shows the above, which no header marks as RAVINE_API" >&2
  exit 1
fi
for name in $functions; do
  if ! grep -qE "^T ravine::([A-Z][A-Za-z]*::)?$name\(" <<<"$shown"; then
    echo "check_exports: $1 hides $name, which is marked as RAVINE_API" >&2
    exit 1
  fi
done
echo "check_exports: $(wc -l <<<"$shown") symbols, all of them public"
