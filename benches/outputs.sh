#!/usr/bin/env bash
# Writes what the tools of an agent print on this machine into a folder, 100 MB and more, and the lines that an export of
# these outputs loses into FOLDER.finds: benches/outputs.sh FOLDER. CODEX_MANAGER names another binary.
# The searches ask for the words near which secrets are, because a false find is likeliest there.
# A find is judged by hand: a password in a manual is no false one.
set -uo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
crates=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/)
python=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
node=$(dirname "$(readlink -f "$(command -v npm)")")/..
here=$PWD
libraries=("$crates" "$python" "$node" /usr/share /usr/lib/python3 /usr/lib/google-cloud-sdk "$here")

# keep MB NAME COMMAND...: the first MB of what a command prints, as one file.
keep() {
  local bytes=$(($1 * 1000000)) name=$2
  shift 2
  "$@" 2>&1 </dev/null | head -c "$bytes" | iconv -c -f UTF-8 -t UTF-8 >"$out/$name" || true
}
# every N COMMAND...: a command with each Nth of the files that are named on its input.
every() {
  local n=$1
  shift
  sort | awk "NR % $n == 0" | tr '\n' '\0' | xargs -0 "$@"
}
export -f every

for word in passw token secret 'api.?key' auth session credential 'key\b' cookie; do
  name=${word//[^a-z]/}
  keep 3 "grep-rust-$name" grep -rniE --max-count=20 --include='*.rs' "$word" "$crates"
  keep 4 "grep-python-$name" grep -rniE --max-count=20 --include='*.py' "$word" "$python" /usr/lib/python3
  keep 1 "grep-node-$name" grep -rniE --max-count=9 --include='*.js' --include='*.md' "$word" "$node"
  keep 4 "rg-$name" rg -niI --no-heading --with-filename --max-count=6 --max-columns=300 "$word" "${libraries[@]}"
  keep 2 "rg-heading-$name" rg -ni --heading --max-count=3 --max-columns=300 "$word" "${libraries[@]}"
done
near='passw|token|secret|api_?key'
keep 3 grep-near grep -rnIE --max-count=3 -C3 "$near" "$crates" "$python" --include='*.rs' --include='*.py'
keep 3 rg-near rg -ni --no-heading --max-count=2 -C4 --max-columns=300 "$near" "${libraries[@]}"
keep 2 rg-colours rg -n --color=always --max-count=3 --max-columns=300 "$near" "${libraries[@]}"
keep 2 rg-json rg --json --max-count=3 --max-columns=300 "$near" "$crates" "$here"
keep 3 rg-functions rg -n '^ *(pub )?(fn|def|function|class|struct|export|const|static) ' "${libraries[@]}"
keep 2 rg-constants rg -n '[A-Z]+_(KEY|TOKEN|SECRET|PASSWORD|ID)\b' "${libraries[@]}"
keep 12 git-log git log -p
keep 2 git-log-old git log -p --reverse
keep 2 git-stat git log --stat
keep 1 git-names git log --format='%H %h %an %ad %s'
keep 2 git-diff git diff --no-color HEAD~40 HEAD
keep 2 git-words git diff --word-diff HEAD~9 HEAD
keep 1 git-blame sh -c 'for file in src/base/codex/*.rs; do git blame "$file"; done'
keep 4 diff-python diff -ru /usr/lib/python3.11 "$python"
keep 1 cargo-tree cargo tree --offline --edges all --no-dedupe
keep 2 cargo-metadata cargo metadata --offline --format-version 1 --filter-platform x86_64-unknown-linux-gnu
keep 1 npm-ls npm ls --all --long --json --prefix "$node"
keep 1 npm-help sh -c 'for topic in config install publish token audit profile; do npm help "$topic" | cat; done'
keep 1 pip sh -c 'pip list --format json; pip list --format freeze | cut -d= -f1 | xargs pip show -f'
keep 2 pytest python3 -m unittest -v test.test_secrets test.test_netrc test.test_urlparse test.test_hmac test.test_json \
  test.test_configparser test.test_email.test_email test.test_http_cookies test.test_tokenize
keep 2 pydoc sh -c 'for name in http.client urllib.request ssl secrets hmac getpass smtplib imaplib tokenize; do python3 -m pydoc $name; done'
keep 3 ls-crates ls -lR "$crates"
keep 3 ls-python ls -lR "$python"
keep 2 ls-share ls -laR /usr/share/doc
keep 2 find find "$node" /usr/lib/python3 -printf '%s %T+ %m %p\n'
keep 2 tar sh -c "tar -C '$node' -cf - . | tar -tvf -"
keep 2 sums bash -c "find '$crates' -name '*.rs' | every 3 sha256sum"
keep 1 xxd sh -c 'xxd /usr/bin/git; base64 /usr/bin/ssh'
keep 1 binary sh -c 'ldd /usr/bin/git; readelf -sW /usr/bin/curl; strings /usr/bin/ssh; objdump -d /usr/bin/env'
keep 4 logs sh -c 'cat /var/log/*.log /var/log/apt/*; journalctl --no-pager; dmesg'
keep 1 etc sh -c 'cat /etc/*.conf /etc/ssh/*_config /etc/default/* /etc/services /etc/mime.types; head -50 /etc/login.defs'
keep 1 system sh -c 'ps auxww; ss -tanp; mount; df -h; dpkg -l; dpkg -S /usr/bin; apt-cache policy'
keep 2 apt-cache sh -c "dpkg-query -W -f '\${Package}\n' | xargs apt-cache show"
keep 1 certificates sh -c "for file in /etc/ssl/certs/*.pem; do openssl x509 -noout -text -in \$file; done"
keep 1 curl curl -sv --max-time 3 http://127.0.0.1:1/ https://127.0.0.1:1/
keep 1 help sh -c 'for tool in cargo rustc git npm node python3 gcc curl openssl ssh tar psql; do $tool --help; done'
keep 3 man sh -c 'for page in curl ssh sshd_config openssl-req git-credential git-config psql bash ldapsearch sudo; do man $page | cat; done'
keep 2 rustc-explain sh -c 'for i in $(seq -w 1 800); do rustc --explain E0$i; done'
# Files as `cat`, `cat -n`, `head` and `nl` show them.
keep 8 cat-rust bash -c "find '$crates' -name '*.rs' | every 30 cat"
keep 8 cat-python bash -c "find '$python' /usr/lib/google-cloud-sdk -name '*.py' | every 97 cat -n"
keep 6 cat-js bash -c "find '$node' /usr/share/javascript -name '*.js' ! -name '*.min.js' | every 3 cat"
keep 4 cat-docs bash -c "find '$crates' '$node' /usr/share/doc '$here/docs' -name '*.md' -o -name '*.txt' -o -name '*.rst' | every 3 cat"
keep 4 cat-config bash -c "find '$crates' '$node' '$python' /usr/lib/google-cloud-sdk -name '*.toml' -o -name '*.json' -o -name '*.yml' -o -name '*.yaml' | every 11 cat"
keep 2 cat-perl bash -c 'find /usr/share/perl* -name "*.pm" | every 3 head -200'
keep 3 cat-c bash -c "find '$crates' /usr/include -name '*.h' -o -name '*.c' | every 30 nl"
keep 2 cat-shell bash -c 'find /usr/share /usr/lib/git-core -name "*.sh" -o -name "*.bash" -o -name "_*" | every 5 cat'
keep 2 cat-html bash -c 'find /usr/share/doc -name "*.html" -o -name "*.xml" | every 9 cat'
du -sb "$out" | awk '{ printf "%.0f MB\n", $1 / 1000000 }'

manager=${CODEX_MANAGER:-$PWD/target/dist/codex-manager}
[ -n "${CODEX_MANAGER:-}" ] || cargo build --profile dist --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CODEX_HOME=$work/home CODEX_MANAGER_HOME=$work/manager
# One conversation, in which each message has 64 KB of an output.
python3 - "$out" "$work" <<'END'
import json, os, sys
out, work = sys.argv[1:]
folder = f"{work}/home/sessions/2026/10/01"
os.makedirs(folder)
ident = "01a10000-0000-7ef3-b0ee-5caab8d3b455"
head = {"timestamp": "2026-10-01T06:00:00.000Z"}
with open(f"{folder}/rollout-2026-10-01T06-00-00-{ident}.jsonl", "w") as rollout:
    meta = {"id": ident, "timestamp": head["timestamp"], "cwd": "/code", "source": "cli"}
    rollout.write(json.dumps({**head, "type": "session_meta", "payload": meta}) + "\n")
    for name in sorted(os.listdir(out)):
        with open(f"{out}/{name}", errors="replace", newline="\n") as file:
            while lines := file.readlines(65_536):
                text = f"{name}\n" + "".join(lines)
                content = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
                rollout.write(json.dumps({**head, "type": "response_item", "payload": content}) + "\n")
END
"$manager" export 01a1 --no-redact >"$work/kept" && "$manager" export 01a1 >"$work/redacted"
diff -a "$work/kept" "$work/redacted" | grep -a '^[<>]' >"$out.finds"
echo "$(grep -ac '^<' "$out.finds") lines with finds"
