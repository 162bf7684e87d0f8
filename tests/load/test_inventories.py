"""Which files are read, what is refused and why, and the tables that come of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import ExportError
from capacity.export import told_once
from capacity.inventory import Inventory
from capacity.load import documents, inventories, read_any
from capacity.load.documents import Found, parse
from capacity.load.inventories import read_inventory
from capacity.load.inventory_tables import tables_of

POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {name}
  namespace: shop
spec:
  podSelector: {{}}
"""


def policy(name: str = "web") -> str:
    return POLICY.format(name=name)


def put(folder: Path, **files: str) -> Path:
    """Write files; `__` in a name is a folder, `_yaml` at its end the ending."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def reasons(read: Inventory) -> dict[str, str]:
    told = read.sources.drop_nulls("reason")
    return {Path(name).name: why for name, why in told.select("source", "reason").iter_rows()}


def test_a_folder_is_read_in_the_order_of_names_without_hidden_folders(tmp_path: Path) -> None:
    put(tmp_path, b_yaml=policy("b"), a__z_yaml=policy("az"), a_yaml=policy("a"))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text(policy("hidden"))
    (tmp_path / ".y.yaml").write_text(policy("hidden-too"))
    (tmp_path / "notes.md").write_text("kind: Pod")
    read = read_inventory(tmp_path)

    assert read.policies["policy"].to_list() == ["a", "az", "b"]
    assert [Path(name).name for name in read.sources["source"]] == ["z.yaml", "a.yaml", "b.yaml"]


def test_cilium_own_chart_in_a_tree_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, charts__cilium__values_yaml="bpf: {policyMapMax: 16384}", app_yaml=policy())
    assert read_inventory(tmp_path).options.is_empty()


def test_globs_and_several_sources_read_each_file_once(tmp_path: Path) -> None:
    put(tmp_path, a_yaml=policy("a"), b_yaml=policy("b"), c__d_yaml=policy("d"))
    once = read_inventory([tmp_path / "a.yaml", f"{tmp_path}/*.yaml", f"{tmp_path}/**/d.yaml"])

    assert once.policies["policy"].to_list() == ["a", "b", "d"]
    assert len(once.sources) == 3


def test_gzip_and_the_text_of_powershell_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml.gz").write_bytes(gzip.compress(policy("a").encode()))
    (tmp_path / "b.yaml").write_bytes(policy("b").encode("utf-16"))
    (tmp_path / "c.json").write_bytes(
        b"\xef\xbb\xbf" + json.dumps(yaml.safe_load(policy("c"))).encode()
    )
    (tmp_path / "noend").write_text(policy("d"))
    read = read_inventory([tmp_path / name for name in ("a.yaml.gz", "b.yaml", "c.json", "noend")])

    assert read.policies["policy"].to_list() == ["a", "b", "c", "d"]


def test_many_sources_are_named_in_part(tmp_path: Path) -> None:
    put(tmp_path, **{f"f{i}_yaml": "kind: Job\napiVersion: batch/v1" for i in range(9)})
    files = sorted(tmp_path.glob("*.yaml"))
    read = read_inventory(files, required=False)

    assert read.sources["source"][-1].endswith("f4.yaml, and 4 more")
    assert read.sources["reason"][-1] == "9 objects of kinds Job are not used"


def test_a_source_that_is_not_there_is_an_error_without_secrets(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="gone: no such file or folder"):
        read_inventory(tmp_path / "gone")
    with pytest.raises(ExportError) as caught:
        read_inventory("https://me:secret@host/api?token=x")
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_nothing_of_an_inventory_is_an_error_that_says_what_is_wanted(tmp_path: Path) -> None:
    put(tmp_path, a_yaml="a: [1", b_yaml="hello: world")
    with pytest.raises(
        ExportError, match=r"no inventory in 2 files .*a\.yaml: YAML is broken.*kubectl get nodes"
    ):
        read_inventory(tmp_path)


def test_an_inventory_that_is_not_required_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "x.prom").write_text("up 1\n")
    (tmp_path / "x.csv").write_text("time,up\n")
    (tmp_path / "x.txt").write_text("up 1\n")
    (tmp_path / "answer.json").write_text(
        '{\n "status": "success", "data": {"resultType": "matrix"}}'
    )
    read = read_inventory(tmp_path, required=False)

    assert read.sources.is_empty()
    assert all(getattr(read, name).is_empty() for name in read.unknown)
    assert read_inventory(tmp_path / "x.prom", required=False).sources.is_empty()


def test_broken_yaml_names_line_and_column_and_the_rest_is_used(tmp_path: Path) -> None:
    put(tmp_path, bad_yaml=f"{policy('first')}---\na: [1\nb: 2\n", good_yaml=policy("good"))
    read = read_inventory(tmp_path)

    assert read.policies["policy"].to_list() == ["first", "good"]
    assert reasons(read)["bad.yaml"] == (
        "YAML is broken at line 10, column 2: did not find expected ',' or ']'; "
        "what stands before it is used: 1 documents"
    )
    assert read.sources.row(0)[2:5] == (2, 1, 1)


def test_json_that_breaks_off_names_the_offset(tmp_path: Path) -> None:
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod"}] * 5})
    put(tmp_path, cut_json=whole[:100], good_yaml=policy())
    read = read_inventory(tmp_path)

    assert len(read.policies) == 1
    assert reasons(read)["cut.json"].startswith(
        "JSON breaks off at offset 100 (line 1, column 101)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "kind: NetworkPolicy\nmetadata:\n  name: {{ .Release.Name }}\n",
        "{{- if .Values.x }}\nkind: NetworkPolicy\n{{- end }}\n",
    ],
)
def test_a_helm_template_is_named_and_not_fatal(tmp_path: Path, text: str) -> None:
    put(tmp_path, template_yaml=text, good_yaml=policy())
    read = read_inventory(tmp_path)

    assert len(read.policies) == 1
    assert "a Helm template ('{{' in line" in reasons(read)["template.yaml"]
    assert read.sources["refused"].to_list() == [0, 1]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + last] * 10)}]\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "line 6, column 26: aliases repeat more than 1,000,000 nodes"),
        ("a: &a [1, *a]", "alias *a comes before its anchor"),
        ("a: *b", "alias *b comes before its anchor"),
        ("[" * 100_000, "01: nested more than 500 deep; nothing after it is read"),
        ("- " * 100_000, "nested more than 500 deep"),
        ("a: !x y\nb: " + "[" * 100_000, "tag !x is not read"),
        ("? [a]\n: 1\n", "a mapping or list as a key"),
        ("a: !!python/object/apply:os.system [x]\nb: !!python/name:os.system x", "is not read"),
        ("a: !Ref x", "tag !Ref is not read; render the file first"),
    ],
    ids=["bomb", "self", "unknown", "deep flow", "deep block", "deep skip", "key", "python", "tag"],
)
def test_dangerous_yaml_is_refused_at_once(text: str, told: str) -> None:
    refused = parse(text.encode(), is_json=False)
    assert told in refused.faults[0]
    assert refused.values == ()


def test_a_refused_document_does_not_hide_the_next() -> None:
    read = parse(b"a: !Ref x\n---\nb: 1\n", is_json=False)
    assert read.values == ((2, {"b": 1}),)
    assert read.faults == (
        "document 1: line 1, column 4: tag !Ref is not read; render the file first",
    )


def test_merge_keys_and_anchors_are_resolved() -> None:
    text = b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 7}, *a]}\nd: *a\n"
    assert parse(text, is_json=False).values[0][1] == {
        "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 7, "y": 2}, "d": {"x": 1, "y": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("=", "="), ("1_000", "1_000"),
        ("'12'", "12"), ("!!str 12", "12"), ("! 12", "12"), ("!!int 12", 12),
        ("0x1F", 31), ("010", 8), ("0o10", 8), ("1e3", 1000.0), ("-.5", -0.5), ("on", True),
        ("~", None), ("", None), ("NO", False), ("y", "y"), ("1.2.3", "1.2.3"), ("+", "+"),
    ],
)  # fmt: skip
def test_scalars_are_what_kubernetes_takes_them_for(text: str, value: Any) -> None:
    assert parse(f"a: {text}".encode(), is_json=False).values == ((1, {"a": value}),)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc-_./", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=15,
)  # fmt: skip


@given(st.lists(PLAIN, min_size=1, max_size=3), st.booleans())
def test_yaml_that_is_written_reads_back(values: list[Any], flow: bool) -> None:
    text = yaml.safe_dump_all(values, default_flow_style=flow, explicit_start=True)
    read = parse(text.encode(), is_json=False)

    assert read.faults == ()
    wanted = [value for value in values if value is not None]
    assert [value for _, value in read.values] == wanted


@given(PLAIN)
def test_json_is_yaml_too(value: Any) -> None:
    data = b"# a comment\n" + json.dumps(value, ensure_ascii=False).encode()
    assert parse(data, is_json=False).values == (((1, value),) if value is not None else ())


def test_a_file_that_is_too_large_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big.json.gz").write_bytes(gzip.compress(b" " * 100_000))
    put(tmp_path, good_yaml=policy())
    monkeypatch.setattr(documents, "MOST_BYTES", 1000)
    read = read_inventory(tmp_path)

    assert len(read.policies) == 1
    assert reasons(read)["big.json.gz"].startswith("larger than 1000 bytes")


def test_a_damaged_archive_is_refused_by_name(tmp_path: Path) -> None:
    packed = gzip.compress(policy().encode())
    (tmp_path / "cut.yaml.gz").write_bytes(packed[:-10])
    (tmp_path / "odd.yaml.gz").write_bytes(packed[:30] + b"\x00" * 20)
    put(tmp_path, good_yaml=policy())
    told = reasons(read_inventory(tmp_path))

    assert "to its end (Compressed file ended" in told["cut.yaml.gz"]
    assert told["odd.yaml.gz"].startswith("cannot be unpacked to its end")


def test_many_faults_of_one_file_are_told_in_part_and_counted(tmp_path: Path) -> None:
    broken = "---\n".join(
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\n" for _ in range(9)
    )
    read = read_inventory(put(tmp_path, many_yaml=broken, good_yaml=policy()))

    assert reasons(read)["many.yaml"].count("metadata.name is missing") == 5
    assert reasons(read)["many.yaml"].endswith("; and 4 more")
    assert read.sources["refused"].sum() == 9


def test_files_that_nobody_knows_are_listed_as_not_used(tmp_path: Path) -> None:
    read = read_inventory(put(tmp_path, truth_json='{"schema": 1}', good_yaml=policy()))
    assert read.sources.row(1)[1:4] == (None, 0, 0)
    assert reasons(read)["truth.json"].endswith("is not used")


FORMATS = {
    "nodes": "kubernetes", "policy": "kubernetes", "maps": "bpftool",
    "tunnel": "cilium-dbg bpf tunnel list", "pins": "bpftool pins",
}  # fmt: skip
OUTPUTS = {
    "nodes": json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
    "policy": policy(),
    "maps": "25: hash  name cilium_lxc  flags 0x1\n"
    "\tkey 20B  value 48B  max_entries 65535  memlock 5766656B\n",
    "tunnel": "TUNNEL   VALUE\n10.0.1.0   10.200.0.2:0\n",
    "pins": '/sys/fs/bpf/tc/globals/cilium_auth_map {"id":6,"type":"hash","name":"cilium_auth_map",'
    '"flags":1,"bytes_key":12,"bytes_value":8,"max_entries":524288,"bytes_memlock":8389504}\n',
}


@pytest.mark.parametrize("ending", ["", ".out", ".log", ".txt.head", ".zst"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_told_by_what_they_hold_whatever_their_name(
    tmp_path: Path, name: str, ending: str
) -> None:
    data = OUTPUTS[name].encode()
    packed = zstandard.compress(data) if ending == ".zst" else data
    (tmp_path / f"{name}{ending}").write_bytes(packed)
    (told,) = read_inventory(tmp_path, required=False).sources.iter_rows(named=True)
    assert (told["format"], told["read"], told["kept"]) == (FORMATS[name], 1, 1)


@pytest.mark.parametrize(
    "data", [b"up 1\n", b"\x00\x01{", b"", b"some words\n", b'{__name__="up"} 1 1000\n', b"{{ x }}"]
)
def test_files_without_a_known_ending_that_hold_none_are_left_to_the_metrics(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_inventory(tmp_path, required=False).sources.is_empty()


def test_a_file_that_one_reader_knew_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "tunnel.out").write_text(OUTPUTS["tunnel"])
    (tmp_path / "list.json").write_text('[{"name": "cilium_nodes_all_num", "value": 3}]')
    (tmp_path / "both.txt").write_text("some words\n")
    metrics, inventory = read_any(str(tmp_path))
    rows = told_once(metrics.sources, inventory.sources)
    formats = {Path(name).name: kind for name, kind in rows.select("source", "format").iter_rows()}
    assert formats["tunnel.out"] == "cilium-dbg bpf tunnel list"
    assert formats["list.json"] == "cilium_metrics"
    assert rows["source"].is_unique().all()


def test_a_policy_told_twice_counts_once_and_is_noted(tmp_path: Path) -> None:
    later = policy().replace("{}", "{matchLabels: {a: b}}")
    read = read_inventory(put(tmp_path, a_yaml=policy(), b_yaml=later))

    assert len(read.policies) == 1
    assert "matchLabels" in read.policies["object"][0]
    assert "1 policies of the same kind, namespace and name" in reasons(read)[tmp_path.name]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("bpf:\n  policyMapMax: 32768\n", {"bpf-policy-map-max": "32768"}),
        ("bpf: {mapDynamicSizeRatio: 0.0050, preallocateMaps: true, natMax: null}\n",
         {"bpf-map-dynamic-size-ratio": "0.005", "preallocate-bpf-maps": "true"}),
        ("cilium:\n  bpf: {lbMapMax: 100000}\n", {"bpf-lb-map-max": "100000"}),
        ("bpf: {}\nextraConfig:\n  bpf-sock-rev-map-max: '9999'\n",
         {"bpf-sock-rev-map-max": "9999"}),
        ("bpf: {ctTcpMax: '${CT}', natMax: 1000}\n", {"bpf-nat-global-max": "1000"}),
        ("apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: cilium}\n"
         "spec:\n  values:\n    bpf: {policyMapMax: 20000}\n", {"bpf-policy-map-max": "20000"}),
    ],
    ids=["map", "ratio", "subchart", "extraConfig", "variable", "flux"],
)  # fmt: skip
def test_helm_values_are_agent_options(tmp_path: Path, text: str, options: dict[str, str]) -> None:
    read = read_inventory(put(tmp_path, values_yaml=text))
    assert dict(read.options.select("option", "value").iter_rows()) == options


def test_values_of_other_charts_are_not_ours(tmp_path: Path) -> None:
    read = read_inventory(put(tmp_path, values_yaml="operator: {x: 1}\nimage: y", a_yaml=policy()))
    assert read.options.is_empty()


def test_the_running_configuration_wins_over_helm_values(tmp_path: Path) -> None:
    config = yaml.safe_dump({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config"},
        "data": {"bpf-policy-map-max": "16384"},
    })  # fmt: skip
    put(tmp_path, a_yaml=config, values_yaml="bpf: {policyMapMax: 32768}")
    read = read_inventory(tmp_path)

    assert read.option("bpf-policy-map-max") == "16384"
    assert len(read.options) == 1


@settings(max_examples=20)
@given(st.permutations(range(20)))
def test_the_order_of_objects_changes_nothing(order: list[int]) -> None:
    rows = [(f"ns-{i % 3}", f"pod-{i}", "n1", "{}", 1, None, "[]", None) for i in range(20)]
    nodes = [(f"n{i}", None, None, [f"10.0.0.{i}"], 1, None, None, "{}") for i in range(20)]

    def made(numbers: list[int]) -> dict[str, pl.DataFrame]:
        found = Found(40, {"Pod": [rows[i] for i in numbers], "Node": [nodes[i] for i in numbers]})
        return tables_of([("x", found)])[0]

    first, again = made(list(range(20))), made(order)
    assert all(first[name].equals(again[name]) for name in first)


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    put(tmp_path, a_yaml=policy("a"), b_yaml=policy("b"), c_yaml="bpf: {natMax: 5000}")
    first, again = read_inventory(tmp_path), read_inventory(tmp_path)
    assert first.policies.equals(again.policies)
    assert first.options.equals(again.options)
    assert first.sources.equals(again.sources)


def test_readers_are_told_apart_by_the_document_alone() -> None:
    mine = {
        "kubernetes": {"kind": "Pod"},
        "bpftool": [{"bytes_key": 4, "max_entries": 1}],
        "golden case": {"options": {}, "namespaces": [], "pods": []},
        "golden services": {"options": {}, "input": {"services": [], "endpoint_slices": []}},
        "helm values": {"kubeProxyReplacement": True},
    }
    others = {n for n in inventories.INVENTORY_READERS if n.startswith(("cilium-dbg", "bpftool "))}
    assert mine.keys() == inventories.INVENTORY_READERS.keys() - others
    for name, document in mine.items():
        takers = [n for n, r in inventories.INVENTORY_READERS.items() if r.is_mine(document)]
        assert takers == [name]


def test_public_policies_are_read_or_refused_by_name(shared: Path) -> None:
    files = sorted(p for p in (shared / "public" / "policies" / "files").rglob("*") if p.is_file())
    assert files, "no public policies beside this checkout"
    read = read_inventory(files)
    by_file = dict(read.sources.select("source", "refused").iter_rows())

    assert [str(file) for file in files if str(file) not in by_file] == []
    refused = {name for name, count in by_file.items() if count and name.endswith(".yaml")}
    assert {Path(name).name for name in refused} == {
        "client-egress-l7-http-matchheader-secret-port-range.yaml",
        "client-egress-l7-http-port-range.yaml",
        "client-egress-l7-http.yaml",
        "client-egress-l7-tls.yaml",
        "client-egress-node-local-dns.yaml",
        "client-egress-to-fqdns.yaml",
    }
    assert all("{{" in Path(name).read_text() for name in refused)


def test_public_values_tell_options_of_cilium(shared: Path) -> None:
    folder = shared / "public" / "values" / "files"
    files = sorted(p for p in folder.rglob("*.yaml") if "charts" not in p.parts)
    assert files, "no public Helm values beside this checkout"
    read = [read_inventory(file, required=False) for file in files]

    assert sum(not one.options.is_empty() for one in read) >= 14
    assert sum(one.sources["refused"].sum() for one in read) == 0
