"""The Prometheus API: against a real server, and against one that misbehaves."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import capacity
from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics
from capacity.load import prom_api
from capacity.load.prom_api import Range, chunks
from capacity.load.prom_questions import Load, expected_load, lies_on
from capacity.load.prom_server import connected
from capacity.observe.names import one_cluster
from tests.load.conftest import POINTS, START, STEP, Reply, Seen, misbehaving, written
from tests.prometheus_server import serving

END = START + STEP * (POINTS - 1)
QUICK = (0.01, 0.01)
SECRET = "hunter2-is-planted"
Sample = tuple[str, str | None, int, float]


def told(metrics: Metrics) -> list[Sample]:
    """Metric, node, time in ms and value of every sample, sorted."""
    rows = metrics.samples.join(metrics.series, on="series").select(
        "metric", "node", pl.col("time").dt.epoch("ms"), "value"
    )
    return sorted(rows.rows())


def held(prefix: str) -> list[Sample]:
    return sorted(
        (text.split("{")[0], text.partition('node="')[2].split('"')[0] or None, at, value)
        for text, times, values in written()
        if text.startswith(prefix)
        for at, value in zip(times, values, strict=True)
    )


def answer(points: int = 3, start: int = START, name: str = "up", **more: object) -> bytes:
    values = [[(start + STEP * i) / 1000, str(i)] for i in range(points)]
    result = [{"metric": {"__name__": name, "node": "a"}, "values": values}]
    data = {"resultType": "matrix", "result": result if points else []}
    return json.dumps({"status": "success", "data": data, **more}).encode()


def names(*found: str) -> bytes:
    return json.dumps({"status": "success", "data": list(found)}).encode()


def well(seen: Seen) -> Reply:
    """A server that is well: metric up with three samples."""
    if seen.path.endswith("/values"):
        return Reply(names("up"))
    if seen.path.endswith("/query_range"):
        return Reply(answer())
    return Reply(b'{"status":"success","data":{"resultType":"vector","result":[]}}')


def ask(url: str, **more: object) -> Metrics:
    given = {"metrics": ["up"], "start": START, "end": START + 2 * STEP, "step": 15, "waits": QUICK}
    return prom_api.fetch(url, **(given | more))  # type: ignore[arg-type]


# A real server


@pytest.mark.prometheus
def test_more_points_than_one_request_may_have_come_sample_for_sample(prometheus: str) -> None:
    made = capacity.read(
        prometheus, metrics=["cilium_.*"], start=START / 1000, end=END / 1000, step=15
    )
    wanted = held("cilium_")
    assert len(wanted) > 3 * prom_api.MOST_POINTS
    assert told(made) == wanted
    assert made.sources.row(0)[2:5] == (len(wanted), len(wanted), 0)


@pytest.mark.prometheus
@pytest.mark.parametrize("points", [1_000, 4_000, 6_000, 11_000])
def test_edges_of_chunks_neither_repeat_nor_lose_samples(prometheus: str, points: int) -> None:
    made = prom_api.fetch(
        prometheus, metrics=["cilium_endpoint", "cilium_bpf_map_pressure"],
        start=START, end=END, step=15, chunk_points=points,
    )  # fmt: skip
    assert told(made) == sorted(held("cilium_endpoint") + held("cilium_bpf"))


@pytest.mark.prometheus
@pytest.mark.parametrize("shift", [0, 1, STEP // 2])
def test_it_is_known_where_samples_lie_on_the_times_asked_for(prometheus: str, shift: int) -> None:
    span = Range(START + shift, START + shift + 40 * STEP, STEP)
    with connected(prometheus, None, QUICK) as server:
        load = expected_load(server, ["cilium_endpoint"], "", span)
        assert lies_on(server, load, "", span) is (shift == 0)
        assert not lies_on(server, Load({}, 0.0), "", span)


@pytest.mark.prometheus
def test_a_vanished_target_does_not_live_on_for_five_minutes(prometheus: str) -> None:
    made = prom_api.fetch(prometheus, metrics=["cilium_endpoint"], start=START, end=END, step=60)
    # The last of 100 samples, 15 s apart, is 1,485 s after the first: the point at 1,500 s has it
    assert [(at - START) // 1000 for _, _, at, _ in told(made)] == list(range(0, 1_501, 60))


@pytest.mark.prometheus
def test_labels_come_as_they_were_written(prometheus: str) -> None:
    made = prom_api.fetch(
        prometheus, metrics=["cilium_drop_count_total"], start=START, end=START, step=15,
        cluster="lab",
    )  # fmt: skip
    row = made.series.row(0, named=True)
    assert row["cluster"] == "lab"
    assert row["node"] == "a"
    assert json.loads(row["labels"]) == {"reason": 'say "no"'}


@pytest.mark.prometheus
def test_without_names_buckets_and_other_peoples_metrics_are_not_asked_for(prometheus: str) -> None:
    made = capacity.read(prometheus, start=START / 1000, end=START / 1000 + 150)
    assert set(made.series["metric"]) == {
        "cilium_bpf_map_pressure", "cilium_drop_count_total", "cilium_endpoint",
    }  # fmt: skip


@pytest.mark.prometheus
def test_matchers_narrow_every_query(prometheus: str) -> None:
    made = prom_api.fetch(
        prometheus, metrics=["cilium_.*"], matchers='node="b"', start=START, end=END, step=600
    )
    assert made.series["node"].to_list() == ["b"]


@pytest.mark.prometheus
def test_an_error_of_prometheus_is_told_in_its_own_words(prometheus: str) -> None:
    with pytest.raises(ExportError, match="Prometheus says: bad_data: .*parse error"):
        prom_api.fetch(prometheus, metrics=["up"], matchers="a=", start=START, end=START, step=15)


@pytest.mark.prometheus
def test_a_path_that_is_no_api_is_told(prometheus: str) -> None:
    with pytest.raises(ExportError, match="HTTP 404, no Prometheus API there; give the base URL"):
        prom_api.fetch(f"{prometheus}/grafana", metrics=["up"], start=START, end=START, step=15)


@pytest.mark.prometheus
def test_progress_ends_with_all_requests_done(prometheus: str) -> None:
    steps: list[tuple[int, int]] = []
    prom_api.fetch(
        prometheus, metrics=["cilium_endpoint"], start=START, end=END, step=15, chunk_points=5_000,
        remote_read=False, progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.prometheus
def test_many_samples_to_come_are_warned_of(
    prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prom_api, "MANY_SAMPLES", 1_000)
    with pytest.warns(UserWarning, match="about 24,002 samples are to be expected"):
        prom_api.fetch(
            prometheus, metrics=["cilium_bpf_map_pressure"], start=START, end=END, step=15
        )


# Ranges


@given(
    st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 999), st.integers(1, 50),
    st.none() | st.integers(1, 10**4),
)  # fmt: skip
def test_chunks_hold_every_point_once(
    start: int, length: int, step: int, points: int, within: int | None
) -> None:
    span = Range(start, start + length, step)
    parts = list(chunks(span, points, within))
    assert within is None or all(p.start // within == p.end // within for p in parts)
    told = [at for part in parts for at in range(part.start, part.end + 1, part.step)]
    assert told == list(range(start, start + length + 1, step))
    assert all(part.points <= points for part in parts)


@given(st.integers(1, 400 * 86_400))
def test_the_default_step_gives_few_points_and_is_a_multiple_of_15_s(seconds: int) -> None:
    step = prom_api.default_step(seconds)
    assert step % 15 == 0
    assert Range(0, seconds * 1000, step * 1000).points <= 2_000


def test_more_points_a_request_than_prometheus_allows_are_refused() -> None:
    with pytest.raises(SettingsError, match="chunk_points: 11001 is not within 1 … 11000"):
        prom_api.fetch("http://127.0.0.1:1", chunk_points=11_001)


# A server that misbehaves


def test_a_busy_server_is_asked_again() -> None:
    statuses = [503, 503, 429]

    def busy(seen: Seen) -> Reply:
        if seen.path.endswith("query_range") and statuses:
            return Reply(b"busy", statuses.pop())
        return well(seen)

    with misbehaving(busy) as (url, _):
        made = ask(url, waits=(0.01, 0.01, 0.01))
    assert made.samples["value"].to_list() == [0.0, 1.0, 2.0]


def test_a_server_that_stays_down_is_one_line_with_what_to_do() -> None:
    down = b'{"status":"error","errorType":"unavailable","error":"query queue is full"}'
    with misbehaving(lambda seen: Reply(down, 503)) as (url, seen):
        with pytest.raises(ExportError) as error:
            ask(url)
        assert str(error.value) == (
            f"{url}: HTTP 503: unavailable: query queue is full; is the server up, and the URL "
            "right? Try again later, or ask for less at a time"
        )
        assert len(seen) == 1 + len(QUICK)


def test_retry_after_is_waited_for() -> None:
    moments: list[float] = []

    def busy(seen: Seen) -> Reply:
        if not seen.path.endswith("query_range"):
            return well(seen)
        moments.append(time.monotonic())
        return Reply(b"", 429, {"Retry-After": "1"}) if len(moments) == 1 else well(seen)

    with misbehaving(busy) as (url, _):
        ask(url)
    assert moments[1] - moments[0] >= 1.0


@pytest.mark.parametrize("count", ["0", "0.5", "-1", "+Inf", "NaN"])
def test_a_count_that_no_server_can_mean_is_no_estimate_and_no_error(count: str) -> None:
    told = f'{{"metric":{{"__name__":"up"}},"value":[{START / 1000},"{count}"]}}'

    def strange(seen: Seen) -> Reply:
        if not seen.path.endswith("/query"):
            return well(seen)
        body = f'{{"status":"success","data":{{"resultType":"vector","result":[{told}]}}}}'
        return Reply(body.encode())

    with misbehaving(strange) as (url, _):
        assert len(ask(url).samples) == 3


@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for(is_date: bool) -> None:
    # Told now: a date of the collection is passed by when a busy machine comes to it
    wait = email.utils.formatdate(time.time() + 3600, usegmt=True) if is_date else "3600"
    with misbehaving(lambda seen: Reply(b"slow down", 429, {"Retry-After": wait})) as (url, seen):
        with pytest.raises(ExportError, match=r"HTTP 429: slow down, asks to wait 3\d\d\d s"):
            ask(url)
        assert len(seen) == 1


@pytest.mark.parametrize("declared", [True, False])
def test_a_connection_cut_half_way_is_asked_again(declared: bool) -> None:
    cuts = [40, 90]

    def cutting(seen: Seen) -> Reply:
        reply = well(seen)
        if seen.path.endswith("query_range"):
            reply.cut, reply.declared = (cuts.pop() if cuts else None), declared
        return reply

    with misbehaving(cutting) as (url, _):
        assert ask(url).samples.height == 3
    assert not cuts


@pytest.mark.parametrize(
    ("declared", "told"), [(True, "connection failed"), (False, "the answer broke off")]
)
def test_a_connection_that_always_breaks_is_told(declared: bool, told: str) -> None:
    def cutting(seen: Seen) -> Reply:
        reply = well(seen)
        if seen.path.endswith("query_range"):
            reply.cut, reply.declared = 50, declared
        return reply

    with misbehaving(cutting) as (url, _), pytest.raises(ExportError, match=told):
        ask(url)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told_with_where_to_put_them(status: int) -> None:
    with (
        misbehaving(lambda seen: Reply(b"no", status)) as (url, _),
        pytest.raises(ExportError, match=f"HTTP {status}, credentials .*CAPACITY_PROM_TOKEN_FILE"),
    ):
        ask(url)


def test_another_service_is_told_by_what_it_answers() -> None:
    page = Reply(b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with (
        misbehaving(lambda seen: page) as (url, _),
        pytest.raises(ExportError, match="answers text/html, which is no answer of a Prometheus"),
    ):
        ask(url)


def test_too_many_samples_for_the_server_is_told_with_what_to_ask() -> None:
    text = "query processing would load too many samples into memory in query execution"
    body = json.dumps({"status": "error", "errorType": "execution", "error": text}).encode()

    def full(seen: Seen) -> Reply:
        return Reply(body, 422) if seen.path.endswith("query_range") else well(seen)

    with misbehaving(full) as (url, _), pytest.raises(ExportError) as error:
        ask(url)
    assert text in str(error.value)
    assert "ask for a longer step, a shorter range or fewer metrics" in str(error.value)


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ExportError, match=r"http://127\.0\.0\.1:9: connection failed"):
        prom_api.fetch("http://127.0.0.1:9", metrics=["up"], waits=(60,))
    assert time.monotonic() - started < 10


def test_warnings_of_the_server_are_kept() -> None:
    def partial(seen: Seen) -> Reply:
        if seen.path.endswith("query_range"):
            return Reply(answer(warnings=["store b did not answer"]))
        return well(seen)

    with misbehaving(partial) as (url, _):
        made = ask(url)
    assert made.sources["reason"].to_list() == ["server warns: store b did not answer"]
    assert made.sources["refused"].to_list() == [0]


def test_servers_that_know_query_range_only_are_read() -> None:
    def bare(seen: Seen) -> Reply:
        if seen.path.endswith("query_range"):
            return Reply(answer())
        return Reply(b"404 page not found", 404)

    with misbehaving(bare) as (url, seen):
        assert ask(url).samples.height == 3
    assert seen[-1].form["query"] == 'last_over_time({__name__="up"}[15000ms])'


def test_many_series_are_asked_for_in_more_requests() -> None:
    def crowded(seen: Seen) -> Reply:
        if seen.path.endswith("/query") and seen.form["query"].startswith("count by"):
            return Reply(
                b'{"status":"success","data":{"resultType":"vector","result":'
                b'[{"metric":{"__name__":"up"},"value":[1,"1000"]}]}}'
            )
        return well(seen)

    with misbehaving(crowded) as (url, seen):
        ask(url, end=START + 999 * STEP)
    ranges = [one for one in seen if one.path.endswith("query_range")]
    assert len(ranges) == 20  # 1,000 series × 1,000 points, 50,000 samples a request


@pytest.fixture(scope="module")
def two_clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    times, values = [START, START + STEP], [1.0, 2.0]
    texts = (
        'cilium_a{cluster="prod",node="a"}',
        'cilium_a{cluster="staging",node="b"}',
        'cilium_b{cluster="prod",node="a"}',
        'cilium_c{cluster="prod",k8s_cluster="west"}',
        'up{cluster="prod"}',
        "up",
    )
    folder = tmp_path_factory.mktemp("clusters")
    with serving([(text, times, values) for text in texts], folder) as url:
        yield url


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("metrics", "are_asked_for"),
    [
        (["cilium_a", "up"], ["prod"]),
        # The series of `up` without a cluster is of the only one that Cilium's metrics name
        (["cilium_b", "up"], ["prod", None]),
        # Another label may name the cluster
        (["cilium_a", "cilium_c"], ["prod", "staging"]),
    ],
)
def test_one_cluster_is_asked_for_where_that_gives_the_same(
    two_clusters: str, metrics: list[str], are_asked_for: list[str | None]
) -> None:
    given = {"metrics": metrics, "start": START / 1000, "end": (START + STEP) / 1000, "step": 15}
    whole = capacity.read(two_clusters, **given)  # type: ignore[arg-type]
    asked = capacity.read(two_clusters, only_cluster="prod", **given)  # type: ignore[arg-type]
    told = prom_api.fetch(
        two_clusters, metrics=metrics, start=START, end=START + STEP, step=15, cluster="",
        only_cluster="prod",
    )  # fmt: skip
    found = {name or None for name in told.series["cluster"]}
    assert found == set(are_asked_for)
    if "cilium_c" not in metrics:
        one, other = (one_cluster(each, "prod") for each in (whole, asked))
        assert rows_of(one) == rows_of(other)


def rows_of(metrics: Metrics) -> list[tuple[object, ...]]:
    joined = metrics.samples.join(metrics.series, on="series").drop("series")
    return sorted(joined.rows(), key=str)


# Secrets


def everything(url: str, **more: object) -> str:
    """All that a caller can see of a server that refuses every way of asking."""
    shown = []
    for reply in (
        Reply(f"bad {SECRET}".encode(), 503), Reply(f"bad {SECRET}".encode(), 400),
        Reply(b"no", 401), Reply(b"<html>", headers={"Content-Type": SECRET}),
    ):  # fmt: skip
        with misbehaving(lambda seen, reply=reply: reply) as (place, _):
            with pytest.raises(ExportError) as error:
                ask(url.replace("HOST", place.removeprefix("http://")), **more)
            shown += [str(error.value), repr(error.value), repr(error.value.__cause__)]
    with misbehaving(well) as (place, _):
        made = ask(url.replace("HOST", place.removeprefix("http://")), **more)
        shown += [repr(made), str(made.sources.rows()), str(made.series.rows())]
    return "\n".join(shown)


def test_credentials_of_the_url_work_and_are_never_told() -> None:
    with misbehaving(well) as (url, seen):
        ask(url.replace("http://", f"http://me:{SECRET}@") + f"?token={SECRET}&x=1")
    assert seen[0].headers["Authorization"] == "Basic bWU6aHVudGVyMi1pcy1wbGFudGVk"
    assert seen[0].form["token"] == SECRET
    shown = everything(f"http://me:{SECRET}@HOST?token={SECRET}")
    assert "***" in shown
    assert SECRET not in shown
    assert "bWU6" not in shown


@pytest.mark.parametrize("by_file", [True, False])
def test_a_token_of_the_environment_is_sent_and_never_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_file: bool
) -> None:
    if by_file:
        (tmp_path / "token").write_text(SECRET + "\n")
        monkeypatch.setenv("CAPACITY_PROM_TOKEN_FILE", str(tmp_path / "token"))
    else:
        monkeypatch.setenv("CAPACITY_PROM_TOKEN", SECRET)
    with misbehaving(well) as (url, seen):
        ask(url)
    assert {one.headers["Authorization"] for one in seen} == {f"Bearer {SECRET}"}
    assert SECRET not in everything("http://HOST")


def test_user_and_password_file_are_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET + "\n")
    monkeypatch.setenv("CAPACITY_PROM_USER", "me")
    monkeypatch.setenv("CAPACITY_PROM_PASSWORD_FILE", str(tmp_path / "password"))
    with misbehaving(well) as (url, seen):
        ask(url)
    assert seen[0].headers["Authorization"] == "Basic bWU6aHVudGVyMi1pcy1wbGFudGVk"
    assert SECRET not in everything("http://HOST")


def test_a_file_of_headers_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text(f"X-Scope-OrgID: team|other\n\nX-Key: {SECRET}\n")
    monkeypatch.setenv("CAPACITY_PROM_HEADERS_FILE", str(tmp_path / "headers"))
    with misbehaving(well) as (url, seen):
        ask(url)
    assert seen[0].headers["X-Scope-OrgID"] == "team|other"
    assert seen[0].headers["X-Key"] == SECRET
    assert SECRET not in everything("http://HOST")


def test_a_line_that_is_no_header_is_named_without_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "headers").write_text(f"Accept: x\n{SECRET}\n")
    monkeypatch.setenv("CAPACITY_PROM_HEADERS_FILE", str(tmp_path / "headers"))
    with pytest.raises(SettingsError, match="headers:2 is no header; wanted is Name: value") as e:
        ask("http://127.0.0.1:9")
    assert SECRET not in str(e.value)


def test_a_missing_password_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPACITY_PROM_TOKEN_FILE", "/no/such/file")
    with pytest.raises(SettingsError, match="CAPACITY_PROM_TOKEN_FILE: /no/such/file cannot be"):
        ask("http://127.0.0.1:9")


@pytest.mark.parametrize(
    "url",
    [f"ftp://me:{SECRET}@host/x", f"ldap://me:a@b/{SECRET}@host/x", "http://"],
)
def test_other_urls_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(ExportError, match="only http:// and https:// are read") as error:
        capacity.read(url)
    assert SECRET not in str(error.value)
