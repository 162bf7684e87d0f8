"""Tables → plotly figures: no maths beyond reshaping, no I/O. plotly is imported only here.

A title says the finding and is made from the same frames as the tables.
"""

from capacity.charts.backtest import backtest
from capacity.charts.composition import policies, services
from capacity.charts.decomposition import decomposition
from capacity.charts.fleet import fleet_fill, fleet_first, fleet_meshes
from capacity.charts.maps import fullest
from capacity.charts.plan import breaks_first, fill, growth, map_memory, memory
from capacity.charts.scenarios import scenario_first, scenario_limits
from capacity.charts.tornado import tornado
from capacity.charts.upgrade import upgrade
from capacity.charts.what_if import what_if

__all__ = [
    "backtest", "breaks_first", "decomposition", "fill", "fleet_fill", "fleet_first",
    "fleet_meshes", "fullest", "growth", "map_memory", "memory", "policies", "scenario_first",
    "scenario_limits", "services", "tornado", "upgrade", "what_if",
]  # fmt: skip
