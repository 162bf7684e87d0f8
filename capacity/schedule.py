"""The weekly report as a unit of what runs things regularly: cron, systemd, GitHub Actions.

Each keeps some runs, holds the report's own lock, and passes its exit code on: 1 is a plan that is
short and is no failure of the unit. The CronJob of
Kubernetes is a manifest that does the same in a pod.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Any, Final

import yaml

from capacity.errors import SettingsError
from capacity.manifests import cronjob
from capacity.telling import without_secrets

# When it runs → as cron writes it, as systemd does
TIMES: Final = {
    "weekly": ("0 6 * * 1", "Mon 06:00"),
    "daily": ("0 6 * * *", "06:00"),
    "monthly": ("0 6 1 * *", "*-*-01 06:00"),
}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NAME: Final = "cilium-capacity"
# Option → why a CronJob does not take it
_POD: Final = {
    "out": "--out: the pod writes to its claim; leave it out",
    "inventory": "--inventory: the pod reads the API server; leave it out",
    "metrics": "--metrics: no collector sees the pod's files; name --pushgateway URL",
    "token_file": f"--token-file: put the token into Secret {cronjob.SECRET}, key token",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What to run and when: the words of the command after `capacity`, and files of credentials."""

    words: tuple[str, ...]
    every: str = "weekly"
    environment: Mapping[str, str] | None = None


def report_words(
    source: str,
    out: str,
    *,
    keep: int,
    name: str | None = None,
    metrics: str | None = None,
    more: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Give the words of the report's command.

    Raises
    ------
    SettingsError
        If the source holds credentials, which would stand in the unit.
    """
    _refuse_credentials(
        source,
        "put them into a file that CAPACITY_PROM_PASSWORD_FILE or ..._TOKEN_FILE names",
    )
    words = ["report", "all", source, "--out", out, *kept_words(keep, name)]
    words += ["--metrics", metrics] if metrics else []
    return (*words, "--plotly", "site", *more)


def kept_words(keep: int, name: str | None) -> list[str]:
    """Give the words that keep some runs and wait for another one, which every unit has."""
    return ["--keep", str(keep), "--wait", "1h", *(["--name", name] if name else [])]


def kubernetes_job(
    source: str, unit: Unit, *, given: Mapping[str, Any], pushgateway: str | None = None
) -> dict[str, str]:
    """Give the CronJob; folder, inventory, token and metrics are those of its pod.

    Parameters
    ----------
    source
        URL of the Prometheus, as the pod reaches it.
    unit
        Words after those of the pod, and when.
    given
        Options that a pod has no use for, by name; None where they were not given.
    pushgateway
        URL to push the metrics to.

    Raises
    ------
    SettingsError
        If the source is no URL or holds credentials, or an option was given that the pod ignores.
    """
    faults = [_POD[name] for name, value in given.items() if value]
    if not source.startswith(("http://", "https://")):
        faults.append(f"{source}: a pod does not see it; name the URL of a Prometheus")
    if faults:
        raise SettingsError("; ".join(faults))
    for url in filter(None, (source, pushgateway)):
        _refuse_credentials(url, f"put the token into Secret {cronjob.SECRET}, key token")
    for word in (*unit.words, source, pushgateway or ""):
        if _CONTROL.search(word):
            raise SettingsError(f"{word!r}: a control character cannot stand in a CronJob")
    job = cronjob.Job(source, unit.words, TIMES[unit.every][0], pushgateway)
    return {"weekly-report.yaml": cronjob.manifest(job)}


def _refuse_credentials(url: str, instead: str) -> None:
    if without_secrets(url).split("?")[0] != url.split("?")[0]:
        raise SettingsError(
            f"{without_secrets(url)}: credentials in a URL would stand in the unit; {instead}"
        )


def units(unit: Unit, kind: str) -> dict[str, str]:
    """Give the files of a kind, name to text.

    Raises
    ------
    SettingsError
        If a word holds what the format cannot, such as a line break.
    """
    for word in (*unit.words, *(unit.environment or {}).values()):
        if _CONTROL.search(word):
            raise SettingsError(f"{word!r}: a control character cannot stand in a {kind} unit")
        if kind == "github" and "${{" in word:
            raise SettingsError(f"{word!r}: GitHub would evaluate ${{{{ }}}}")
    return KINDS[kind](unit)


def _cron(unit: Unit) -> dict[str, str]:
    # In a crontab a percent sign ends the command, and nothing but a backslash hides it
    line = f"{TIMES[unit.every][0]} {_command(unit)}".replace("%", r"\%")
    return {f"{_NAME}.cron": line + "\n"}


def _command(unit: Unit) -> str:
    variables = [f"{k}={shlex.quote(v)}" for k, v in sorted((unit.environment or {}).items())]
    return " ".join([*variables, shlex.join(("capacity", *unit.words))])


def _systemd(unit: Unit) -> dict[str, str]:
    variables = "".join(
        f"Environment={_quoted(f'{k}={v}')}\n" for k, v in sorted((unit.environment or {}).items())
    )
    command = " ".join(map(_systemd_word, unit.words))
    given = dict(zip(unit.words, unit.words[1:], strict=False))
    folder, metrics = given["--out"], given.get("--metrics")
    read = (unit.words[2], given.get("--inventory"), *(unit.environment or {}).values())
    _refuse_relative((folder, metrics, *read))
    places = [folder, *([str(PurePath(metrics).parent)] if metrics else [])]
    writable = " ".join(map(_quoted, places))
    service = (
        "[Unit]\nDescription=Capacity report of Cilium\nWants=network-online.target\n"
        "After=network-online.target\n\n[Service]\nType=oneshot\n"
        f"ExecStart=/usr/bin/env capacity {command}\n{variables}"
        "# 1: something runs short; the report says what\nSuccessExitStatus=1\n"
        "TimeoutStartSec=2h\nNice=10\nNoNewPrivileges=true\nPrivateTmp=true\n"
        f"ProtectSystem=strict\nReadWritePaths={writable}\n"
    )
    timer = (
        "[Unit]\nDescription=Capacity report of Cilium\n\n[Timer]\n"
        f"OnCalendar={TIMES[unit.every][1]}\nPersistent=true\nRandomizedDelaySec=10m\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    return {f"{_NAME}.service": service, f"{_NAME}.timer": timer}


def _refuse_relative(places: Iterable[str | None]) -> None:
    """Refuse paths that mean another place in a service, or none that it may write to."""
    paths = [place for place in places if place and "://" not in place]
    relative = [path for path in paths if not PurePosixPath(path).is_absolute()]
    if relative:
        raise SettingsError(
            f"{', '.join(relative)}: a service runs in /, so that its paths must be absolute; "
            f"write for example /srv/{PurePosixPath(relative[-1]).name}"
        )


def _systemd_word(word: str) -> str:
    """Quote a word of a command for systemd, which reads variables there."""
    return _quoted(word).replace("$", "$$")


def _quoted(word: str) -> str:
    """Quote a word for systemd, which reads escapes and specifiers of its own."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{safe}"'


def _github(unit: Unit) -> dict[str, str]:
    run = (
        f"code=0; {shlex.join(('capacity', *unit.words))} || code=$?\n"
        f"cat {shlex.quote(unit.words[unit.words.index('--out') + 1])}/*/*/summary.md "
        '>> "$GITHUB_STEP_SUMMARY"\n'
        "# 1: something runs short; the summary says what\n"
        'test "$code" -le 1\n'
    )
    steps: list[dict[str, Any]] = [
        {"uses": "actions/checkout@v4"},
        {"uses": "actions/setup-python@v5", "with": {"python-version": "3.12"}},
        {"run": "pip install 'cilium-capacity[report]'"},
        {"uses": "actions/cache@v4", "with": {
            "path": unit.words[unit.words.index("--out") + 1],
            "key": f"{_NAME}-${{{{ github.run_id }}}}", "restore-keys": f"{_NAME}-",
        }},
        {"run": run, "env": dict(sorted((unit.environment or {}).items()))},
        {"uses": "actions/upload-artifact@v4", "if": "always()",
         "with": {"name": "capacity", "path": unit.words[unit.words.index("--out") + 1]}},
    ]  # fmt: skip
    workflow = {
        "name": "Capacity of Cilium",
        "on": {"schedule": [{"cron": TIMES[unit.every][0]}], "workflow_dispatch": None},
        "permissions": {"contents": "read"},
        "concurrency": {"group": _NAME, "cancel-in-progress": False},
        "jobs": {"report": {"runs-on": "ubuntu-latest", "timeout-minutes": 120, "steps": steps}},
    }
    return {f"{_NAME}.yml": yaml.safe_dump(workflow, sort_keys=False, width=100)}


KINDS: Final[dict[str, Callable[[Unit], dict[str, str]]]] = {
    "cron": _cron,
    "systemd": _systemd,
    "github": _github,
}
