"""The list of commands in `capacity --help`: by what one wants to do, each on one line."""

from __future__ import annotations

from typing import Any, Final

import click

# What one wants to do → commands, and what each does in few words; others are listed last
SECTIONS: Final = {
    "Plan a cluster": {
        "plan": "what breaks first, at which node count and date, what to set",
        "read": "what is in an export, what was refused, what is missing",
        "shapes": "how large the cluster can get; one or several",
        "scenario": "what if: denser, split, meshed, another version; compared",
        "backtest": "how right forecasts would have been on your history",
        "ledger": "how right those of past reports were",
    },
    "Before a change": {
        "check": "the gate: do policies, services, values overflow anything",
        "upgrade": "what another Cilium version changes, what to do before",
        "drift": "what runs against what was planned",
    },
    "Count exactly": {
        "maps": "what fills every map, how full it is, where it ends",
        "policies": "entries of policy maps, and the rules that make them",
        "services": "entries of load balancer maps, conntrack, SNAT ports",
        "sizes": "dynamic map sizes of a node, and the kernel's bytes",
    },
    "Size": {
        "resources": "requests and limits of workloads",
        "lb": "load-balancing nodes for so many packets",
        "measure": "what this machine's kernel does a second",
    },
    "Regularly, for many": {
        "report": "notebooks as pages, in a folder a run",
        "schedule": "cron, systemd, CronJob, GitHub Actions",
        "fleet": "many clusters, here or on Dask",
        "serve": "look at the reports on localhost",
    },
    "Look up, try out": {
        "facts": "what is known about Cilium, with sources",
        "simulate": "a synthetic cluster whose truth is known",
    },
}

_EXTRA: Final = (
    ". A value is one word: --horizon 1y, not 1 year; quote one that holds spaces, and give an "
    "option again for each of several values"
)


class Sections(click.Group):
    """A group whose help lists its commands by section, and whose usage errors tell what to do."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; of words that are too many tell what they most often are."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if "unexpected extra argument" in error.message:
                raise click.UsageError(error.message + _EXTRA, error.ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections; commands of none come last, in their own words."""
        named = {name for told in SECTIONS.values() for name in told}
        rest = {
            name: self.commands[name].get_short_help_str(60)
            for name in self.list_commands(ctx)
            if name not in named
        }
        for title, told in {**SECTIONS, "Other commands": rest}.items():
            rows = [(name, words) for name, words in told.items() if name in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
