from __future__ import annotations

import pytest

from capacity.errors import SettingsError
from capacity.settings import DRIVER_NAMES, PlanSettings, from_mapping
from capacity.tables import DRIVERS


def test_all_faults_come_in_one_message() -> None:
    with pytest.raises(SettingsError) as caught:
        PlanSettings(nodes=(0,), horizon="soon", risk=2.0, memory="lots", set=("pods=1",))
    for name in ("nodes", "horizon", "risk", "memory", "set"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "item", ["services", "services=", "services=-1", "services=nan", "x=1", "=3"]
)
def test_a_driver_that_cannot_be_set_is_refused(item: str) -> None:
    with pytest.raises(SettingsError, match="set"):
        PlanSettings(set=(item,))


def test_a_misspelt_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="horizont"):
        from_mapping(PlanSettings, {"horizont": "90d"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("cilium", 1.2), ("nodes", [1.5]), ("nodes", 3), ("seed", True), ("risk", "0.1")],
)
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        from_mapping(PlanSettings, {name: value})


def test_fixed_drivers_are_numbers_by_name() -> None:
    assert PlanSettings(set=("services=4000", "policies = 10")).fixed_drivers == {
        "services": 4000.0,
        "policies": 10.0,
    }


def test_the_drivers_that_can_be_set_are_the_columns_of_the_table() -> None:
    assert list(DRIVER_NAMES) == [n for n in DRIVERS.schema if n not in ("time", "cluster")]


@pytest.mark.parametrize(
    "item",
    ["", "200nodes", "2027-01-15:200nodes", "2027-01-15:+200", "2027-02-30:+1nodes",
     "2027-01-15:+1pods", "soon:+1nodes", "2027-01-15:+nannodes"],
)  # fmt: skip
def test_an_event_that_cannot_be_read_is_refused(item: str) -> None:
    with pytest.raises(SettingsError, match="event: "):
        PlanSettings(event=(item,))


def test_events_come_in_the_order_of_their_dates() -> None:
    events = PlanSettings(event=("2027-03-01:-2.5services", "2027-01-15:+200 nodes")).events
    assert [(e.date.month, e.amount, e.driver) for e in events] == [
        (1, 200.0, "nodes"), (3, -2.5, "services"),
    ]  # fmt: skip
