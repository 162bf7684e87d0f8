"""A Git folder as people keep it: manifests, kustomize, Helm values and templates."""

from __future__ import annotations

from pathlib import Path

from capacity.inventory import Inventory
from capacity.load.inventories import read_inventory

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {{endpointSelector: {{}}}}
"""
TREE = {
    "README.md": "# notes",
    ".github/workflows/ci.yaml": "on: push",
    "base/kustomization.yaml": (
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources: [policies.yaml]\n"
    ),
    "base/policies.yaml": POLICY.format(name="one") + "---\n" + POLICY.format(name="two"),
    "chart/Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
    "chart/templates/policy.yaml": POLICY.format(name="'{{ .Release.Name }}'"),
    "chart/templates/guarded.yaml": "{{- if .on }}\n" + POLICY.format(name="x") + "{{- end }}\n",
    "chart/templates/_helpers.tpl": '{{- define "shop.name" }}x{{ end }}',
    "cluster/cilium-values.yaml": "kubeProxyReplacement: true\nbpf: {policyMapMax: 32768}\n",
    "cluster/broken.yaml": "a: [1\n",
    "cluster/list.yaml": (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {}}\n"
    ),
}  # fmt: skip


def tree(folder: Path) -> Inventory:
    for name, text in TREE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_inventory(folder)


def test_manifests_and_values_beside_templates_are_read(tmp_path: Path) -> None:
    read = tree(tmp_path)

    assert read.policies["policy"].to_list() == ["one", "two"]
    assert read.namespaces["namespace"].to_list() == ["shop"]
    assert read.services["service"].to_list() == ["web"]
    assert read.option("bpf-policy-map-max") == "32768"


def test_templates_are_named_and_counted(tmp_path: Path) -> None:
    told = tree(tmp_path).sources.drop_nulls("reason")
    why = {Path(name).name: text for name, text in told.select("source", "reason").iter_rows()}

    assert "template" in why["policy.yaml"]
    assert "a Helm template ('{{' in line 1)" in why["guarded.yaml"]
    assert "YAML is broken" in why["broken.yaml"]
    assert why[tmp_path.name] == "1 objects of kinds Kustomization are not used"


def test_nothing_of_a_folder_is_lost(tmp_path: Path) -> None:
    read = tree(tmp_path)
    files = {name for name in TREE if name.endswith(".yaml") and not name.startswith(".")}
    named = {str(Path(name).relative_to(tmp_path)) for name in read.sources["source"]} - {"."}

    assert named == files
    assert (read.sources["read"] == read.sources["kept"] + read.sources["refused"]).all()
    # 2 policies, a namespace and a service, values; two templates and a broken file; what is no
    # object of ours is in the last row
    counted = read.sources.filter(read.sources["source"] != str(tmp_path))
    assert counted.select("read", "kept", "refused").sum().row(0) == (8, 5, 3)


def test_every_public_policy_and_value_file_is_accounted_for(shared: Path) -> None:
    for folder in ("policies", "values"):
        files = [
            path
            for path in sorted((shared / "public" / folder / "files").rglob("*"))
            if path.suffix in (".yaml", ".yml", ".json") and path.is_file()
        ]
        assert files, f"no public {folder} beside this checkout"
        read = read_inventory(files, required=False)
        assert {str(file) for file in files} <= set(read.sources["source"])
        rows = read.sources.filter(read.sources["format"].is_not_null())
        assert (rows["read"] == rows["kept"] + rows["refused"]).all()
