"""Settings of the fleet's notebook: where its results are, or FLEET.yaml to plan anew."""

from __future__ import annotations

from dataclasses import dataclass

from capacity.errors import SettingsError
from capacity.setting import setting
from capacity.settings import DEMO


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the notebook `fleet` needs to know.

    Raises
    ------
    SettingsError
        On construction, with all faults in one message.
    """

    source: str = setting(
        DEMO,
        "FLEET.yaml, whose clusters are planned, or a folder that `capacity fleet` wrote: its "
        "newest run is shown. The shipped example of two clusters where left out.",
        argument=True,
    )
    workers: int = setting(2, "Clusters at a time on this machine.", "1")
    scheduler: str | None = setting(None, "Dask scheduler; this machine where left out.")

    def __post_init__(self) -> None:
        faults = [] if self.source else ["source: is empty; name FLEET.yaml or a folder of results"]
        if self.workers < 1:
            faults.append(f"workers: {self.workers} is not 1 or more")
        if faults:
            raise SettingsError("; ".join(faults))
