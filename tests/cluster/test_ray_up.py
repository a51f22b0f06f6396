"""`ray up cluster.yaml` rehearsed: two machines that are network, process and mount namespaces of
this one, each with its own sshd, home and /tmp. What is Google's is exchanged (provider, machine
types, apt, the installation); mounts, environment, token, start and deployment are the file's own.

Needs root, sshd and rsync: `make rehearse`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NETWORK = f"198.18.{os.getpid() % 256}"  # of the block for tests between networks: nobody's own
HOME = "/srv"  # of a node; the repository itself may be anywhere but there and in /tmp
MODEL = "phi4_fast"
DEADLINE_S = 300.0

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(
        not (Path("/usr/sbin/sshd").exists() and shutil.which("rsync") and shutil.which("ip")),
        reason="needs openssh-server, rsync and iproute2",
    ),
    pytest.mark.skipif(ROOT.is_relative_to("/tmp"), reason="nodes do not see this /tmp"),
]

NODE = r"""
set -eu
mount --make-rprivate /
mount --bind "$DIRECTORY/passwd" /etc/passwd
mount --bind "$DIRECTORY/home" /srv
mount --bind "$DIRECTORY/tmp" /tmp
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
ip link set lo up
until ip link show "$LINK" >/dev/null 2>&1; do sleep 0.05; done
ip address add "$ADDRESS/24" dev "$LINK"
ip link set "$LINK" up
ip route add default via "$GATEWAY"
exec /usr/sbin/sshd -D -e -f /srv/.sshd/config
"""

SSHD = f"""
HostKey {HOME}/.sshd/host
AuthorizedKeysFile {HOME}/.sshd/authorized
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


def run(*words: object, **options: Any) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def eventually(what: str, check: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < give_up, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.5)


class Machine:
    """One node-to-be: namespaces that end, with all in them, when their first process does."""

    def __init__(self, name: str, address: str, bridge: str, directory: Path, key: Path) -> None:
        self.address = address
        self.key = key
        self._log = directory / "sshd.log"
        ssh = directory / "home" / ".sshd"
        for folder in (directory / "tmp", ssh):
            folder.mkdir(parents=True)
        (directory / "tmp").chmod(0o1777)
        (directory / "passwd").write_text(
            Path("/etc/passwd").read_text().replace("root:/root:", f"root:{HOME}:")
        )
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "host")
        (ssh / "config").write_text(SSHD)
        shutil.copy(key.with_suffix(".pub"), ssh / "authorized")
        link = f"{bridge}{name[0]}"
        isolate = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*isolate, "bash", "-c", NODE],
                env={
                    "PATH": os.environ["PATH"],
                    "DIRECTORY": str(directory),
                    "LINK": link,
                    "ADDRESS": address,
                    "GATEWAY": f"{NETWORK}.1",
                },
                stdout=log,
                stderr=log,
            )
        run("ip", "link", "add", f"{link}o", "type", "veth", "peer", "name", link)
        eventually("a namespace of its own", self._is_apart)
        run("ip", "link", "set", link, "netns", self._process.pid)
        run("ip", "link", "set", f"{link}o", "master", bridge, "up")

    def shell(self, command: str) -> str:
        """What a login shell there says, as Ray's own commands get one."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        target = [*options, "-o", "LogLevel=ERROR", "-i", str(self.key), f"root@{self.address}"]
        return run("ssh", *target, f". ~/.bashrc; {command}")

    def get(self, url: str, *more: str) -> int:
        """The status that curl sees there."""
        said = self.shell(
            f"curl -s -o /dev/null -w '%{{http_code}}' {' '.join(more)} {url} || true"
        )
        return int(said)

    def processes(self) -> list[str]:
        listed = self.shell("ps -eo args --no-headers")
        return [line for line in listed.splitlines() if "ray" in line or "haproxy" in line]

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def _is_apart(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        space = Path(f"/proc/{self._process.pid}/ns/net").readlink()
        return space != Path("/proc/self/ns/net").readlink()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    directory = tmp_path_factory.mktemp("machines")
    key = directory / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    bridge = f"cap{os.getpid() % 10**6}"
    with ExitStack() as stack:
        run("ip", "link", "add", bridge, "type", "bridge")
        stack.callback(run, "ip", "link", "delete", bridge)
        run("ip", "address", "add", f"{NETWORK}.1/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        made = []
        for number, name in enumerate(("head", "worker"), start=2):
            folder = directory / name
            made.append(Machine(name, f"{NETWORK}.{number}", bridge, folder, key))
            stack.callback(made[-1].end)
        yield made[0], made[1]


class Launcher:
    """The operator's machine: Ray's command line with a home of its own."""

    def __init__(self, directory: Path, head: str, worker: str, key: Path) -> None:
        self.name = f"rehearsal-{os.getpid()}"
        self._file = directory / "cluster.yaml"
        self._file.write_text(json.dumps(rehearsed(self.name, head, worker, key)))
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "HOME": str(directory),
            # Ray's second autoscaler starts no workers for a local provider.
            "RAY_UP_enable_autoscaler_v2": "0",
        }
        self.ray("get-auth-token", "--generate")

    @property
    def token(self) -> str:
        return (self._file.parent / ".ray" / "auth_token").read_text().strip()

    def up(self) -> None:
        self.ray("up", "--yes", "--no-config-cache", self._file)

    def down(self) -> None:
        self.ray("down", "--yes", self._file)

    def ray(self, *words: object) -> str:
        ray = Path(sys.executable).with_name("ray")
        return run(ray, *words, cwd=ROOT, env=self._environment)


def rehearsed(name: str, head: str, worker: str, key: Path) -> dict[str, Any]:
    """The operator's file, with what is Google's exchanged."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    offered = {
        "head": config["available_node_types"]["head"]["resources"],
        "worker": {"CPU": 2, "memory": 4 * 2**30},
    }
    for unneeded in ("available_node_types", "head_node_type", "head_setup_commands"):
        del config[unneeded]
    environment = Path(sys.executable).parents[1]
    install = f"ln -sfn {environment} ~/capyra/.venv"
    setup = [c for c in config["setup_commands"] if "apt-get" not in c]
    setup[setup.index("make -C ~/capyra install")] = install
    for node, resources in offered.items():
        # Ray gives machines of a cloud these; those of a local provider say what they have.
        key_of_commands = f"{node}_start_ray_commands"
        say = f"export RAY_OVERRIDE_RESOURCES='{json.dumps(resources)}'; "
        config[key_of_commands] = [
            say + command.replace("axion.yaml", "demo.yaml") for command in config[key_of_commands]
        ]
    return {
        **config,
        "cluster_name": name,
        "provider": {"type": "local", "head_ip": head, "worker_ips": [worker]},
        "auth": {"ssh_user": "root", "ssh_private_key": str(key)},
        "max_workers": 1,
        "min_workers": 1,
        "setup_commands": setup,
    }


@pytest.fixture(scope="module")
def cluster(
    machines: tuple[Machine, Machine], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launcher]:
    head, worker = machines
    directory = tmp_path_factory.mktemp("operator")
    launcher = Launcher(directory, head.address, worker.address, head.key)
    try:
        launcher.up()
        yield launcher
    finally:
        for left in Path("/tmp/ray").glob(f"cluster-{launcher.name}.*"):
            left.unlink()


def hosts(machine: Machine) -> bool:
    return any(f"ServeReplica:{MODEL}" in process for process in machine.processes())


def ask(machine: Machine) -> dict[str, Any]:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "one two"}]})
    curl = "curl -s -m 60 -H 'content-type: application/json'"
    said = machine.shell(f"{curl} http://127.0.0.1:8082/v1/chat/completions -d '{body}'")
    found: dict[str, Any] = json.loads(said)
    return found


def test_experts_live_on_the_worker(cluster: Launcher, machines: tuple[Machine, Machine]) -> None:
    head, worker = machines
    eventually("the expert is on the worker", lambda: hosts(worker))
    assert not hosts(head)


def test_experts_answer_through_either_node(
    cluster: Launcher, machines: tuple[Machine, Machine]
) -> None:
    for machine in machines:
        eventually(
            f"the gateway on {machine.address} is ready",
            lambda m=machine: m.get("http://127.0.0.1:8082/health/ready") == 200,
        )
        assert ask(machine)["choices"][0]["message"]["content"]


def test_ray_is_closed_without_the_token(
    cluster: Launcher, machines: tuple[Machine, Machine]
) -> None:
    head, worker = machines
    applications = "http://127.0.0.1:8265/api/serve/applications/"
    assert head.get(applications) == 401
    assert head.get(applications, "-H 'authorization: Bearer guess'") == 403
    assert head.get(applications, f"-H 'authorization: Bearer {cluster.token}'") == 200
    assert worker.get(f"http://{head.address}:8265/") == 0  # nobody listens there
    # Nobody joins with another token, either.
    foreign = f"RAY_AUTH_TOKEN=guess ray status --address {head.address}:6379 2>&1 || true"
    assert "uthentication" in worker.shell(foreign)


def test_the_endpoint_stays_on_the_machines(
    cluster: Launcher, machines: tuple[Machine, Machine]
) -> None:
    head, worker = machines
    assert worker.get(f"http://{head.address}:8082/health/live") == 0
    assert head.shell("stat -c %a ~/.ray/auth_token").strip() == "600"
    assert worker.shell("stat -c %a ~/.ray/auth_token").strip() == "600"


def test_a_node_can_be_cleared_for_another_start(
    cluster: Launcher, machines: tuple[Machine, Machine]
) -> None:
    head, worker = machines
    cluster.down()
    eventually("the head is empty", lambda: not head.processes())
    # Google deletes a worker. Here its Ray ends when it misses the head, and leaves its proxy.
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    worker.shell(config["worker_start_ray_commands"][0])
    eventually("the worker is empty", lambda: not worker.processes())
