"""The machine's disk: a small Debian with DTrain in it, and the checks to run at the start."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.checks import ROOT

DISK = "disk.img"
KERNEL = "vmlinuz"
INITRD = "initrd.img"
_SUITE = "bookworm"
_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd"),
    *("linux-image-cloud-amd64", "initramfs-tools", "python3", "python3-venv"),
    *("iproute2", "procps", "util-linux", "ca-certificates", "kmod"),
    *("docker.io", "iptables", "apparmor"),
)
_UNIT = """\
[Unit]
Description=The checks
After=basic.target systemd-logind.service dbus.service

[Service]
ExecStart=/opt/dtrain/bin/python /checkout/tests/machine/guest.py
StandardOutput=null
StandardError=null
Delegate=yes

[Install]
WantedBy=multi-user.target
"""
_TESTS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "trustme")
"""What of the extra `test` the tests that run in the machine need."""
_PLACE = "/opt/dtrain"


def make(cache: Path) -> None:
    """Make the disk, and put the kernel that starts from it beside it."""
    cache.mkdir(parents=True, exist_ok=True)
    packages = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:12]
    base, root = cache / f"base-{packages}.tar", cache / "root"
    if not base.exists():
        _say("a small Debian")
        new = base.with_suffix(".new")
        what = ("--variant=minbase", f"--include={','.join(_PACKAGES)}", "--skip=output/dev")
        _run("mmdebstrap", "--quiet", *what, "--format=tar", _SUITE, str(new))
        new.rename(base)
    _say("DTrain in it")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    _run("tar", "-C", str(root), "-xf", str(base))
    (root / "dev").mkdir(exist_ok=True)
    _install(cache, root)
    for name in ("src", "tests", "deploy", "docs", "examples"):
        shutil.copytree(ROOT / name, root / "checkout" / name)
    shutil.copy(ROOT / "pyproject.toml", root / "checkout")
    units = root / "etc/systemd/system"
    (units / "checks.service").write_text(_UNIT)
    wanted = units / "multi-user.target.wants/checks.service"
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to("/etc/systemd/system/checks.service")
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (root / "etc/hostname").write_text("machine\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost machine\n")
    shutil.copy(next(root.glob("boot/vmlinuz-*")), cache / KERNEL)
    shutil.copy(next(root.glob("boot/initrd.img-*")), cache / INITRD)
    _say("its disk")
    (cache / DISK).unlink(missing_ok=True)
    _run("mkfs.ext4", "-q", "-d", str(root), str(cache / DISK), "6G")
    shutil.rmtree(root)


def _install(cache: Path, root: Path) -> None:
    """As docs/operating.md says, from what a checkout builds; pip asks the network from here."""
    wheels = cache / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir")
    _run(*build, str(wheels), str(ROOT), str(ROOT / "frontend"))
    for place in ("/etc/resolv.conf", "/etc/pip.conf", os.environ.get("PIP_CERT", "")):
        if place and Path(place).is_file():
            copy = root / place.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, copy)
    shutil.copytree(wheels, root / "wheels")
    server, pages = (next(wheels.glob(f"{name}-*.whl")).name for name in ("dtrain", "dtrain_ui"))
    _run("chroot", str(root), "python3", "-m", "venv", _PLACE)
    pip = ("chroot", str(root), f"{_PLACE}/bin/pip", "install", "--quiet")
    _run(*pip, f"/wheels/{server}[server]", f"/wheels/{pages}", *_TESTS)


def _say(what: str) -> None:
    print(f"Making {what} …", flush=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
